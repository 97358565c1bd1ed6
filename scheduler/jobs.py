"""What is due regularly: thin jobs over engine functions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from engine.context import Engine
from engine.errors import LaneCountMismatch
from engine.flow import followups, holds
from engine.gate import outbox
from engine.ledger.idempotency import FORGOTTEN_AT_ONCE, forget_old_keys
from engine.shop import coupon_offers, popularity, product_offers
from engine.telemetry import metrics
from engine.upkeep import guard, observation
from engine.upkeep.audit import RegularAudit
from engine.upkeep.lane_rounds import LaneRounds

Result = TypeVar("Result")

OLD_HEAD_MS = 1000
ROUND_SECONDS = 5.0
"""How long a round over the lanes waits for the slowest; what takes longer goes on beside the next rounds."""
KEPT = timedelta(hours=25)
"""The contract promises 24 hours for an idempotency key."""

logger = logging.getLogger(__name__)


class EveryLane(Generic[Result]):
    """A job that does one thing for every lane, side by side: a lane whose server is away holds up none of the others.

    Not thread-safe: the scheduler runs a job once at a time.
    """

    def __init__(self, name: str, work: Callable[[Engine, int], Result]) -> None:
        self.__name__ = name
        self._work = work
        self._engine: Engine | None = None
        self._rounds: LaneRounds[Result] | None = None

    def __call__(self, engine: Engine) -> dict[int, Result]:
        """One round: results of the lanes that came back in time. Raises LaneCountMismatch; what else went wrong with a
        lane is logged, because the next round comes soon."""
        if self._rounds is None or self._engine is not engine:
            self.close()
            self._engine = engine
            self._rounds = LaneRounds(lambda lane: self._work(engine, lane), range(engine.gate.lanes))
        results, errors = self._rounds.go(ROUND_SECONDS)
        for lane, error in sorted(errors.items()):
            if isinstance(error, LaneCountMismatch):
                raise error
            logger.warning("%s, lane %d: %s", self.__name__, lane, error)
        return results

    def close(self) -> None:
        """Begin nothing more."""
        if self._rounds is not None:
            self._rounds.close()
            self._rounds = None


def _ring_old_bell(engine: Engine, lane: int) -> bool:
    age_ms = engine.gate.inspect(lane).head_age_ms
    old = age_ms is not None and age_ms > OLD_HEAD_MS
    return old and not outbox.is_leased(engine.gate, lane) and engine.bell.ring(lane)


watch_lanes = EveryLane("watch_lanes", guard.watch_lane)
"""Let the guard look at every lane."""

expire_holds = EveryLane("expire_holds", holds.sweep_holds)
"""End holds whose deadline has passed, and repeat what a crash kept the gate from being told."""

_observe_every_lane = EveryLane("observe_lanes", observation.observe_lane)

_ring_every_old_bell = EveryLane("ring_old_bells", _ring_old_bell)


def ring_old_bells(engine: Engine) -> int:
    """Ring for every lane whose head has waited too long with no drain at work; how many rings that took.

    This is what makes a lost ring, a lost job or a killed worker cost a second instead of an outcome.
    """
    if engine.bell.waiting() >= engine.gate.lanes:
        return 0
    return sum(_ring_every_old_bell(engine).values())


def close_rounds() -> None:
    """Begin nothing more in any lane."""
    for job in (watch_lanes, expire_holds, _observe_every_lane, _ring_every_old_bell):
        job.close()


def observe_lanes(engine: Engine) -> None:
    """Export how every lane stands; of one that does not answer, that nobody knows."""
    seen = _observe_every_lane(engine)
    for lane in range(engine.gate.lanes):
        if not seen.get(lane):
            metrics.record_lane_away(lane)
    metrics.record_look(metrics.GATE)


def observe_ledger(engine: Engine) -> None:
    """Export what waits in the ledger."""
    observation.observe_ledger(engine)


def observe_queues(engine: Engine) -> None:
    """Export what waits in RQ."""
    observation.observe_queues(engine)


def publish_changes(engine: Engine) -> None:
    """Make live what a process recorded and could not publish."""
    coupons = coupon_offers.publish_changes(engine)
    products = product_offers.publish_product_changes(engine)
    metrics.LATE_PUBLICATIONS.labels("coupon").inc(coupons)
    metrics.LATE_PUBLICATIONS.labels("product").inc(products)
    if coupons or products:
        # As usual as a process that dies between the ledger and the gate, or a shop that was filled before its start.
        logger.info("made %d coupons and %d products live that were only recorded", coupons, products)


def sweep_followups(engine: Engine) -> bool:
    """Ring when follow-ups are due: a lost ring, a lost job or a killed worker costs a second; whether it rang."""
    return followups.any_due(engine) and engine.bell.ring_for_followups()


def forget_idempotency_keys(engine: Engine) -> None:
    """Drop first answers that nobody may ask for again."""
    before = datetime.now(UTC) - KEPT
    forgotten = FORGOTTEN_AT_ONCE
    while forgotten == FORGOTTEN_AT_ONCE:
        with engine.ledger.transaction() as connection:
            forgotten = forget_old_keys(connection, before, FORGOTTEN_AT_ONCE)


def auditing(keep_going: Callable[[], bool]) -> Callable[[Engine], None]:
    """The job that audits what is due and writes an ALARM for what is off; ``keep_going`` says when to leave early."""
    regular = RegularAudit(keep_going)

    def audit(engine: Engine) -> None:
        regular.run(engine)

    return audit


def rebuild_ranking(engine: Engine) -> None:
    """Bring the popular products up to date."""
    popularity.rebuild_ranking(engine)
