"""Holds that end: what becomes of units that were reserved and then neither sold nor given back.

A web process may die between two lanes, a drain between its commit and its word to the gate. Every hold therefore has
a deadline, and the ledger alone says what became of it: the sweeper inserts the order as EXPIRED, the drain inserts it
as an order, the unique nonce lets exactly one of them win, and only then does Redis change.
"""

from __future__ import annotations

import logging

from engine.context import Engine
from engine.fault_points import reach
from engine.gate import outbox, stock
from engine.gate.request_ids import split_request_id
from engine.gate.stock import Hold
from engine.ledger import orders as ledger_orders

HOLDS_PER_SWEEP = 500

logger = logging.getLogger(__name__)


def sweep_holds(engine: Engine, lane: int) -> int:
    """End the lane's overdue holds as the ledger says; how many. Raises GateUnavailable, LedgerUnavailable."""
    due = stock.due_holds(engine.gate, lane, HOLDS_PER_SWEEP)
    # What still waits in the outbox is the drain's to decide: it comes to it as soon as the ledger answers.
    overdue = [hold for hold in due if not _waits_in_outbox(engine, hold)]
    if not overdue:
        return 0
    reach("sweep.before_expiry")
    with engine.ledger.transaction() as connection:
        ended = ledger_orders.expire(connection, sorted({hold.nonce for hold in overdue}))
    reach("sweep.after_expiry")
    for hold in overdue:
        end = ended[hold.nonce]
        # In lanes before an order's last one a hold does not know the request id; the nonce has to do there.
        own = not hold.request_id or end.request_id == hold.request_id
        if not hold.product_ids or (end.status in ("COMPLETED", "CANCELLED") and own):
            stock.settle(engine.gate, lane, [hold.nonce])
        else:
            stock.release(engine.gate, lane, hold.nonce, hold.product_ids)
        logger.warning("an overdue hold in lane %d ended as its order: %s", lane, end.status)
    return len(overdue)


def _waits_in_outbox(engine: Engine, hold: Hold) -> bool:
    if not hold.request_id:
        return False
    return outbox.find(engine.gate, split_request_id(hold.request_id)).fields is not None
