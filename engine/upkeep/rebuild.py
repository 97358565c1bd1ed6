"""Rebuild a lane of the gate from the ledger: close, drain what is left, take an epoch, build, open.

Whoever dies in the middle leaves a closed lane, which the guard finds and rebuilds from the start. Whoever sleeps in
the middle may find, when they wake, that somebody else has opened the lane and that it sells. So each step is refused
if the one before is not the last thing that happened to the lane: closing names the epoch that was examined, the ledger
gives an epoch only to whoever knows its newest one, and the gate takes nothing but from who closed it last.

Who finds a lane closed closes it all the same: somebody may be building it, and would open it under an epoch which the
next one does not stand on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from sqlalchemy import Connection

from engine.context import Engine
from engine.errors import GateUnavailable, LaneCountMismatch
from engine.fault_points import reach
from engine.flow.drain import DrainReport, drain_batch
from engine.gate.building import WINNERS_PER_CALL, LaneBuild, Superseded
from engine.gate.coupons import lane_of_coupon
from engine.gate.gate import LaneState
from engine.gate.lanes import close_lane, require_built
from engine.gate.request_ids import new_request_key
from engine.gate.stock import lane_of_product
from engine.ledger import coupons as ledger_coupons
from engine.ledger import orders as ledger_orders
from engine.ledger import products as ledger_products
from engine.ledger import progress
from engine.ledger.progress import Progress, Standing
from engine.shop.coupon_offers import terms_of
from engine.shop.product_offers import terms_of_product
from engine.telemetry import metrics
from engine.upkeep.lane_rounds import LaneRounds

PATIENCE_SECONDS = 5.0
"""How long a rebuild tries to empty the outboxes of other lanes: what is away for longer may be away for hours."""
PAUSE_SECONDS = 0.2

logger = logging.getLogger(__name__)


def recorded_request_key(engine: Engine) -> str:
    """The secret that seals request ids; made at the first call ever.

    Raises LaneCountMismatch when the data was built with another number of lanes.
    """
    with engine.ledger.transaction() as connection:
        lanes = int(progress.setting(connection, "lanes", str(engine.gate.lanes)))
        request_key = progress.setting(connection, "request_key", new_request_key())
    if lanes != engine.gate.lanes:
        raise LaneCountMismatch(recorded=lanes, configured=engine.gate.lanes)
    return request_key


def standing_of(state: LaneState) -> Standing:
    """What the ledger compares with what it relies on."""
    return Standing(state.last_number or 0, state.returned)


def rebuild_now(engine: Engine, lane: int) -> None:
    """Build the lane anew, however well it stands; whoever decides in it is told BUSY meanwhile.

    Raises as :func:`rebuild_lane`.
    """
    with engine.ledger.read() as connection:
        recorded = progress.progress_of_lane(connection, lane)
    rebuild_lane(engine, engine.gate.inspect(lane), recorded)


def rebuild_lane(engine: Engine, state: LaneState, recorded: Progress | None) -> None:
    """Make the lane what the ledger says it is, and open it on the server that ``state`` was read from.

    ``recorded`` is the ledger's progress, read before ``state``. Raises GateUnavailable (somebody else was faster, or
    the server changed: look again) and LedgerUnavailable; the lane may be closed then.
    """
    started = time.monotonic()
    result = "given_up"
    try:
        _rebuild(engine, state, recorded)
        result = "opened"
    finally:
        metrics.REBUILD_SECONDS.labels(result).observe(time.monotonic() - started)


def _rebuild(engine: Engine, state: LaneState, recorded: Progress | None) -> None:
    lane = state.lane
    request_key = recorded_request_key(engine)
    claim = close_lane(engine.gate, state)
    reach("rebuild.closed")
    drained = _drain_outbox(engine, lane) + _drain_others(engine, lane, 1 + (0 if recorded is None else recorded.epoch))
    # Looked at once more: decisions may have been made until the lane was closed.
    has = standing_of(engine.gate.inspect(lane))
    begun = engine.ledger.run(
        lambda connection: progress.begin_epoch(connection, lane, examined=recorded, has=has, rebuilt=True)
    )
    if begun is None:
        raise Superseded(f"lane {lane} was taken on by somebody else")
    reach("rebuild.begun")
    build = LaneBuild(engine.gate, state, begun.epoch, claim)
    build.begin()
    holds = build.forget_holds()
    with engine.ledger.snapshot() as connection:
        coupons = _build_coupons(engine, build, connection, lane)
        products = _build_products(engine, build, connection, lane)
        # What the ledger took back from cancelled orders is in the stock just built: no follow-up may return it again.
        build.mark_returned(ledger_orders.nonces_with_stock_to_return(connection))
    _require_others(engine, lane)
    reach("rebuild.before_opening")
    build.open(last_number=begun.last_number, request_key=request_key)
    logger.log(
        logging.INFO if recorded is None else logging.WARNING,
        "lane %d was built and opened under epoch %d: %d coupons, %d products, %d holds dropped, %d entries drained",
        lane,
        begun.epoch,
        coupons,
        products,
        holds,
        drained,
    )


def _drain_outbox(engine: Engine, lane: int) -> int:
    report = DrainReport(lane)
    while drain_batch(engine, report):
        pass
    return report.recorded


def _drain_others(engine: Engine, lane: int, epoch: int) -> int:
    """Empty the other lanes' outboxes: an order that waits in one may count on stock that this lane holds. First let
    them take no more such orders: this lane will be built in ``epoch`` or later.

    One whose server is away for longer than patience lasts is left: this lane has to open. The ledger will fail the
    orders in it that count on this lane's holds. Raises LedgerUnavailable: without it nobody opens anything.
    """
    others = [other for other in range(engine.gate.lanes) if other != lane]
    last_try = time.monotonic() + PATIENCE_SECONDS
    rounds = LaneRounds(lambda other: _drain_patiently(engine, other, {lane: epoch}, last_try), others)
    try:
        drained, errors = rounds.go(PATIENCE_SECONDS + PAUSE_SECONDS)
    finally:
        rounds.close()
    for error in errors.values():
        if not isinstance(error, GateUnavailable):
            raise error
    for other in (*errors, *rounds.away):
        logger.warning("lane %d is rebuilt without what waits in lane %d: %s", lane, other, errors.get(other, "away"))
    return sum(drained.values())


def _require_others(engine: Engine, lane: int) -> None:
    """Tell a lane that is about to open what the others required of it: it may have forgotten that with all else."""
    if engine.gate.lanes > 1:
        built = engine.ledger.run(progress.built_epochs)
        require_built(engine.gate, lane, {other: epoch for other, epoch in built.items() if other != lane})


def _drain_patiently(engine: Engine, lane: int, required: Mapping[int, int], last_try: float) -> int:
    """Raises GateUnavailable when that did not work until then."""
    while True:
        try:
            require_built(engine.gate, lane, required)
            return _drain_outbox(engine, lane)
        except GateUnavailable:
            if time.monotonic() >= last_try:
                raise
            time.sleep(PAUSE_SECONDS)


def _build_coupons(engine: Engine, build: LaneBuild, connection: Connection, lane: int) -> int:
    built = 0
    for coupon in ledger_coupons.all_coupons(connection):
        if lane_of_coupon(engine.gate, coupon.id) == lane:
            # A place that stayed empty, because its winner was dropped from quarantine, is not given to somebody else.
            build.add_coupon(terms_of(coupon), ledger_coupons.highest_place(connection, coupon.id))
            for lines in ledger_coupons.winners_of(connection, coupon.id, WINNERS_PER_CALL):
                build.add_winners(coupon.id, lines)
            built += 1
            reach("rebuild.building")
    return built


def _build_products(engine: Engine, build: LaneBuild, connection: Connection, lane: int) -> int:
    """Products with the stock that completed orders left over: in a rebuilt lane nothing is held."""
    built = 0
    for product in ledger_products.all_products(connection):
        if lane_of_product(engine.gate, product.id) == lane:
            build.add_product(terms_of_product(product), product.stock)
            built += 1
    return built
