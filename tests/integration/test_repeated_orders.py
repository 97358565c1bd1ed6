"""A key that is used again after its first attempt came to nothing: whoever is accepted gets what they were promised.

An order's holds in lanes before its last one are taken under the nonce that every attempt under the key shares.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import engine.flow.holds as holds_module
from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate import stock
from engine.gate.stock import Reservation
from engine.outcomes import RequestStatus
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
    release, placed = stock.release, []

    def sleep_and_release(*arguments: object, **named: object) -> bool:
        monkeypatch.setattr(stock, "release", release)
        sweep_all(engine)  # by whoever took over meanwhile
        placed.append(order(engine, user, dict.fromkeys(products, 1), key="k"))
        return bool(release(*arguments, **named))  # type: ignore[arg-type]

    monkeypatch.setattr(stock, "release", sleep_and_release)
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
