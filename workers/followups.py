"""The follow-up job: a thin job over ``engine.flow.followups``. RQ calls it by its dotted path, without arguments."""

from __future__ import annotations

import logging

from engine.flow.followups import work_off
from workers.process import engine_of_this_process, is_stopping

logger = logging.getLogger(__name__)


def work_off_followups() -> None:
    """Work off what is due until it is done, somebody rings again or the worker is told to stop."""
    engine = engine_of_this_process()
    # A ring that waits is for what was planned meanwhile: the next job begins with all kinds again.
    report = work_off(engine, leave_early=lambda: engine.bell.followups_waiting() > 0, stopping=is_stopping)
    for kind, reason in report.unavailable.items():
        # Nothing is lost: the rows wait in the ledger, and the scheduler rings every second while some are due.
        logger.warning("%s is not worked off now: %s", kind, reason)
    if report.more:
        engine.bell.ring_for_followups()
    if report.done or report.failed:
        done = ", ".join(f"{count} {kind}" for kind, count in sorted(report.done.items()))
        logger.info(
            "follow-ups: done %s; %d failed, %d of them parked; %.1f s",
            done or "none",
            report.failed,
            report.parked,
            report.seconds,
        )
