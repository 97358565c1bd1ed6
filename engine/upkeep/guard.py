"""The guard: notices that Redis restarted, failed over or forgot, and decides between approving and rebuilding.

A lane decides only on the server whose replication id was approved for it. A restart and a promotion both change that
id, so the gate closes by itself, at that instant, without anybody noticing first. What is left for the guard is to look
at what the lane has counted (decisions, returns of cancelled orders) and at the versions of what it offers. Behind the
ledger means that something was lost which the ledger relies on, and the lane is rebuilt; not behind means that nothing
was, and the lane goes on. Either way it goes on under a new epoch, so that a decision that was lost before it reached
the ledger is told apart from one that never was, and a drain that still holds it does not record it.

A hold of an order that is submitted in another lane leaves no trace in what its own has counted. So where there are
several lanes, one whose server changed is always rebuilt: it may have forgotten a hold whose order is in the ledger,
and would sell its units again.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from enum import StrEnum

from engine.context import Engine
from engine.errors import GateUnavailable, LaneCountMismatch
from engine.fault_points import reach
from engine.gate import keys
from engine.gate.coupons import lane_of_coupon
from engine.gate.gate import LaneState
from engine.gate.lanes import approve_lane, known_versions
from engine.gate.products import forget_list
from engine.gate.stock import lane_of_product
from engine.ledger import coupons as ledger_coupons
from engine.ledger import products as ledger_products
from engine.ledger import progress
from engine.ledger.progress import Progress
from engine.telemetry import metrics
from engine.telemetry.logs import about
from engine.upkeep.lane_rounds import LaneRounds
from engine.upkeep.rebuild import rebuild_lane, recorded_request_key, standing_of

logger = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What the guard finds about a lane."""

    READY = "ready"
    APPROVE = "approve"
    REBUILD = "rebuild"


def verdict(state: LaneState, recorded: Progress | None) -> Verdict:
    """What has to be done with a lane that stands like this, given what the ledger has recorded of it."""
    if recorded is None or state.epoch is None or state.last_number is None or not state.open:
        return Verdict.REBUILD
    if state.epoch < recorded.epoch or standing_of(state).lacks(recorded):
        return Verdict.REBUILD
    return Verdict.READY if state.ready else Verdict.APPROVE


def watch_lanes(engine: Engine) -> dict[int, Verdict]:
    """Look at every lane, do what is needed, tell what was found.

    Raises GateUnavailable, LedgerUnavailable, LaneCountMismatch if a lane could not be looked at or mended; the others
    were.
    """
    rounds = LaneRounds(lambda lane: watch_lane(engine, lane), range(engine.gate.lanes))
    try:
        found, errors = rounds.go()
    finally:
        rounds.close()
    for error in errors.values():
        raise error
    return found


def watch_lane(engine: Engine, lane: int) -> Verdict:
    """As :func:`watch_lanes`, for one lane."""
    with about(lane=lane):
        found = _watch(engine, lane)
    metrics.GUARD_VERDICTS.labels(found.value).inc()
    return found


def _watch(engine: Engine, lane: int) -> Verdict:
    # The ledger first: drains go on meanwhile, and a counter read before what they record would look behind it.
    with engine.ledger.read() as connection:
        recorded = progress.progress_of_lane(connection, lane)
    state = engine.gate.inspect(lane)
    found = verdict(state, recorded)
    if found is Verdict.READY and state.lanes != engine.gate.lanes:
        raise LaneCountMismatch(recorded=state.lanes or 0, configured=engine.gate.lanes)
    if found is Verdict.APPROVE and not _may_be_approved(engine):
        found = Verdict.REBUILD
    if found is not Verdict.READY:
        with suppress(GateUnavailable):  # where the list is on a server that is away, nobody sees it
            forget_list(engine.gate)  # the one that came back with this server may be older than the last change
    if found is Verdict.APPROVE and recorded is not None:
        return _approve(engine, state, recorded)
    if found is Verdict.REBUILD:
        rebuild_lane(engine, state, recorded)
    return found


def _may_be_approved(engine: Engine) -> bool:
    """Whether what a lane has counted tells of all that it has forgotten: not of another lane's holds."""
    return engine.gate.lanes == 1


def _approve(engine: Engine, state: LaneState, recorded: Progress) -> Verdict:
    """Let the lane go on, or rebuild it if it turns out to have forgotten what it offers; which of the two it was.

    The epoch is taken first: from then on the ledger hears of no publication to this lane, and records no decision that
    the lane does not have. Raises GateUnavailable when the lane or the ledger's word on it changed meanwhile.
    """
    recorded_request_key(engine)  # with another number of lanes, this raises
    begun = engine.ledger.run(
        lambda connection: progress.begin_epoch(
            connection, state.lane, examined=recorded, has=standing_of(state), rebuilt=False
        )
    )
    if begun is None:
        raise GateUnavailable(f"lane {state.lane} was taken on by somebody else while it was being approved")
    reach("guard.before_approval")
    if _lost_publications(engine, state.lane):
        rebuild_lane(engine, state, begun)
        return Verdict.REBUILD
    approve_lane(engine.gate, state, begun.epoch)
    # Nothing was lost and nobody has to do anything: a restart is as usual as this. Metrics count it.
    logger.info("lane %d lost nothing and goes on under epoch %d on another server", state.lane, begun.epoch)
    return Verdict.APPROVE


def _lost_publications(engine: Engine, lane: int) -> bool:
    """Whether the lane forgot a coupon, a product or a change of one that the gate had confirmed to the ledger."""
    with engine.ledger.read() as connection:
        coupons = {
            keys.coupon(lane, coupon.id): coupon.published_version
            for coupon in ledger_coupons.all_coupons(connection)
            if lane_of_coupon(engine.gate, coupon.id) == lane
        }
        products = {
            keys.sku(lane, product.id): product.published_version
            for product in ledger_products.all_products(connection)
            if lane_of_product(engine.gate, product.id) == lane
        }
    confirmed = coupons | products
    known = known_versions(engine.gate, list(confirmed))
    return any(known[key] < version for key, version in confirmed.items())
