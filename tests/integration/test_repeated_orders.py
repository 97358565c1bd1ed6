"""A key that is used again after its first attempt came to nothing: whoever is accepted gets what they were promised.

An order's holds in lanes before its last one are taken under the nonce that every attempt under the key shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import engine.flow.holds as holds_module
from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate import keys, stock
from engine.gate.stock import Reservation
from engine.outcomes import Refusal, Refused, RequestStatus, Submitted
from engine.upkeep.audit import audit
from engine.upkeep.guard import watch_lanes
from tests.integration.shop import (
    add_product,
    add_user,
    assert_conserved,
    available,
    drain_all,
    holds,
    order,
    overdue,
    state_of,
)
from tests.integration.sleeping import sleeps_before

Reserve = Callable[..., Reservation]


@pytest.fixture
def lanes() -> int:
    return 4


@pytest.fixture
def user(engine: Engine) -> int:
    return add_user(engine, 1, 10_000)


@pytest.fixture
def products(engine: Engine) -> list[int]:
    """Five units of each, in at least three lanes."""
    products = [add_product(engine, 10, 5) for _ in range(8)]
    assert len({stock.lane_of_product(engine.gate, product) for product in products}) > 2
    return products


def lanes_of(engine: Engine, products: list[int]) -> list[int]:
    return sorted({stock.lane_of_product(engine.gate, product) for product in products})


def die_before(monkeypatch: pytest.MonkeyPatch, engine: Engine, user: int, products: list[int], lane: int) -> None:
    """An attempt under the key that holds units in the lanes before this one and goes no further."""
    reserve: Reserve = stock.reserve

    def reserve_or_die(gate: object, of: int, *arguments: object, **named: object) -> Reservation:
        if of == lane:
            raise GateUnavailable("the web process went away")
        return reserve(gate, of, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(stock, "reserve", reserve_or_die)
        with pytest.raises(GateUnavailable):
            order(engine, user, dict.fromkeys(products, 1), key="k")


def forget(engine: Engine, lane: int) -> None:
    """This lane's server comes back empty, and the guard opens it again."""
    client: Any = engine.gate.client
    client.delete(*client.keys(f"sc:{{{lane}}}:*"))
    watch_lanes(engine)


def sweep_all(engine: Engine) -> None:
    for lane in range(engine.gate.lanes):
        holds_module.sweep_holds(engine, lane)


def assert_sold_once(engine: Engine, products: list[int], *, sold: int) -> None:
    assert [available(engine, product) for product in products] == [5 - sold] * len(products)
    assert holds(engine) == 0
    assert_conserved(engine)


def test_a_key_that_is_repeated_after_its_hold_expired_is_accepted_and_gets_its_order(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    die_before(monkeypatch, engine, user, products, lanes_of(engine, products)[-1])
    overdue(engine)
    sweep_all(engine)
    assert_sold_once(engine, products, sold=0)
    placed = order(engine, user, dict.fromkeys(products, 1), key="k")
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_sold_once(engine, products, sold=1)


def test_a_sweeper_that_slept_until_the_units_were_taken_anew_gives_nothing_back(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = lanes_of(engine, products)[-1]
    die_before(monkeypatch, engine, user, products, last)
    overdue(engine)
    placed: list[Submitted | Refused] = []

    def meanwhile() -> None:
        sweep_all(engine)  # by whoever took over
        placed.append(order(engine, user, dict.fromkeys(products, 1), key="k"))

    sleeps_before(monkeypatch, stock, "release", meanwhile)
    holds_module.sweep_holds(engine, lanes_of(engine, products)[0])
    drain_all(engine)
    assert state_of(engine, placed[0]).status is RequestStatus.COMPLETED
    assert_sold_once(engine, products, sold=1)


def test_an_attempt_that_fails_leaves_another_one_under_the_same_key_what_it_holds(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = lanes_of(engine, products)[1]
    reserve: Reserve = stock.reserve

    def fail_beside(gate: object, of: int, *arguments: object, **named: object) -> Reservation:
        if of == second:
            monkeypatch.setattr(stock, "reserve", reserve)
            die_before(monkeypatch, engine, user, products, second)
        return reserve(gate, of, *arguments, **named)

    monkeypatch.setattr(stock, "reserve", fail_beside)
    placed = order(engine, user, dict.fromkeys(products, 1), key="k")
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_sold_once(engine, products, sold=1)


def test_an_order_that_was_lost_with_its_hold_stays_failed_when_its_key_is_repeated(
    engine: Engine, user: int, products: list[int]
) -> None:
    """Submitted, so that its first answer is the answer for ever; nothing of a later attempt is held for long."""
    placed = order(engine, user, dict.fromkeys(products, 1), key="k")
    for lane in range(engine.gate.lanes):
        engine.gate.client.xtrim(f"sc:{{{lane}}}:outbox", maxlen=0)
    overdue(engine)
    sweep_all(engine)
    assert state_of(engine, placed).status is RequestStatus.FAILED
    assert order(engine, user, dict.fromkeys(products, 1), key="k") == placed
    overdue(engine)
    sweep_all(engine)
    assert state_of(engine, placed).status is RequestStatus.FAILED
    assert_sold_once(engine, products, sold=0)


def test_a_hold_of_a_repetition_does_not_pass_for_the_hold_of_the_order_that_redis_forgot(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is in the ledger and its units are gone; what a repetition takes after the rebuild has to come back."""
    placed = order(engine, user, dict.fromkeys(products, 1), key="k")
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    engine.gate.client.flushdb()
    watch_lanes(engine)
    die_before(monkeypatch, engine, user, products, lanes_of(engine, products)[-1])
    overdue(engine)
    sweep_all(engine)
    assert_sold_once(engine, products, sold=1)


def test_what_an_order_sold_stays_sold_when_a_repetition_counts_on_the_same_holds(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded, and nobody came to tell the gate: then the order's own lane forgets it, the others do not."""

    def away(*_arguments: object) -> None:
        raise GateUnavailable("killed before it could settle")

    placed = order(engine, user, dict.fromkeys(products, 1), key="k")
    with monkeypatch.context() as patch:
        patch.setattr(stock, "settle", away)
        drain_all(engine)
    forget(engine, lanes_of(engine, products)[-1])
    repeated = order(engine, user, dict.fromkeys(products, 1), key="k")
    drain_all(engine)
    assert {state_of(engine, each).status for each in (placed, repeated)} == {RequestStatus.COMPLETED}
    assert_sold_once(engine, products, sold=1)


def test_who_slept_before_giving_back_leaves_a_later_attempt_under_the_same_key_what_it_took_anew(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused in the last lane, which then forgets the refusal, and has enough again."""
    last = lanes_of(engine, products)[-1]
    placed = refuse_and_meanwhile(
        monkeypatch, engine, user, products, lambda: (overdue(engine), sweep_all(engine), forget(engine, last))
    )
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_sold_once(engine, products, sold=1)


def test_who_gives_back_leaves_another_attempt_under_the_same_key_the_holds_that_they_share(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    last = lanes_of(engine, products)[-1]
    placed = refuse_and_meanwhile(monkeypatch, engine, user, products, lambda: forget(engine, last))
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_sold_once(engine, products, sold=1)


def refuse_and_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
    user: int,
    products: list[int],
    meanwhile: Callable[[], object],
) -> Submitted | Refused:
    """Somebody is refused in the last lane and sleeps before giving back what they hold in the others. ``meanwhile``
    happens, and then an attempt under the same key, which is the result."""
    client: Any = engine.gate.client
    last = lanes_of(engine, products)[-1]
    short = next(product for product in products if stock.lane_of_product(engine.gate, product) == last)
    client.hset(keys.sku(last, short), "available", 0)
    later: list[Submitted | Refused] = []

    def asleep() -> None:
        meanwhile()
        later.append(order(engine, user, dict.fromkeys(products, 1), key="k"))

    sleeps_before(monkeypatch, stock, "release", asleep)
    assert isinstance(order(engine, user, dict.fromkeys(products, 1), key="k"), Refused)
    return later[0]


def test_what_a_later_lane_refused_stays_refused_for_that_reason_when_an_earlier_one_is_sold_out_too(
    engine: Engine, user: int, products: list[int]
) -> None:
    client: Any = engine.gate.client

    def refused_once_sold_out(lane: int) -> Submitted | Refused:
        short = next(product for product in products if stock.lane_of_product(engine.gate, product) == lane)
        client.hset(keys.sku(lane, short), "available", 0)
        return order(engine, user, dict.fromkeys(products, 1), key="k")

    first, *_, last = lanes_of(engine, products)
    refused = refused_once_sold_out(last)
    assert isinstance(refused, Refused)
    assert refused.code is Refusal.OUT_OF_STOCK
    assert refused_once_sold_out(first) == refused
    assert order(engine, user, dict.fromkeys(products, 1), key="other") != refused
    assert holds(engine) == 0


@pytest.mark.parametrize(("first", "second"), [("all", "part"), ("part", "all"), ("two lanes", "other two")])
def test_a_body_that_shares_a_part_with_the_first_one_under_its_key_is_told_apart_by_what_is_held(
    engine: Engine, user: int, products: list[int], monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    """Although the server forgot which body the key was used with."""
    in_lane = [
        [each for each in products if stock.lane_of_product(engine.gate, each) == lane]
        for lane in lanes_of(engine, products)
    ]
    bodies = {
        "all": products,
        "part": in_lane[0],
        "two lanes": in_lane[0] + in_lane[1],
        "other two": in_lane[0] + in_lane[2],
    }
    if first == "two lanes":
        slept_at = lanes_of(engine, products)[1]
        with monkeypatch.context() as patch:
            patch.setattr("engine.shop.orders._give_back", lambda *_: None)
            die_before(patch, engine, user, bodies[first], slept_at)
    else:
        assert isinstance(order(engine, user, dict.fromkeys(bodies[first], 1), key="k"), Submitted)
    client: Any = engine.gate.client
    client.delete(*client.keys("sc:*:idempotency:*"))
    held = holds(engine)
    assert order(engine, user, dict.fromkeys(bodies[second], 1), key="k") == Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
    assert holds(engine) == held
    drain_all(engine)
    overdue(engine)
    sweep_all(engine)
    assert_conserved(engine)


@pytest.mark.parametrize("balance_of_user", [10_000, 0])
def test_the_first_answer_is_given_again_although_an_earlier_lane_would_refuse_by_now(
    engine: Engine, products: list[int], balance_of_user: int
) -> None:
    """Paid or not paid, its end is known; nothing is held or refused anew."""
    first, client = lanes_of(engine, products)[0], engine.gate.client
    elsewhere = next(user for user in range(2, 20) if keys.lane_of("user", user, engine.gate.lanes) != first)
    user = add_user(engine, elsewhere, balance_of_user)
    placed = order(engine, user, dict.fromkeys(products, 1), key="k")
    drain_all(engine)
    ended = state_of(engine, placed)
    forget(engine, first)
    for product in products:
        if stock.lane_of_product(engine.gate, product) == first:
            client.hset(keys.sku(first, product), "available", 0)
    assert order(engine, user, dict.fromkeys(products, 1), key="k") == placed
    assert state_of(engine, placed) == ended
    assert holds(engine) == 0


def test_the_audit_counts_what_a_repetition_holds_that_waits_for_the_drain(
    engine: Engine, user: int, products: list[int]
) -> None:
    order(engine, user, dict.fromkeys(products, 1), key="k")
    drain_all(engine)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    order(engine, user, dict.fromkeys(products, 1), key="k")
    assert [available(engine, product) for product in products] == [3] * len(products)
    assert audit(engine).off == ()
    drain_all(engine)
    assert_sold_once(engine, products, sold=1)
