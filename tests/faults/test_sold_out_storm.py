"""Refusals leave nothing behind: however many come too late, Redis does not grow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine.context import Engine
from engine.gate import keys
from engine.outcomes import Issued, Refusal, Refused
from engine.shop import coupon_offers, issuance
from engine.shop.coupon_offers import CouponOverview, NewCoupon
from tests.integration.shop import drain_all

pytestmark = pytest.mark.long

ATTEMPTS = 20_000
WARMING_UP = 5_000
"""Early on the used memory fell by 5 % during such a storm; from a server that has seen one it hardly moves."""
CROWD = 4
GRANTS = 2_000
TOLERANCE = 0.01
SOLD_OUT = Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})


def coupon_with(engine: Engine, quantity: int) -> int:
    coupon = coupon_offers.create_coupon(engine, NewCoupon("쿠폰", 1000, quantity, None, None, "ACTIVE"))
    assert isinstance(coupon, CouponOverview)
    return coupon.id


def attempt(engine: Engine, coupon: int, first_user: int, attempts: int) -> set[Issued | Refusal]:
    """Ask as so many users, a crowd at a time, half of them with a key; what they were told."""

    def one(number: int) -> Issued | Refused:
        key = f"key {number}" if number % 2 else None
        return issuance.issue_coupon(engine, coupon_id=coupon, user_id=first_user + number, idempotency_key=key)

    with ThreadPoolExecutor(CROWD) as crowd:
        answers = list(crowd.map(one, range(attempts)))
    assert all(answer == SOLD_OUT for answer in answers if isinstance(answer, Refused))
    return {answer.code if isinstance(answer, Refused) else answer for answer in answers}


def footprint(engine: Engine, work: Callable[[], object]) -> tuple[int, float]:
    """By how many keys and by what part of its memory Redis grows."""
    client: Any = engine.gate.client
    keys_before, before = client.dbsize(), client.info("memory")["used_memory"]
    work()
    return client.dbsize() - keys_before, client.info("memory")["used_memory"] / before - 1


def test_twenty_thousand_who_come_too_late_leave_nothing_in_redis(engine: Engine) -> None:
    coupon = coupon_with(engine, 1)
    attempt(engine, coupon, 1, WARMING_UP)
    drain_all(engine)
    told: set[Issued | Refusal] = set()
    grown_keys, grown = footprint(engine, lambda: told.update(attempt(engine, coupon, 1 + WARMING_UP, ATTEMPTS)))
    assert told == {Refusal.COUPON_CLOSED}
    assert grown_keys == 0
    assert grown <= TOLERANCE  # it may well shrink: what earlier connections took is given back at some time
    assert engine.gate.client.xlen(keys.outbox(0)) == 0


def test_something_left_behind_would_be_noticed(engine: Engine) -> None:
    coupon = coupon_with(engine, GRANTS)
    attempt(engine, coupon, 1, GRANTS // 10)
    _, grown = footprint(engine, lambda: attempt(engine, coupon, 1 + GRANTS // 10, GRANTS - GRANTS // 10))
    assert grown > TOLERANCE
