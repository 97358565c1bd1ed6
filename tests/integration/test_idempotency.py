"""First answers: a key's effect happens once, and everybody who repeats it is told the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from engine.context import Engine
from engine.errors import LedgerUnavailable
from engine.gate import keys
from engine.ledger import idempotency
from engine.ledger.idempotency import Answer, Claim, answer_once, forget_old_keys
from engine.ledger.shop_tables import LARGEST_AMOUNT
from engine.outcomes import Refusal, Refused
from engine.shop import coupon_offers, product_offers
from engine.shop.accounts import charge_balance, open_account
from engine.shop.coupon_offers import CouponChange, CouponOverview, NewCoupon
from engine.shop.product_offers import NewProduct, ProductChange, ProductView
from scheduler import jobs
from tests.conftest import EngineMaker
from tests.integration.placed_orders import execute, rows
from tests.integration.shop import add_user, balance

REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
NO_SUCH_USER = Refused(Refusal.USER_NOT_FOUND)
NOON = datetime(2030, 5, 10, 12, tzinfo=UTC)
CALLERS = 50


@pytest.fixture
def roomy(make_engine: EngineMaker) -> Engine:
    """An engine with a connection for every caller: all of them meet in Postgres, none waits before it."""
    return make_engine(ledger_pool_size=CALLERS)


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS) as pool:
        yield pool


def answered(engine: Engine, claim: Claim | None, answer: Answer) -> Answer:
    """What ``answer_once`` says when the work would come to ``answer``."""
    return engine.ledger.run(lambda connection: answer_once(connection, claim, lambda: answer))


def charges(engine: Engine) -> list[int]:
    """The amounts booked, in their order."""
    return [row[0] for row in rows(engine, "SELECT amount FROM balance_transactions WHERE amount > 0 ORDER BY id")]


def remembered(engine: Engine) -> list[str]:
    """The keys that are known."""
    return [row[0] for row in rows(engine, "SELECT key FROM idempotency_keys ORDER BY key")]


# -- the same again


def test_fifty_identical_charges_at_once_are_one_charge_with_one_answer(
    roomy: Engine, callers: ThreadPoolExecutor
) -> None:
    user = add_user(roomy, 1, 0)
    together = threading.Barrier(CALLERS, timeout=30)

    def charge(_: int) -> Answer:
        together.wait()
        return charge_balance(roomy, user, 1_000, "k")

    answers = list(callers.map(charge, range(CALLERS)))
    assert answers == [answers[0]] * CALLERS
    assert not isinstance(answers[0], Refused)
    assert answers[0]["newBalance"] == 1_000
    assert (balance(roomy, user), charges(roomy)) == (1_000, [1_000])


def test_without_the_lock_two_callers_race_and_only_the_ledgers_key_holds(
    roomy: Engine, callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_at_work = threading.Barrier(2, timeout=10)

    def race(_: int) -> Answer | type[IntegrityError]:
        def work() -> Answer:
            both_at_work.wait()
            return {"n": 1}

        try:
            return roomy.ledger.run(lambda connection: answer_once(connection, Claim(1, "charge", "k", {}), work))
        except IntegrityError:
            return IntegrityError

    # The statement that takes the lock is made to take none.
    monkeypatch.setattr(idempotency, "text", lambda _statement: text("SELECT :scope"))
    answers = list(callers.map(race, range(2)))
    assert len([answer for answer in answers if answer is IntegrityError]) == 1
    assert remembered(roomy) == ["k"]


def test_a_repeated_charge_gets_the_first_answer_even_when_the_balance_has_moved_on(engine: Engine) -> None:
    user = add_user(engine, 1, 0)
    first = charge_balance(engine, user, 1_000, "k")
    charge_balance(engine, user, 500, None)
    assert charge_balance(engine, user, 1_000, "k") == first
    assert (balance(engine, user), charges(engine)) == (1_500, [1_000, 500])


def test_without_a_key_every_charge_counts(engine: Engine) -> None:
    user = add_user(engine, 1, 0)
    for _ in range(2):
        charge_balance(engine, user, 1_000, None)
    assert (balance(engine, user), remembered(engine)) == (2_000, [])


def test_the_same_key_with_another_body_is_refused_and_the_first_answer_stays(engine: Engine) -> None:
    user = add_user(engine, 1, 0)
    first = charge_balance(engine, user, 1_000, "k")
    assert charge_balance(engine, user, 1_001, "k") == REUSED
    assert charge_balance(engine, user, 1_000, "k") == first
    assert charges(engine) == [1_000]


def test_a_key_belongs_to_one_user_and_one_operation(engine: Engine) -> None:
    assert answered(engine, Claim(1, "charge", "k", {}), {"n": 1}) == {"n": 1}
    assert answered(engine, Claim(2, "charge", "k", {}), {"n": 2}) == {"n": 2}
    assert answered(engine, Claim(1, "cancel", "k", {}), {"n": 3}) == {"n": 3}
    assert answered(engine, Claim(1, "charge", "K", {}), {"n": 4}) == {"n": 4}
    assert answered(engine, Claim(1, "charge", "k", {}), {"n": 5}) == {"n": 1}


def test_the_order_of_members_makes_no_other_body(engine: Engine) -> None:
    answered(engine, Claim(1, "x", "k", {"a": 1, "b": 2}), {"n": 1})
    assert answered(engine, Claim(1, "x", "k", {"b": 2, "a": 1}), {"n": 2}) == {"n": 1}
    assert answered(engine, Claim(1, "x", "k", {"a": 1, "b": 2, "c": None}), {"n": 3}) == REUSED


def test_an_answer_comes_back_exactly_as_it_was_given(engine: Engine) -> None:
    body: dict[str, Any] = {"b": LARGEST_AMOUNT, "a": ["감귤", None, True, {"z": 1, "y": []}], "refused": "no"}
    assert answered(engine, Claim(1, "x", "k", {}), body) == body
    assert answered(engine, Claim(1, "x", "k", {}), {}) == body
    detailed = Refused(Refusal.OUT_OF_STOCK, {"items": [{"productId": 1, "requested": 2, "available": 0}]})
    assert answered(engine, Claim(1, "x", "l", {}), detailed) == detailed
    assert answered(engine, Claim(1, "x", "l", {}), {}) == detailed


def test_a_user_added_under_a_key_is_added_once(engine: Engine) -> None:
    first = open_account(engine, None, "하나", "k")
    assert open_account(engine, None, "하나", "k") == first
    assert open_account(engine, None, "둘", "k") == REUSED
    assert rows(engine, "SELECT name FROM accounts") == [("하나",)]


@pytest.mark.parametrize("published", [True, False], ids=["published", "died before publishing"])
def test_a_coupon_made_under_a_key_is_told_again_as_it_was_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    new = NewCoupon("쿠폰", 500, 10, None, datetime(2040, 1, 1, tzinfo=UTC), "ACTIVE")
    with monkeypatch.context() as patch:
        if not published:
            patch.setattr(coupon_offers, "_publish", lambda *_: None)
        first = coupon_offers.create_coupon(engine, new, "k")
    assert isinstance(first, CouponOverview)
    again = coupon_offers.create_coupon(engine, new, "k")
    assert again == first
    assert engine.gate.client.hget(keys.coupon(0, first.id), "status") == "ACTIVE"
    coupon_offers.change_coupon(engine, first.id, CouponChange(name="다른 이름", status="INACTIVE", add_quantity=5))
    assert coupon_offers.create_coupon(engine, new, "k") == first


def test_a_product_made_under_a_key_is_told_again_as_it_was_first(engine: Engine) -> None:
    new = NewProduct("감귤", 100, 10, "ACTIVE")
    first = product_offers.create_product(engine, new, "k")
    assert isinstance(first, ProductView)
    product_offers.change_product(engine, first.id, ProductChange(price=900, add_stock=5))
    assert product_offers.create_product(engine, new, "k") == first


# -- refusals


def test_a_charge_past_what_can_be_kept_is_refused_under_its_key_for_good(engine: Engine) -> None:
    add_user(engine, 7, LARGEST_AMOUNT)
    refused = charge_balance(engine, 7, 1, "k")
    assert isinstance(refused, Refused)
    with engine.ledger.transaction() as connection:
        connection.execute(text("UPDATE accounts SET balance = 0"))
    assert charge_balance(engine, 7, 1, "k") == refused


def test_a_refusal_is_an_answer_that_stays(engine: Engine) -> None:
    assert charge_balance(engine, 7, 1_000, "k") == NO_SUCH_USER
    add_user(engine, 7, 0)
    assert charge_balance(engine, 7, 1_000, "k") == NO_SUCH_USER
    assert charge_balance(engine, 7, 2_000, "k") == REUSED
    assert charges(engine) == []
    charge_balance(engine, 7, 1_000, "another")
    assert charges(engine) == [1_000]


# -- when something breaks


def test_work_that_breaks_leaves_no_answer_and_can_be_asked_for_again(engine: Engine) -> None:
    user = add_user(engine, 1, 0)
    execute(engine, "ALTER TABLE accounts ADD CONSTRAINT full_house CHECK (balance = 0)")
    with pytest.raises(IntegrityError):
        charge_balance(engine, user, 1_000, "k")
    assert (remembered(engine), charges(engine)) == ([], [])
    execute(engine, "ALTER TABLE accounts DROP CONSTRAINT full_house")
    charge_balance(engine, user, 1_000, "k")
    assert (remembered(engine), charges(engine)) == (["k"], [1_000])


def test_an_answer_that_cannot_be_kept_takes_its_effect_with_it(engine: Engine) -> None:
    user = add_user(engine, 1, 0)
    execute(engine, "ALTER TABLE idempotency_keys ADD CONSTRAINT forgetful CHECK (key <> 'k')")
    with pytest.raises(IntegrityError):
        charge_balance(engine, user, 1_000, "k")
    assert (balance(engine, user), charges(engine)) == (0, [])


def test_a_caller_who_lost_the_answer_at_the_commit_gets_it_by_asking_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = add_user(engine, 1, 0)
    run = engine.ledger.run

    def commit_but_lose_the_answer(work: Any) -> Any:
        run(work)
        raise LedgerUnavailable("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(engine.ledger, "run", commit_but_lose_the_answer)
        with pytest.raises(LedgerUnavailable):
            charge_balance(engine, user, 1_000, "k")
    answer = charge_balance(engine, user, 1_000, "k")
    assert not isinstance(answer, Refused)
    assert answer["newBalance"] == 1_000
    assert charges(engine) == [1_000]


# -- for how long


def remember_since(engine: Engine, key: str, moment: datetime) -> None:
    """A key as it was left behind at that moment."""
    answered(engine, Claim(1, "charge", key, {}), {"n": 1})
    execute(engine, "UPDATE idempotency_keys SET created_at = :moment WHERE key = :key", moment=moment, key=key)


def test_only_keys_from_before_the_moment_are_forgotten_the_oldest_first(engine: Engine) -> None:
    for hours, key in ((1, "later"), (-1, "a"), (-2, "b"), (0, "noon"), (-3, "c")):
        remember_since(engine, key, NOON + timedelta(hours=hours))
    with engine.ledger.transaction() as connection:
        assert forget_old_keys(connection, NOON, at_most=2) == 2
    assert remembered(engine) == ["a", "later", "noon"]
    with engine.ledger.transaction() as connection:
        assert forget_old_keys(connection, NOON, at_most=2) == 1
        assert forget_old_keys(connection, NOON, at_most=2) == 0
    assert remembered(engine) == ["later", "noon"]


def test_the_scheduler_keeps_keys_for_a_day_and_forgets_all_that_are_older(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than there is, so that only going on until nothing is left forgets all.
    monkeypatch.setattr(jobs, "FORGOTTEN_AT_ONCE", 2)
    now = datetime.now(UTC)
    remember_since(engine, "a day", now - timedelta(hours=24, minutes=30))
    for key in ("a", "b", "c", "d", "e"):
        remember_since(engine, key, now - timedelta(hours=26))
    jobs.forget_idempotency_keys(engine)
    assert remembered(engine) == ["a day"]


def test_a_forgotten_key_is_a_new_key(engine: Engine) -> None:
    user = add_user(engine, 1, 0)
    charge_balance(engine, user, 1_000, "k")
    execute(engine, "UPDATE idempotency_keys SET created_at = created_at - interval '26 hours'")
    jobs.forget_idempotency_keys(engine)
    charge_balance(engine, user, 5, "k")
    assert charges(engine) == [1_000, 5]
