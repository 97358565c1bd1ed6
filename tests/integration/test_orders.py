"""Orders end to end inside the engine: reserve, drain, settle, cancel, expire; with one lane and with four."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.flow.holds import sweep_holds
from engine.gate import stock
from engine.ledger.orders import end_overdue
from engine.outcomes import Refusal, Refused, RequestStatus, Submitted
from engine.shop import orders
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
    overdue,
    state_of,
    stock_in_ledger,
)


@pytest.fixture(params=[1, 4], ids=["one lane", "four lanes"])
def lanes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def sweep(engine: Engine) -> None:
    for lane in range(engine.gate.lanes):
        sweep_holds(engine, lane)


def failure_of(engine: Engine, outcome: Submitted | Refused) -> Refusal:
    state = state_of(engine, outcome)
    assert state.status is RequestStatus.FAILED
    assert state.error is not None
    return state.error.code


def test_an_order_is_pending_then_completed_with_prices_and_amounts(engine: Engine) -> None:
    user = add_user(engine, 1, 10_000)
    apple, pear = add_product(engine, 1_000, 10), add_product(engine, 500, 10)
    placed = order(engine, user, {apple: 2, pear: 3})
    assert state_of(engine, placed).status is RequestStatus.PENDING
    assert available(engine, apple) == 8
    drain_all(engine)
    state = state_of(engine, placed)
    assert state.status is RequestStatus.COMPLETED
    assert state.result is not None
    assert [(item["productId"], item["unitPrice"], item["quantity"]) for item in state.result["orderItems"]] == [
        (apple, 1_000, 2),
        (pear, 500, 3),
    ]
    amounts = (state.result["totalAmount"], state.result["discountAmount"], state.result["paidAmount"])
    assert amounts == (3_500, 0, 3_500)
    assert balance(engine, user) == 6_500
    assert (stock_in_ledger(engine, apple), stock_in_ledger(engine, pear)) == (8, 7)
    assert holds(engine) == 0
    assert_conserved(engine)


def test_a_short_product_refuses_the_whole_order_and_says_which(engine: Engine) -> None:
    user = add_user(engine, 1, 10_000)
    plenty, scarce = add_product(engine, 10, 50), add_product(engine, 10, 1)
    refused = order(engine, user, {plenty: 5, scarce: 2})
    assert refused == Refused(Refusal.OUT_OF_STOCK, {"items": [{"productId": scarce, "requested": 2, "available": 1}]})
    assert (available(engine, plenty), available(engine, scarce), holds(engine)) == (50, 1, 0)


def test_an_unknown_product_refuses_the_whole_order(engine: Engine) -> None:
    user, product = add_user(engine, 1, 10_000), add_product(engine, 10, 50)
    assert order(engine, user, {product: 1, 999_999: 1}) == Refused(Refusal.PRODUCT_NOT_FOUND)
    assert (available(engine, product), holds(engine)) == (50, 0)


def test_an_order_that_cannot_be_paid_fails_and_gives_back_every_unit(engine: Engine) -> None:
    user, product = add_user(engine, 1, 99), add_product(engine, 100, 5)
    coupon = add_held_coupon(engine, user, 0 + 1)
    rich = order(engine, user, {product: 1})
    with_coupon = order(engine, user, {product: 1}, coupon)
    drain_all(engine)
    assert failure_of(engine, rich) is Refusal.INSUFFICIENT_BALANCE
    assert state_of(engine, with_coupon).status is RequestStatus.COMPLETED
    assert (available(engine, product), balance(engine, user)) == (4, 0)
    assert_conserved(engine)


def test_an_unknown_user_fails_and_gives_back_every_unit(engine: Engine) -> None:
    product = add_product(engine, 100, 5)
    placed = order(engine, 424_242, {product: 2})
    drain_all(engine)
    assert failure_of(engine, placed) is Refusal.USER_NOT_FOUND
    assert (available(engine, product), holds(engine)) == (5, 0)


def test_a_coupon_is_redeemed_once_even_by_two_orders_of_one_batch(engine: Engine) -> None:
    user, product = add_user(engine, 1, 10_000), add_product(engine, 1_000, 5)
    coupon = add_held_coupon(engine, user, 300)
    first, second = order(engine, user, {product: 1}, coupon), order(engine, user, {product: 1}, coupon)
    drain_all(engine)
    state = state_of(engine, first)
    assert state.result is not None
    assert (state.result["discountAmount"], state.result["paidAmount"]) == (300, 700)
    assert failure_of(engine, second) is Refusal.COUPON_NOT_USABLE
    assert (coupon_status(engine, coupon), balance(engine, user), available(engine, product)) == ("USED", 9_300, 4)
    assert_conserved(engine)


def test_a_coupon_of_somebody_else_or_of_nobody_is_not_usable(engine: Engine) -> None:
    owner, thief = add_user(engine, 1, 1_000), add_user(engine, 2, 1_000)
    product = add_product(engine, 100, 5)
    coupon = add_held_coupon(engine, owner, 50)
    outcomes = [order(engine, thief, {product: 1}, coupon), order(engine, thief, {product: 1}, 999_999)]
    drain_all(engine)
    assert [failure_of(engine, outcome) for outcome in outcomes] == [Refusal.COUPON_NOT_USABLE] * 2
    assert (coupon_status(engine, coupon), available(engine, product)) == ("AVAILABLE", 5)


def test_a_coupon_whose_time_is_over_is_not_usable(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    coupon = add_held_coupon(engine, user, 50)
    with engine.ledger.transaction() as connection:
        connection.execute(
            text("UPDATE coupons SET ends_at = :ended WHERE id = (SELECT coupon_id FROM user_coupons WHERE id = :id)"),
            {"ended": datetime.now(UTC) - timedelta(seconds=1), "id": coupon},
        )
    placed = order(engine, user, {product: 1}, coupon)
    drain_all(engine)
    assert failure_of(engine, placed) is Refusal.COUPON_NOT_USABLE


def test_a_discount_never_makes_an_order_cost_less_than_nothing(engine: Engine) -> None:
    user, product = add_user(engine, 1, 0), add_product(engine, 100, 5)
    coupon = add_held_coupon(engine, user, 5_000)
    placed = order(engine, user, {product: 1}, coupon)
    drain_all(engine)
    state = state_of(engine, placed)
    assert state.result is not None
    assert (state.result["discountAmount"], state.result["paidAmount"]) == (100, 0)


def test_orders_of_one_user_in_one_batch_are_paid_one_after_another(engine: Engine) -> None:
    user, product = add_user(engine, 1, 250), add_product(engine, 100, 10)
    placed = [order(engine, user, {product: 1}) for _ in range(4)]
    drain_all(engine)
    ends = [state_of(engine, outcome).status for outcome in placed]
    assert ends == [RequestStatus.COMPLETED] * 2 + [RequestStatus.FAILED] * 2
    assert (balance(engine, user), available(engine, product)) == (50, 8)
    assert_conserved(engine)


def test_the_price_charged_is_the_price_when_the_stock_was_reserved(engine: Engine) -> None:
    from engine.shop.product_offers import ProductChange, change_product

    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    placed = order(engine, user, {product: 1})
    change_product(engine, product, ProductChange(price=900))
    later = order(engine, user, {product: 1})
    drain_all(engine)
    amounts = [(state_of(engine, outcome).result or {})["paidAmount"] for outcome in (placed, later)]
    assert amounts == [100, 900]


def test_an_idempotency_key_replays_the_order_before_and_after_it_is_settled(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    first = order(engine, user, {product: 1}, key="k")
    assert order(engine, user, {product: 1}, key="k") == first
    drain_all(engine)
    assert order(engine, user, {product: 1}, key="k") == first
    drain_all(engine)
    assert (balance(engine, user), available(engine, product)) == (900, 4)
    assert order(engine, user, {product: 2}, key="k") == Refused(Refusal.IDEMPOTENCY_KEY_REUSED)


def test_an_idempotency_key_replays_a_refusal_even_when_there_is_stock_again(engine: Engine) -> None:
    from engine.shop.product_offers import ProductChange, change_product

    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 1)
    refused = order(engine, user, {product: 2}, key="k")
    change_product(engine, product, ProductChange(add_stock=5))
    assert order(engine, user, {product: 2}, key="k") == refused
    assert isinstance(order(engine, user, {product: 2}, key="other"), Submitted)


def test_a_key_that_redis_forgot_does_not_order_twice(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    first = order(engine, user, {product: 1}, key="k")
    drain_all(engine)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    again = order(engine, user, {product: 1}, key="k")
    drain_all(engine)
    assert state_of(engine, again).status is RequestStatus.COMPLETED
    assert (state_of(engine, again).result or {})["orderId"] == (state_of(engine, first).result or {})["orderId"]
    assert (balance(engine, user), available(engine, product), holds(engine)) == (900, 4, 0)
    assert_conserved(engine)


def test_the_last_unit_goes_to_exactly_one_of_two_buyers_every_time(engine: Engine) -> None:
    for user in (1, 2):
        add_user(engine, user, 1_000_000)
    winners: list[Submitted] = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(200):
            product = add_product(engine, 10, 1)
            outcomes = list(pool.map(lambda user, wanted=product: order(engine, user, {wanted: 1}), (1, 2)))
            winners += [outcome for outcome in outcomes if isinstance(outcome, Submitted)]
            assert [loser.code for loser in outcomes if isinstance(loser, Refused)] == [Refusal.OUT_OF_STOCK]
    drain_all(engine)
    assert [state_of(engine, winner).status for winner in winners] == [RequestStatus.COMPLETED] * 200


def test_a_hold_without_an_order_expires_and_gives_back_its_units(engine: Engine) -> None:
    product = add_product(engine, 10, 5)
    lane = stock.lane_of_product(engine.gate, product)
    nonce = stock.order_nonce(engine.gate, 1, None)
    attempt = stock.OrderAttempt(nonce, 1, None, keep=False)
    stock.reserve(engine.gate, lane, attempt, [(product, 3)], order_lane=lane + 1)
    sweep(engine)
    assert available(engine, product) == 2
    overdue(engine)
    sweep(engine)
    assert (available(engine, product), holds(engine)) == (5, 0)


def test_an_overdue_order_that_still_waits_in_the_outbox_is_left_to_the_drain(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    placed = order(engine, user, {product: 1})
    overdue(engine)
    sweep(engine)
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_conserved(engine)


def test_when_the_sweeper_was_first_the_drain_fails_the_order_and_gives_back(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    placed = order(engine, user, {product: 1})
    assert isinstance(placed, Submitted)
    with engine.ledger.transaction() as connection:
        end_overdue(connection, 0, 1, submitted=[placed.request_id.rsplit(".", 1)[1]])
    drain_all(engine)
    assert failure_of(engine, placed) is Refusal.TEMPORARY_ERROR
    assert (available(engine, product), balance(engine, user), holds(engine)) == (5, 1_000, 0)


def test_a_crash_after_the_commit_leaves_a_hold_that_the_sweeper_settles(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    placed = order(engine, user, {product: 1})
    with monkeypatch.context() as patch:
        patch.setattr("engine.flow.drain.end_holds", lambda *_: None)
        drain_all(engine)
    assert holds(engine) == 1
    overdue(engine)
    sweep(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert (available(engine, product), holds(engine)) == (4, 0)
    assert_conserved(engine)


def test_the_gate_that_goes_away_between_two_lanes_leaks_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = add_user(engine, 1, 10_000)
    products = [add_product(engine, 10, 5) for _ in range(8)]
    lanes = sorted({stock.lane_of_product(engine.gate, product) for product in products})
    reserve_many = stock.reserve_many

    def reserve_but_fail_last(gate: object, lane: int, attempts: object, *, order_lane: int) -> object:
        if lane == order_lane:
            raise GateUnavailable("the plug was pulled")
        return reserve_many(gate, lane, attempts, order_lane=order_lane)  # type: ignore[arg-type]

    monkeypatch.setattr(stock, "reserve_many", reserve_but_fail_last)
    with pytest.raises(GateUnavailable):
        order(engine, user, dict.fromkeys(products, 1))
    # In the last lane the outcome is unknown, so the earlier holds stay until the sweeper asks the ledger.
    assert holds(engine) == len(lanes) - 1
    overdue(engine)
    sweep(engine)
    assert holds(engine) == 0
    assert [available(engine, product) for product in products] == [5] * len(products)


def test_settling_takes_the_same_number_of_statements_for_ten_orders_and_for_a_thousand(engine: Engine) -> None:
    product = add_product(engine, 1, 5_000)
    for user in range(1, 101):
        add_user(engine, user, 1_000)

    def statements_for(orders_placed: int) -> int:
        for number in range(orders_placed):
            order(engine, 1 + number % 100, {product: 1})
        statements: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        event.listen(engine.ledger.engine, "before_cursor_execute", note)
        try:
            drain_all(engine)
        finally:
            event.remove(engine.ledger.engine, "before_cursor_execute", note)
        return len(statements)

    statements_for(1)
    few, many = statements_for(10), statements_for(1_000)
    assert few == many
    assert_conserved(engine)


def test_what_an_outbox_entry_tells_is_what_was_ordered(engine: Engine) -> None:
    from engine.gate.outbox import read_head

    product = add_product(engine, 7, 5)
    placed = order(engine, 3, {product: 2})
    lane = stock.lane_of_product(engine.gate, product)
    submitted = orders.submitted_order(read_head(engine.gate, lane, 1)[0])
    assert isinstance(placed, Submitted)
    assert (submitted.request_id, submitted.user_id, submitted.user_coupon_id) == (placed.request_id, 3, None)
    assert [(line.product_id, line.quantity, line.unit_price) for line in submitted.lines] == [(product, 2, 7)]
