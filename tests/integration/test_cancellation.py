"""Cancelling: money, coupon, stock and statistics go back, once, and only for whom the order is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from engine.context import Engine
from engine.flow.followups import work_off
from engine.outcomes import Refusal, Refused
from engine.shop import cancellation
from engine.upkeep.guard import watch_lanes
from tests.integration.shop import (
    add_held_coupon,
    add_product,
    add_user,
    assert_conserved,
    available,
    balance,
    coupon_status,
    drain_all,
    holds,
    order,
    state_of,
    stock_in_ledger,
)


@pytest.fixture(params=[1, 4], ids=["one lane", "four lanes"])
def lanes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_fifty_cancels_at_once_give_everything_back_once(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 400, 5)
    coupon = add_held_coupon(engine, user, 100)
    placed = order(engine, user, {product: 2}, coupon)
    drain_all(engine)
    order_id = (state_of(engine, placed).result or {})["orderId"]

    def cancel(_: int) -> object:
        return cancellation.cancel_order(engine, order_id, user_id=user, idempotency_key=None)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(cancel, range(50)))
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [outcome.code for outcome in refused] == [Refusal.ORDER_NOT_CANCELLABLE] * 49
    while work_off(engine).done:
        pass
    assert (balance(engine, user), coupon_status(engine, coupon)) == (1_000, "AVAILABLE")
    assert (stock_in_ledger(engine, product), available(engine, product)) == (5, 5)
    assert_conserved(engine)


def test_after_cancelling_everything_the_shop_is_exactly_as_at_the_start(engine: Engine) -> None:
    users = [add_user(engine, number, 10_000) for number in range(1, 6)]
    products = [add_product(engine, price, 20) for price in (100, 250, 999)]
    coupons = [add_held_coupon(engine, user, 150) for user in users]

    def shop() -> object:
        with engine.ledger.read() as connection:
            statistics = text(
                "SELECT product_id, sum(quantity) FROM product_stats GROUP BY 1 HAVING sum(quantity) <> 0"
            )
            return (
                [(available(engine, product), stock_in_ledger(engine, product)) for product in products],
                [balance(engine, user) for user in users],
                [coupon_status(engine, coupon) for coupon in coupons],
                connection.execute(statistics).all(),
                holds(engine),
            )

    start = shop()
    placed = [
        order(engine, user, {products[number % 3]: 2, products[(number + 1) % 3]: 1}, coupons[number])
        for number, user in enumerate(users)
    ]
    drain_all(engine)
    while work_off(engine).done:
        pass
    assert shop() != start
    for outcome in placed:
        order_id = (state_of(engine, outcome).result or {})["orderId"]
        cancelled = cancellation.cancel_order(engine, order_id, user_id=None, idempotency_key=None)
        assert not isinstance(cancelled, Refused)
    while work_off(engine).done:
        pass
    assert shop() == start
    assert_conserved(engine)


def test_nobody_cancels_the_order_of_somebody_else(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 400, 5)
    placed = order(engine, user, {product: 2})
    drain_all(engine)
    order_id = (state_of(engine, placed).result or {})["orderId"]
    outcome = cancellation.cancel_order(engine, order_id, user_id=2, idempotency_key=None)
    assert outcome == Refused(Refusal.ORDER_NOT_FOUND)
    assert balance(engine, user) == 200


def test_a_cancel_under_a_key_replays_its_first_answer(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 400, 5)
    placed = order(engine, user, {product: 2})
    drain_all(engine)
    order_id = (state_of(engine, placed).result or {})["orderId"]
    first = cancellation.cancel_order(engine, order_id, user_id=None, idempotency_key="k")
    assert not isinstance(first, Refused)
    assert cancellation.cancel_order(engine, order_id, user_id=None, idempotency_key="k") == first
    assert balance(engine, user) == 1_000


def test_a_rebuild_between_a_cancel_and_its_follow_up_returns_the_units_once(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    placed = order(engine, user, {product: 2})
    drain_all(engine)
    order_id = (state_of(engine, placed).result or {})["orderId"]
    cancellation.cancel_order(engine, order_id, user_id=None, idempotency_key=None)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert available(engine, product) == 5
    while work_off(engine).done:
        pass
    assert available(engine, product) == 5
