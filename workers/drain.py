"""The drain job: a thin job over ``engine.flow.drain``. RQ calls it by its dotted path, with the lane's number."""

from __future__ import annotations

import logging

from engine.errors import GateUnavailable, LedgerUnavailable
from engine.flow.drain import drain
from workers.process import engine_of_this_process, is_stopping

logger = logging.getLogger(__name__)


def drain_lane(lane: int) -> None:
    """Drain one lane, then linger for more while nobody else waits and the worker is not told to stop."""
    engine = engine_of_this_process()
    try:
        report = drain(engine, lane, leave_early=lambda: is_stopping() or engine.bell.waiting() > 0)
    except (GateUnavailable, LedgerUnavailable) as error:
        # Nothing is lost: the entries wait in the outbox, and the scheduler rings every second while they do.
        logger.warning("lane %d is not drained now: %s", lane, error)
        return
    if report.more:
        engine.bell.ring(lane)
    if report.recorded or report.quarantined:
        logger.info(
            "lane %d: %d recorded, %d quarantined, %d batches, %.1f s",
            lane,
            report.recorded,
            report.quarantined,
            report.batches,
            report.seconds,
        )
