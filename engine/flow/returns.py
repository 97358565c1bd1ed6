"""Putting the units of cancelled orders back on sale: the gate's half of a cancellation, driven by a follow-up."""

from __future__ import annotations

from collections.abc import Sequence

from engine.context import Engine
from engine.gate import stock
from engine.ledger.orders import Order


def return_stock(engine: Engine, orders: Sequence[Order]) -> None:
    """Put their units back on sale; each order's once, however often this is repeated.

    Raises GateUnavailable while a lane is not ready; what was done by then is not done again.
    """
    for order in orders:
        by_lane: dict[int, list[tuple[int, int]]] = {}
        for item in order.items:
            lane = stock.lane_of_product(engine.gate, item.product_id)
            by_lane.setdefault(lane, []).append((item.product_id, item.quantity))
        for lane, quantities in sorted(by_lane.items()):
            stock.put_back(engine.gate, lane, order.nonce, quantities)
