"""Change the number of lanes: what was decided is recorded under the old number, then the gate is built anew.

Only with everything else stopped: while the number changes, nobody may decide. Should a process of before go on all the
same, or wake up in the middle, one of the two loses and nothing is written twice: every lane is taken on as a rebuild
takes it, under a new epoch, so whatever an earlier rebuild still writes is refused, and ours is if somebody comes after
us. The number itself is changed in the transaction that begins the next epoch of every lane, and only if nobody has
begun one since ours: from then on, who looked before finds that they have to look again, and meets the new number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from engine.context import Engine
from engine.errors import LaneCountMismatch
from engine.flow.drain import DrainReport, drain_batch
from engine.gate import keys, stock
from engine.gate.building import LaneBuild, Superseded
from engine.gate.coupons import lane_of_coupon
from engine.gate.gate import Gate
from engine.gate.lanes import close_lane
from engine.ledger import progress
from engine.ledger.progress import Progress, Standing
from engine.ledger.shop_tables import products
from engine.ledger.tables import coupons
from engine.upkeep.rebuild import standing_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Taken:
    """A lane of before that is closed, drained and ours: under which epoch, with what it had done."""

    begun: Progress
    has: Standing
    build: LaneBuild


def relane(engine: Engine, recorded: int, told: Callable[[int], None] = lambda _lane: None) -> None:
    """Go from the ``recorded`` number of lanes to the engine's. The guard builds the new lanes when it starts.

    ``told`` hears of each lane of before that is done with. Safe to repeat after a crash. Raises Superseded (somebody
    else is at work on the lanes: stop them and repeat), GateUnavailable, LedgerUnavailable, LaneCountMismatch.
    """
    old = replace(engine, gate=Gate(engine.gate.client, recorded, engine.gate.backlog_limit))
    if _lanes_in_ledger(engine) == engine.gate.lanes:
        return  # an earlier run came to its end
    _close_and_drain(old)
    taken = {lane: _take(old, lane) for lane in range(recorded)}
    entities = _entity_keys(old)
    for lane, each in taken.items():
        each.build.forget_holds()
        each.build.forget_entities(entities[lane])
        told(lane)
    engine.ledger.run(lambda connection: _change_number(connection, recorded, engine.gate.lanes, taken))
    logger.warning("the data has %d lanes now instead of %d", engine.gate.lanes, recorded)


def _lanes_in_ledger(engine: Engine) -> int:
    with engine.ledger.transaction() as connection:
        return int(progress.setting(connection, "lanes", str(engine.gate.lanes)))


def _close_and_drain(old: Engine) -> None:
    """All are closed before any is drained, and drained before any is taken: an order that waits in one lane may count
    on stock that another holds, for as long as that is in the epoch in which it was taken."""
    for lane in range(old.gate.lanes):
        state = old.gate.inspect(lane)
        if state.open:
            close_lane(old.gate, state)
    for lane in range(old.gate.lanes):
        report = DrainReport(lane)
        while drain_batch(old, report):
            pass


def _take(old: Engine, lane: int) -> _Taken:
    """Keep everybody else from writing into the lane. Closed and drained, it has decided nothing since."""
    with old.ledger.read() as connection:
        examined = progress.progress_of_lane(connection, lane)
    state = old.gate.inspect(lane)
    if state.open or state.backlog:
        raise _overtaken(lane)
    claim = close_lane(old.gate, state)
    has = standing_of(state)
    begun = old.ledger.run(
        lambda connection: progress.begin_epoch(connection, lane, examined=examined, has=has, rebuilt=True)
    )
    if begun is None:
        raise _overtaken(lane)
    build = LaneBuild(old.gate, state, begun.epoch, claim)
    build.begin()
    return _Taken(begun, has, build)


def _entity_keys(old: Engine) -> dict[int, list[str]]:
    """What each lane knows of coupons and products; the ledger has it all."""
    with old.ledger.read() as connection:
        coupon_ids = connection.execute(select(coupons.c.id)).scalars().all()
        product_ids = connection.execute(select(products.c.id)).scalars().all()
    found: dict[int, list[str]] = {lane: [] for lane in range(old.gate.lanes)}
    for coupon_id in coupon_ids:
        lane = lane_of_coupon(old.gate, coupon_id)
        found[lane] += (keys.coupon(lane, coupon_id), keys.winners(lane, coupon_id))
    for product_id in product_ids:
        lane = stock.lane_of_product(old.gate, product_id)
        found[lane].append(keys.sku(lane, product_id))
    return found


def _change_number(connection: Connection, recorded: int, wanted: int, taken: dict[int, _Taken]) -> None:
    """The new number, if the old one still holds and every lane is still ours."""
    for lane, each in taken.items():
        begun = progress.begin_epoch(connection, lane, examined=each.begun, has=each.has, rebuilt=True)
        if begun is None:
            raise _overtaken(lane)
    if not progress.change_setting(connection, "lanes", str(wanted), if_it_is=str(recorded)):
        raise LaneCountMismatch(int(progress.setting(connection, "lanes", str(wanted))), recorded)


def _overtaken(lane: int) -> Superseded:
    return Superseded(f"lane {lane} was taken on by somebody else meanwhile: stop every process, then repeat this")
