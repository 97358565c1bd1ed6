"""Putting the units of cancelled orders back on sale: the gate's half of a cancellation, driven by a follow-up."""

from __future__ import annotations

from collections.abc import Mapping

from engine.context import Engine
from engine.gate import stock
from engine.ledger.orders import Order
from engine.ledger.progress import Returned


def return_stock(engine: Engine, order: Order, built_epochs: Mapping[int, int]) -> list[Returned]:
    """Put an order's units back on sale, once, however often this is repeated; what the ledger has to confirm of that.

    ``built_epochs`` are the lanes' as the ledger had them when it said that the order's units are to be returned.
    Raises GateUnavailable while a lane is not ready; what was done by then is not done again.
    """
    by_lane: dict[int, list[tuple[int, int]]] = {}
    for item in order.items:
        lane = stock.lane_of_product(engine.gate, item.product_id)
        by_lane.setdefault(lane, []).append((item.product_id, item.quantity))
    returned = []
    for lane, quantities in sorted(by_lane.items()):
        answer = stock.put_back(engine.gate, lane, built_epochs.get(lane, 0), order.nonce, quantities)
        if answer is not None:
            returned.append(Returned(lane, *answer))
    return returned
