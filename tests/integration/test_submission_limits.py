"""Submissions take their turns where they are decided: in the same script call, for all processes, and not for what
was answered before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import key_slot

from engine.context import Engine
from engine.errors import TooManyAsks
from engine.gate import keys
from engine.gate.coupons import IssueAsk
from engine.gate.gate import Gate
from engine.gate.turns import PERIOD_SECONDS, TurnLimits, take_turn
from engine.outcomes import Issued, Refusal, Refused, Submitted
from engine.shop import issuance
from engine.shop.issuance import issue_coupons
from engine.shop.orders import OrderAsk, place_order
from engine.shop.product_offers import NewProduct, ProductView, create_product
from engine.upkeep.guard import watch_lanes
from ops.processes import free_port
from ops.valkey import start_valkey
from tests.conftest import EngineMaker
from tests.integration.lane_driver import keyspace
from tests.integration.offers import lane_of, offer
from tests.integration.shop import add_product

LIMIT = 3
PACE_MS = PERIOD_SECONDS * 1000 // LIMIT
USER: TurnLimits = (("user:7", LIMIT),)
BOTH: TurnLimits = (("user:7", LIMIT), ("address:192.0.2.1", 2))


@pytest.fixture(params=[1, 16], ids=["one lane", "sixteen lanes"])
def lanes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def issue(
    engine: Engine, coupon: int, user: int, limits: TurnLimits = USER, key: str | None = None
) -> Issued | Refused | int:
    """What the ask comes to; a number of milliseconds for one too many."""
    try:
        return issuance.issue_coupon(engine, coupon_id=coupon, user_id=user, idempotency_key=key, limits=limits)
    except TooManyAsks as error:
        return error.milliseconds


def order(
    engine: Engine, quantities: dict[int, int], limits: TurnLimits = USER, key: str | None = None
) -> Submitted | Refused | int:
    try:
        return place_order(engine, OrderAsk(7, tuple(sorted(quantities.items())), None, key, limits))
    except TooManyAsks as error:
        return error.milliseconds


def moment_of(engine: Engine, who: str = "user:7") -> tuple[str, str] | None:
    """The key that says when somebody's last turn was due, and what it says; None when there is none."""
    found = list(engine.gate.client.scan_iter(keys.turns(0, who).replace("{0}", "*")))
    return (str(found[0]), str(engine.gate.client.get(found[0]))) if found else None


def let_pass(engine: Engine, milliseconds: int, who: str = "user:7") -> None:
    """Put the moment back, as if so much time had passed."""
    found = moment_of(engine, who)
    assert found is not None
    engine.gate.client.set(found[0], int(found[1]) - milliseconds * 1000, keepttl=True)


def products_in_two_lanes(engine: Engine) -> list[int]:
    """Products of as many different lanes as there are, two at most."""
    found: dict[int, int] = {}
    while len(found) < min(2, engine.gate.lanes):
        product = create_product(engine, NewProduct("상품", 100, 50, "ACTIVE"))
        assert isinstance(product, ProductView)
        found.setdefault(keys.lane_of("sku", product.id, engine.gate.lanes), product.id)
    return list(found.values())


# -- how many


def test_so_many_coupons_are_asked_for_and_the_next_is_told_how_long_to_wait(engine: Engine) -> None:
    coupon = offer(engine)
    assert all(isinstance(issue(engine, coupon, user), Issued) for user in range(1, 1 + LIMIT))
    wait = issue(engine, coupon, 99)
    assert isinstance(wait, int)
    assert PACE_MS / 2 < wait <= PACE_MS
    let_pass(engine, wait)
    assert isinstance(issue(engine, coupon, 99), Issued)
    assert isinstance(issue(engine, coupon, 100), int)


def test_so_many_orders_are_placed_and_the_next_is_told_how_long_to_wait(engine: Engine) -> None:
    product = add_product(engine, 100, 50)
    assert all(isinstance(order(engine, {product: 1}), Submitted) for _ in range(LIMIT))
    wait = order(engine, {product: 1})
    assert isinstance(wait, int)
    assert PACE_MS / 2 < wait <= PACE_MS
    let_pass(engine, wait)
    assert isinstance(order(engine, {product: 1}), Submitted)
    assert isinstance(order(engine, {product: 1}), int)


def test_without_limits_everybody_asks_as_often_as_they_like(engine: Engine) -> None:
    """The negative control of the two above."""
    coupon, product = offer(engine), add_product(engine, 100, 50)
    assert all(isinstance(issue(engine, coupon, user, ()), Issued) for user in range(1, 10 * LIMIT))
    assert all(isinstance(order(engine, {product: 1}, ()), Submitted) for _ in range(10 * LIMIT))
    assert moment_of(engine) is None


def test_asks_in_one_call_are_counted_as_if_they_had_come_one_after_the_other(engine: Engine) -> None:
    coupon = offer(engine)
    others: TurnLimits = (("user:8", 1), ("address:192.0.2.1", 4))
    asks = [IssueAsk(coupon, user, None, (*USER, ("address:192.0.2.1", 4))) for user in range(1, 6)]
    asks[1:1] = [IssueAsk(coupon, 50, None, others), IssueAsk(coupon, 51, None, others), IssueAsk(coupon, 52)]
    outcomes, _ = issue_coupons(engine, lane_of(engine, coupon), asks)
    granted = [isinstance(outcome, Issued) for outcome in outcomes]
    #                 user:7, user:8, again,  nobody's, 7: the address' third and fourth, then one too many of both
    assert granted == [True, True, False, True, True, True, False, False]
    assert [outcome.sequence for outcome in outcomes if isinstance(outcome, Issued)] == [1, 2, 3, 4, 5]


def test_of_many_who_ask_at_once_exactly_so_many_are_decided(engine: Engine) -> None:
    coupon, product = offer(engine), add_product(engine, 100, 50)
    with ThreadPoolExecutor(8) as crowd:
        issued = list(crowd.map(lambda user: issue(engine, coupon, user), range(1, 61)))
        placed = list(crowd.map(lambda _: order(engine, {product: 1}, (("user:8", LIMIT),)), range(60)))
    assert sum(isinstance(outcome, Issued) for outcome in issued) == LIMIT
    assert sum(isinstance(outcome, Submitted) for outcome in placed) == LIMIT


# -- what counts


def test_what_is_refused_counts_as_well(engine: Engine) -> None:
    coupon, product = offer(engine, total=1), add_product(engine, 100, 1)
    issue(engine, coupon, 1, ())
    outcomes = [issue(engine, coupon, 7) for _ in range(LIMIT + 1)]
    assert [outcome.code for outcome in outcomes[:-1] if isinstance(outcome, Refused)] == [
        Refusal.COUPON_CLOSED
    ] * LIMIT
    assert isinstance(outcomes[-1], int)
    own: TurnLimits = (("user:8", LIMIT),)
    short = [order(engine, {product: 9}, own) for _ in range(LIMIT + 1)]
    assert [outcome.code for outcome in short[:-1] if isinstance(outcome, Refused)] == [Refusal.OUT_OF_STOCK] * LIMIT
    assert isinstance(short[-1], int)


def test_who_is_told_to_wait_changes_nothing_and_is_counted_against_none_of_the_limits(engine: Engine) -> None:
    coupon, product = offer(engine), add_product(engine, 100, 50)
    for quantities in ({}, {product: 1}):
        limits: TurnLimits = (("user:7", LIMIT), (f"address:{len(quantities)}", 2))

        def ask(user: int, limits: TurnLimits = limits, quantities: dict[int, int] = quantities) -> Any:
            return order(engine, quantities, limits) if quantities else issue(engine, coupon, user, limits)

        assert not any(isinstance(ask(user), int) for user in (1, 2))
        before = keyspace(engine.gate.client)
        assert all(isinstance(ask(3), int) for _ in range(5))
        assert keyspace(engine.gate.client) == before
        assert isinstance(ask(4), int)
        engine.gate.client.delete(moment_of(engine)[0])  # type: ignore[index]


def test_a_granted_coupon_is_told_again_under_its_key_however_often(engine: Engine) -> None:
    coupon = offer(engine)
    first = issue(engine, coupon, 7, key="k")
    while not isinstance(issue(engine, coupon, 8), int):
        pass
    before = moment_of(engine)
    assert [issue(engine, coupon, 7, key="k") for _ in range(5)] == [first] * 5
    assert moment_of(engine) == before
    assert isinstance(issue(engine, coupon, 7), int)  # without the key it is another ask


def test_an_answered_order_is_told_again_under_its_key_however_often(engine: Engine) -> None:
    product = add_product(engine, 100, 5)
    placed, refused = order(engine, {product: 1}, key="a"), order(engine, {product: 9}, key="b")
    while not isinstance(order(engine, {product: 1}), int):
        pass
    before = moment_of(engine)
    assert [order(engine, {product: 1}, key="a") for _ in range(3)] == [placed] * 3
    assert [order(engine, {product: 9}, key="b") for _ in range(3)] == [refused] * 3
    assert moment_of(engine) == before


def test_to_be_told_to_wait_is_not_the_answer_that_a_key_gets_for_ever(engine: Engine) -> None:
    coupon, product = offer(engine), add_product(engine, 100, 5)
    once: TurnLimits = (("user:7", 1),)
    assert isinstance(order(engine, {product: 1}, once, key="first"), Submitted)
    assert isinstance(order(engine, {product: 2}, once, key="k"), int)
    let_pass(engine, PERIOD_SECONDS * 1000)
    assert isinstance(order(engine, {product: 2}, once, key="k"), Submitted)
    engine.gate.client.delete(moment_of(engine)[0])  # type: ignore[index]
    assert isinstance(issue(engine, coupon, 1, once), Issued)
    assert isinstance(issue(engine, coupon, 7, once, key="k"), int)
    let_pass(engine, PERIOD_SECONDS * 1000)
    assert isinstance(issue(engine, coupon, 7, once, key="k"), Issued)


def test_an_order_of_several_lanes_takes_one_turn_and_holds_nothing_when_it_has_to_wait(engine: Engine) -> None:
    products = products_in_two_lanes(engine)
    quantities = dict.fromkeys(products, 1)
    assert all(isinstance(order(engine, quantities), Submitted) for _ in range(LIMIT))
    before = keyspace(engine.gate.client)
    assert isinstance(order(engine, quantities), int)
    assert keyspace(engine.gate.client) == before
    assert len(list(engine.gate.client.scan_iter("sc:*:turns:*"))) == 1


# -- how it is kept


def test_a_turn_here_is_a_turn_of_take_turn(engine: Engine) -> None:
    """On one lane they share a budget; what the two kinds of scripts keep is the same."""
    coupon, product = offer(engine), add_product(engine, 100, 50)
    for who in ("user:7", "user:8"):
        limits: TurnLimits = ((who, LIMIT),)
        _ = issue(engine, coupon, 1, limits) if who == "user:7" else order(engine, {product: 1}, limits)
        by_decision = moment_of(engine, who)
        take_turn(engine.gate, {f"{who}0": LIMIT})
        by_take_turn = moment_of(engine, f"{who}0")
        assert by_decision is not None
        assert by_take_turn is not None
        assert 0 <= int(by_take_turn[1]) - int(by_decision[1]) < 5_000_000
        lifetimes = [engine.gate.client.pttl(key) for key, _ in (by_decision, by_take_turn)]
        assert all(0 < lifetime <= PACE_MS for lifetime in lifetimes)


def test_a_clock_that_was_set_back_locks_nobody_out(engine: Engine) -> None:
    coupon = offer(engine)
    issue(engine, coupon, 1)
    let_pass(engine, -24 * 3600 * 1000)
    wait = issue(engine, coupon, 2)
    assert isinstance(wait, int)
    assert 0 < wait <= PACE_MS


class Slots:
    """The slots of the keys of every script call."""

    def __init__(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of_calls: list[set[int]] = []
        self.turns = 0
        run = gate.run

        def noted(name: str, script_keys: Any, arguments: Any) -> list[Any]:
            self.of_calls.append({key_slot(key.encode()) for key in script_keys})
            self.turns += sum(":turns:" in key for key in script_keys)
            return run(name, script_keys, arguments)

        monkeypatch.setattr(gate, "run", noted)


def test_all_keys_of_a_call_live_in_one_slot_of_a_cluster(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    coupon, products = offer(engine), products_in_two_lanes(engine)
    slots = Slots(engine.gate, monkeypatch)
    issue(engine, coupon, 7, BOTH)
    order(engine, dict.fromkeys(products, 1), BOTH)
    assert all(len(of_call) == 1 for of_call in slots.of_calls)
    assert slots.turns == 4


def commands(engine: Engine) -> dict[str, int]:
    """How often the server ran which command, those that scripts run included."""
    statistics: dict[str, Any] = engine.gate.client.info("commandstats")
    names = ("get", "mget", "set", "evalsha", "hmget", "time")
    return {name: int(statistics.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in names}


@pytest.fixture
def counting_engine(tmp_path: Path, make_engine: EngineMaker, lanes: int) -> Iterator[Engine]:
    """On a server of its own: commands are counted for all its databases, other tests' too."""
    store = start_valkey(tmp_path / "valkey", free_port())
    engine = make_engine(redis_url=store.url, queue_redis_url=store.url, lanes=lanes)
    watch_lanes(engine)
    yield engine
    store.stop()


def test_what_has_no_limit_costs_no_command_more(counting_engine: Engine) -> None:
    engine = counting_engine
    coupon, product = offer(engine), add_product(engine, 100, 50)
    issue(engine, coupon, 1, ())
    order(engine, {product: 1}, ())  # by now the scripts are loaded and the bells armed
    counts = []
    for number, limits in enumerate(((), (("user:7", 100),))):
        engine.gate.client.config_resetstat()
        issue(engine, coupon, 2 + number, limits)
        order(engine, {product: 1}, limits)
        counts.append(commands(engine))
    without, with_limits = counts
    assert without == {"get": 0, "mget": 0, "set": 2, "evalsha": 2, "hmget": without["hmget"], "time": 2}
    assert with_limits == {**without, "get": 1, "mget": 1, "set": 4}
