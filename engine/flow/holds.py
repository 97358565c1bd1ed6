"""Holds that end: what becomes of units that were reserved and then neither sold nor given back.

A web process may die between two lanes, a drain between its commit and its word to the gate. Every hold therefore has
a deadline. Past it, no order is accepted on the hold any more: the gate refuses it in the lane where the order would be
submitted, and the sweeper sets the hold aside before it asks. Then the ledger alone says what became of it. If an order
was submitted with it, in whichever lane, the sweeper inserts that as EXPIRED, the drain inserts it as an order, the
unique nonce lets exactly one of them win, and only then does Redis change. If none was, none can come any more, and
nothing is inserted: whoever repeats the request under its idempotency key takes the units anew, and their order has to
find its nonce free. Whatever the sweeper writes carries the lane's built epoch and the hold's deadline: if it sleeps
through a rebuild, which drops all holds, or until the hold was taken anew, neither store listens to it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.fault_points import reach
from engine.gate import outbox, stock
from engine.gate.gate import LaneState
from engine.gate.request_ids import split_request_id
from engine.gate.stock import Hold
from engine.ledger import orders as ledger_orders
from engine.ledger.orders import Held
from engine.ledger.progress import progress_of_lane, require_lanes
from engine.telemetry import metrics
from engine.telemetry.logs import about

HOLDS_PER_SWEEP = 500

logger = logging.getLogger(__name__)


def sweep_holds(engine: Engine, lane: int) -> int:
    """End the lane's overdue holds as the ledger says; how many. Raises GateUnavailable, LedgerUnavailable,
    LaneCountMismatch."""
    claimed = stock.claim_overdue_holds(engine.gate, lane, HOLDS_PER_SWEEP)
    metrics.HOLDS_CLAIMED.inc(len(claimed))
    requests = _submitted_as(engine, claimed)
    # What waits in an outbox is the drain's to decide: it comes to it as soon as the ledger answers.
    overdue = [hold for hold in claimed if requests[hold.nonce] is not None]
    if not overdue:
        return 0
    built_epoch = overdue[0].built_epoch
    reach("sweep.before_expiry")
    with engine.ledger.transaction() as connection:
        require_lanes(connection, engine.gate.lanes)  # with another number, orders wait where we have not looked
        ended = ledger_orders.end_overdue(
            connection,
            lane,
            built_epoch,
            submitted=sorted({hold.nonce for hold in overdue if requests[hold.nonce]}),
            unsubmitted=sorted({hold.nonce for hold in overdue if not requests[hold.nonce]}),
        )
    reach("sweep.after_expiry")
    for hold in overdue:
        end = ended.get(hold.nonce)
        if end is None:
            continue  # the lane was rebuilt since, and the hold with it
        held = Held(lane, built_epoch, hold.deadline_ms)
        if not hold.product_ids or end.has_sold(held, hold.request_id):
            stock.settle(engine.gate, lane, built_epoch, [hold.nonce])
        else:
            stock.release(engine.gate, lane, built_epoch, hold.nonce, hold.product_ids, deadline_ms=hold.deadline_ms)
        metrics.HOLDS_ENDED.labels(end.status).inc()
        with about(lane=lane, request_id=end.request_id or hold.request_id):
            logger.warning("an overdue hold in lane %d ended as its order: %s", lane, end.status)
    return len(ended)


def _submitted_as(engine: Engine, claimed: Sequence[Hold]) -> dict[str, str | None]:
    """By nonce, the request that each hold's order was submitted as, '' if it was not. None while that cannot be known,
    or while it waits in another lane's outbox."""
    requests: dict[str, str | None] = {}
    elsewhere: dict[int, list[str]] = {}
    for hold in claimed:
        if hold.order_lane == hold.lane or hold.order_lane >= engine.gate.lanes:
            # The lane itself has looked into its own outbox; those of lanes of before were drained.
            requests[hold.nonce] = hold.request_id
        else:
            elsewhere.setdefault(hold.order_lane, []).append(hold.nonce)
    for lane, nonces in elsewhere.items():
        try:
            requests |= _submitted_in(engine, lane, nonces)
        except GateUnavailable:
            requests |= dict.fromkeys(nonces)
    return requests


def _submitted_in(engine: Engine, lane: int, nonces: Sequence[str]) -> dict[str, str | None]:
    """As :func:`_submitted_as`, for holds whose orders belong to this lane. Raises GateUnavailable."""
    before = engine.gate.inspect(lane)
    requests: dict[str, str | None] = dict(stock.submitted_request_ids(engine.gate, lane, nonces))
    submitted = [split_request_id(request_id) for request_id in requests.values() if request_id]
    waiting = outbox.find(engine.gate, lane, submitted) if submitted else []
    if not _knew_all(engine, before, engine.gate.inspect(lane)):
        return dict.fromkeys(nonces)
    waits = {str(request) for request, where in zip(submitted, waiting, strict=True) if where.waits}
    return {nonce: None if request_id in waits else request_id for nonce, request_id in requests.items()}


def _knew_all(engine: Engine, before: LaneState, after: LaneState) -> bool:
    """Whether the lane, asked between these two looks at it, had all that the ledger stands on. One that came back, and
    that the guard has not seen yet, may have forgotten an order that a drain still holds; a server that was replaced
    never heard of some."""
    with engine.ledger.read() as connection:
        recorded = progress_of_lane(connection, after.lane)
    return after.ready and after.is_life_of(before) and recorded is not None and recorded.epoch == after.epoch
