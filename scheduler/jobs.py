"""What is due regularly: thin jobs over engine functions."""

from __future__ import annotations

import logging

from engine import catalog, guard, holds
from engine.context import Engine
from engine.gate import outbox

OLD_HEAD_MS = 1000

logger = logging.getLogger(__name__)


def ring_old_bells(engine: Engine) -> int:
    """Ring for every lane whose head has waited too long with no drain at work; how many rings that took.

    This is what makes a lost ring, a lost job or a killed worker cost a second instead of an outcome.
    """
    rung = 0
    if engine.bell.waiting() >= engine.gate.lanes:
        return rung
    for lane in range(engine.gate.lanes):
        age_ms = engine.gate.inspect(lane).head_age_ms
        if age_ms is not None and age_ms > OLD_HEAD_MS and not outbox.is_leased(engine.gate, lane):
            rung += engine.bell.ring(lane)
    return rung


def expire_holds(engine: Engine) -> None:
    """End holds whose deadline has passed, and repeat what a crash kept the gate from being told."""
    for lane in range(engine.gate.lanes):
        holds.sweep_holds(engine, lane)


def watch_lanes(engine: Engine) -> None:
    """Let the guard look at every lane."""
    guard.watch_lanes(engine)


def publish_changes(engine: Engine) -> None:
    """Make live what a process recorded and could not publish."""
    published = catalog.publish_changes(engine)
    if published:
        logger.warning("published %d coupons that their writer could not", published)
