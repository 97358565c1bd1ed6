"""What a Redis that forgot, or came back with older data, must not change: ends that were shown, units, the numbers."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from engine.context import Engine
from engine.errors import EngineError, GateUnavailable, LedgerUnavailable
from engine.flow import followups
from engine.flow.followups import work_off
from engine.flow.requests import request_state
from engine.gate import keys, stock
from engine.gate.gate import Gate
from engine.gate.stock import Reservation
from engine.outcomes import Refusal, Refused, RequestState, RequestStatus, Submitted
from engine.shop.cancellation import cancel_order
from engine.upkeep import rebuild
from engine.upkeep.audit import audit
from engine.upkeep.guard import Verdict, watch_lane, watch_lanes
from tests.conftest import EngineMaker
from tests.integration.copies import forget_all_since, raw_copy
from tests.integration.offers import offer, win, win_all
from tests.integration.placed_orders import execute, make_due, statuses
from tests.integration.shop import (
    add_product,
    add_user,
    assert_conserved,
    available,
    drain_all,
    holds,
    order,
    state_of,
)
from tests.integration.sleeping import sleeps_before

# -- an end that was shown


def test_an_order_shown_failed_stays_failed_when_its_key_is_used_again(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    forgotten = order(engine, user, {product: 2}, key="k")
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert state_of(engine, forgotten).status is RequestStatus.FAILED
    again = order(engine, user, {product: 2}, key="k")
    drain_all(engine)
    assert state_of(engine, again).status is RequestStatus.COMPLETED
    assert state_of(engine, forgotten).status is RequestStatus.FAILED
    assert_conserved(engine)


@pytest.mark.parametrize("balance", [1_000, 0], ids=["completed", "failed"])
def test_a_repetition_of_an_order_that_only_the_ledger_remembers_ends_as_the_order_did(
    engine: Engine, balance: int
) -> None:
    user, product = add_user(engine, 1, balance), add_product(engine, 100, 5)
    first = order(engine, user, {product: 2}, key="k")
    drain_all(engine)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    again = order(engine, user, {product: 2}, key="k")
    assert again != first
    drain_all(engine)
    one, other = state_of(engine, first), state_of(engine, again)
    assert (one.status, one.result, one.error) == (other.status, other.result, other.error)
    assert one.status is (RequestStatus.COMPLETED if balance else RequestStatus.FAILED)
    assert holds(engine) == 0
    assert_conserved(engine)


# -- numbers of decisions that came back and were dropped


def test_decisions_that_came_back_after_they_were_forgotten_are_not_missed_by_the_audit(
    engine: Engine, redis_url: str
) -> None:
    coupon = offer(engine, total=5)
    earlier = raw_copy(redis_url)
    win_all(engine, coupon, (1, 2))
    later = raw_copy(redis_url)
    forget_all_since(redis_url, earlier)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    forget_all_since(redis_url, later)
    assert watch_lanes(engine) == {0: Verdict.REBUILD}
    assert audit(engine).off == ()
    kept = win(engine, coupon, 3)
    drain_all(engine)
    assert audit(engine).off == ()
    state = request_state(engine, kept.request_id)
    assert isinstance(state, RequestState)
    assert state.status is RequestStatus.COMPLETED


def test_decisions_made_until_a_lane_was_closed_for_its_rebuild_are_not_missed_either(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard examined the lane, slept, and the lane, which was open all the time, went on deciding."""
    coupon, other = offer(engine, total=5), make_engine()
    # Whoever began this epoch to rebuild the lane died before closing it.
    execute(engine, "UPDATE lane_progress SET epoch = 2, built_epoch = 2")
    execute(engine, "INSERT INTO lane_epochs (lane, epoch, begins_after, rebuilt) VALUES (0, 2, 0, true)")
    slept = sleeps_before(monkeypatch, rebuild, "close_lane", lambda: win_all(other, coupon, (1, 2)))
    assert watch_lanes(engine) == {0: Verdict.REBUILD}
    assert slept()
    assert audit(engine).off == ()


# -- units that were put back on sale


@pytest.fixture
def cancelled(engine: Engine) -> int:
    """A product of which the two units of a cancelled order are still to be returned; five there are in all."""
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    order(engine, user, {product: 2})
    drain_all(engine)
    with engine.ledger.read() as connection:
        order_id = int(connection.execute(text("SELECT id FROM orders")).scalar_one())
    cancel_order(engine, order_id, user_id=None, idempotency_key=None)
    assert available(engine, product) == 3
    return product


def test_a_server_that_came_back_without_returned_units_is_not_approved(
    engine: Engine, cancelled: int, redis_url: str
) -> None:
    copy = raw_copy(redis_url)
    work_off(engine)
    assert available(engine, cancelled) == 5
    forget_all_since(redis_url, copy)
    assert watch_lanes(engine) == {0: Verdict.REBUILD}
    assert available(engine, cancelled) == 5
    assert_conserved(engine)


def test_a_server_that_came_back_with_returned_units_is_approved(
    engine: Engine, cancelled: int, redis_url: str
) -> None:
    work_off(engine)
    forget_all_since(redis_url, raw_copy(redis_url))
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    assert available(engine, cancelled) == 5


def test_a_return_that_slept_until_the_server_had_forgotten_it_is_done_again(
    engine: Engine, cancelled: int, make_engine: EngineMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody counted on it when the lane was approved, so nobody missed it: the ledger must not take it for done."""
    copy, other, slept = raw_copy(redis_url), make_engine(), []

    def reach(point: str) -> None:
        if point == "followups.unmarked" and not slept:
            slept.append(point)
            forget_all_since(redis_url, copy)
            assert watch_lanes(other) == {0: Verdict.APPROVE}

    monkeypatch.setattr(followups, "reach", reach)
    work_off(engine)
    assert slept
    make_due(engine)
    work_off(engine)
    assert {status for (_, kind), status in statuses(engine).items() if kind == "RETURN_STOCK"} == {"DONE"}
    assert available(engine, cancelled) == 5
    assert_conserved(engine)


# -- other lanes' outboxes


@pytest.fixture
def spanning(engine: Engine) -> tuple[Submitted, int, int]:
    """An order that waits in the outbox of its last lane and holds units in its first; the order, and the two lanes."""
    user, products = add_user(engine, 1, 10_000), [add_product(engine, 10, 5) for _ in range(8)]
    placed = order(engine, user, dict.fromkeys(products, 1))
    assert isinstance(placed, Submitted)
    lanes = {stock.lane_of_product(engine.gate, product) for product in products}
    return placed, min(lanes), max(lanes)


def fail_once(monkeypatch: pytest.MonkeyPatch, lane: int, error: EngineError) -> list[int]:
    """Let the first attempt to empty the lane's outbox fail; the list has one member when it has."""
    drain_outbox, failures = rebuild._drain_outbox, list[int]()

    def drain(engine: Engine, at: int) -> int:
        if at == lane and not failures:
            failures.append(lane)
            raise error
        return drain_outbox(engine, at)

    monkeypatch.setattr(rebuild, "_drain_outbox", drain)
    return failures


@pytest.mark.parametrize("lanes", [4])
def test_a_rebuild_tries_again_to_empty_an_outbox_that_could_not_be_read(
    engine: Engine, spanning: tuple[Submitted, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, first, last = spanning
    failures = fail_once(monkeypatch, last, GateUnavailable("the connection was cut"))
    engine.gate.client.hset(keys.lane(first), "open", "0")
    assert watch_lanes(engine)[first] is Verdict.REBUILD
    assert failures
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_conserved(engine)


@pytest.mark.parametrize("lanes", [4])
def test_a_rebuild_that_cannot_record_what_waits_elsewhere_gives_up(
    engine: Engine, spanning: tuple[Submitted, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, first, last = spanning
    failures = fail_once(monkeypatch, last, LedgerUnavailable("the connection was cut"))
    engine.gate.client.hset(keys.lane(first), "open", "0")
    with pytest.raises(LedgerUnavailable):
        watch_lanes(engine)
    assert failures
    assert not engine.gate.inspect(first).open
    assert watch_lanes(engine)[first] is Verdict.REBUILD
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_conserved(engine)


@pytest.mark.parametrize("lanes", [4])
def test_a_lane_that_forgot_the_hold_of_an_order_in_the_ledger_does_not_sell_its_units_again(
    engine: Engine, redis_url: str
) -> None:
    """It has counted nothing of it: the order is in the count of its last lane, which may have been rebuilt since."""
    user, products = add_user(engine, 1, 10_000), [add_product(engine, 10, 5) for _ in range(8)]
    copy = raw_copy(redis_url)
    order(engine, user, dict.fromkeys(products, 2))
    drain_all(engine)
    forget_all_since(redis_url, copy)
    for lane in range(1, 4):
        engine.gate.client.hset(keys.lane(lane), "replid", "0" * 40)
    for lane in reversed(range(4)):
        watch_lane(engine, lane)
    assert [available(engine, product) for product in products] == [3] * len(products)
    assert_conserved(engine)


@pytest.mark.parametrize("lanes", [4])
@pytest.mark.parametrize("forgetful", [True, False], ids=["forgot all", "forgot one lane"])
def test_an_order_that_slept_between_two_lanes_while_the_first_was_rebuilt_is_not_accepted(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch, forgetful: bool
) -> None:
    user, products = add_user(engine, 1, 10_000), [add_product(engine, 10, 5) for _ in range(8)]
    lanes = sorted({stock.lane_of_product(engine.gate, product) for product in products})
    other, reserve, slept = make_engine(lanes=4), stock.reserve, []

    def sleep_and_reserve(gate: Gate, of: int, *arguments: Any, **named: Any) -> Reservation:
        if of == lanes[-1] and not slept:
            slept.append(of)
            if forgetful:
                other.gate.client.flushdb()
            else:
                other.gate.client.hset(keys.lane(lanes[0]), "replid", "0" * 40)
            watch_lanes(other)
        return reserve(gate, of, *arguments, **named)

    monkeypatch.setattr(stock, "reserve", sleep_and_reserve)
    with pytest.raises(GateUnavailable):
        order(engine, user, dict.fromkeys(products, 1), key="k")
    assert slept
    placed = order(engine, user, dict.fromkeys(products, 1), key="k")
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert holds(engine) == 0
    assert_conserved(engine)


# -- what a key was first used with


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("other", ["another product", "another quantity"])
def test_a_key_whose_first_body_redis_forgot_is_refused_where_the_order_of_that_is_remembered(
    engine: Engine, lanes: int, other: str
) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    lane = stock.lane_of_product(engine.gate, product)
    beside = add_product(engine, 100, 5)
    while stock.lane_of_product(engine.gate, beside) != lane:
        beside = add_product(engine, 100, 5)
    first = order(engine, user, {product: 2}, key="k")
    (forgotten,) = engine.gate.client.keys("sc:*:idempotency:*")
    engine.gate.client.delete(forgotten)
    body = {beside: 2} if other == "another product" else {product: 1}
    assert order(engine, user, body, key="k") == Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
    drain_all(engine)
    assert state_of(engine, first).status is RequestStatus.COMPLETED
    assert_conserved(engine)
