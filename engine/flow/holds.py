"""Holds that end: what becomes of units that were reserved and then neither sold nor given back.

A web process may die between two lanes, a drain between its commit and its word to the gate. Every hold therefore has
a deadline. Past it, no order is accepted on the hold any more: the gate refuses it in the lane where the order would be
submitted, and the sweeper sets the hold aside before it asks. Then the ledger alone says what became of it. If an order
was submitted with it, the sweeper inserts that as EXPIRED, the drain inserts it as an order, the unique nonce lets
exactly one of them win, and only then does Redis change. If none was, none can come any more, and nothing is inserted:
whoever repeats the request under its idempotency key takes the units anew, and their order has to find its nonce free.
Whatever the sweeper writes carries the lane's built epoch and the hold's deadline: if it sleeps through a rebuild,
which drops all holds, or until the hold was taken anew, neither store listens to it.
"""

from __future__ import annotations

import logging

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.fault_points import reach
from engine.gate import outbox, stock
from engine.gate.request_ids import split_request_id
from engine.gate.stock import Hold
from engine.ledger import orders as ledger_orders
from engine.telemetry import metrics
from engine.telemetry.logs import about

HOLDS_PER_SWEEP = 500

logger = logging.getLogger(__name__)


def sweep_holds(engine: Engine, lane: int) -> int:
    """End the lane's overdue holds as the ledger says; how many. Raises GateUnavailable, LedgerUnavailable."""
    claimed = stock.claim_overdue_holds(engine.gate, lane, HOLDS_PER_SWEEP)
    metrics.HOLDS_CLAIMED.inc(len(claimed))
    # What waits in an outbox is the drain's to decide: it comes to it as soon as the ledger answers.
    overdue = [hold for hold in claimed if not _may_wait_elsewhere(engine, hold)]
    if not overdue:
        return 0
    built_epoch = overdue[0].built_epoch
    reach("sweep.before_expiry")
    with engine.ledger.transaction() as connection:
        ended = ledger_orders.end_overdue(
            connection,
            lane,
            built_epoch,
            submitted=sorted({hold.nonce for hold in overdue if hold.request_id}),
            unsubmitted=sorted({hold.nonce for hold in overdue if not hold.request_id}),
        )
    reach("sweep.after_expiry")
    for hold in overdue:
        end = ended.get(hold.nonce)
        if end is None:
            continue  # the lane was rebuilt since, and the hold with it
        if not hold.product_ids or end.has_sold(lane, built_epoch, hold.request_id):
            stock.settle(engine.gate, lane, built_epoch, [hold.nonce])
        else:
            stock.release(engine.gate, lane, built_epoch, hold.nonce, hold.product_ids, deadline_ms=hold.deadline_ms)
        metrics.HOLDS_ENDED.labels(end.status).inc()
        with about(lane=lane, request_id=end.request_id or hold.request_id):
            logger.warning("an overdue hold in lane %d ended as its order: %s", lane, end.status)
    return len(ended)


def _may_wait_elsewhere(engine: Engine, hold: Hold) -> bool:
    """Whether the order may wait in another lane's outbox; yes, if that cannot be asked now."""
    if hold.order_lane == hold.lane or hold.order_lane >= engine.gate.lanes:
        return False  # the lane itself has looked into its own outbox; of a lane of before, the outbox was drained
    try:
        request_id = stock.submitted_request_id(engine.gate, hold.order_lane, hold.nonce)
        if not request_id:
            return False
        (found,) = outbox.find(engine.gate, hold.order_lane, [split_request_id(request_id)])
    except GateUnavailable:
        return True
    return found.waits or found.epoch is None
