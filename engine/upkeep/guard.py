"""The guard: notices that Redis restarted, failed over or forgot, and decides between approving and rebuilding.

A lane decides only on the server whose run id was approved for it; a restart or a failover changes the run id, so the
gate closes by itself, at that instant, without anybody noticing first. What is left for the guard is to look at the
lane's counter and at the versions of what it offers. Behind the ledger means that decisions or publications were lost,
and the lane is rebuilt; not behind means that nothing the ledger relies on was lost, and the lane goes on. Either way
it goes on under a new epoch, so that a decision that was lost before it reached the ledger is told apart from one that
never was.
"""

from __future__ import annotations

import logging
from enum import StrEnum

from engine.context import Engine
from engine.fault_points import reach
from engine.gate import keys
from engine.gate.coupons import lane_of_coupon
from engine.gate.gate import LaneState
from engine.gate.lanes import known_versions, open_lane
from engine.gate.products import forget_list
from engine.gate.stock import lane_of_product
from engine.ledger import coupons as ledger_coupons
from engine.ledger import products as ledger_products
from engine.ledger import progress
from engine.ledger.progress import Progress
from engine.upkeep.rebuild import rebuild_lane, recorded_request_key

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
    if state.last_number < recorded.last_number or state.epoch < recorded.epoch:
        return Verdict.REBUILD
    return Verdict.READY if state.ready else Verdict.APPROVE


def watch_lanes(engine: Engine) -> dict[int, Verdict]:
    """Look at every lane, do what is needed, tell what was found. Raises GateUnavailable, LedgerUnavailable,
    LaneCountMismatch."""
    # The ledger first: drains go on meanwhile, and a counter read before what they record would look behind it.
    with engine.ledger.read() as connection:
        recorded = progress.progress_of_lanes(connection)
    found = {}
    for lane in range(engine.gate.lanes):
        state = engine.gate.inspect(lane)
        found[lane] = verdict(state, recorded.get(lane))
        if found[lane] is Verdict.APPROVE and _lost_publications(engine, lane):
            found[lane] = Verdict.REBUILD
        if found[lane] is Verdict.REBUILD:
            rebuild_lane(engine, state)
        elif found[lane] is Verdict.APPROVE:
            _approve(engine, state)
    return found


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


def _approve(engine: Engine, state: LaneState) -> None:
    request_key = recorded_request_key(engine)
    forget_list(engine.gate)  # the one that came back with this server may be older than the last change
    with engine.ledger.transaction() as connection:
        begun = progress.begin_epoch(connection, state.lane, rebuilt=False)
    reach("guard.before_approval")
    open_lane(
        engine.gate,
        state.lane,
        epoch=begun.epoch,
        run_id=state.run_id,
        last_number=begun.last_number,
        request_key=request_key,
        rebuilt=False,
    )
    logger.warning("lane %d lost nothing and goes on under epoch %d on another server", state.lane, begun.epoch)
