"""What is due regularly: thin jobs over engine functions."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from engine.context import Engine
from engine.flow import followups, holds
from engine.gate import outbox
from engine.ledger.idempotency import FORGOTTEN_AT_ONCE, forget_old_keys
from engine.shop import coupon_offers, popularity, product_offers
from engine.upkeep import guard

OLD_HEAD_MS = 1000
KEPT = timedelta(hours=25)
"""The contract promises 24 hours for an idempotency key."""

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
    coupons = coupon_offers.publish_changes(engine)
    products = product_offers.publish_product_changes(engine)
    if coupons or products:
        logger.warning("made %d coupons and %d products live that were only recorded", coupons, products)


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


def rebuild_ranking(engine: Engine) -> None:
    """Bring the popular products up to date."""
    popularity.rebuild_ranking(engine)
