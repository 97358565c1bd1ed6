"""settle_holds, release_stock, return_stock and due_holds on a real server: a hold ends once, units come back once."""

from __future__ import annotations

from typing import Any

import pytest

from engine.context import Engine
from engine.errors import BrokenContract
from engine.gate import keys
from engine.gate.scripts import script, script_from
from tests.integration.lane_driver import keyspace
from tests.integration.shop import add_product
from tests.integration.stock_driver import (
    HOLDS,
    KEEP_MS,
    LANE,
    NONCE,
    OTHER,
    available,
    change_lane,
    change_product,
    deadlines,
    forgotten,
    hold,
    put_back,
    release,
    reserve,
    settle,
)

HOLD, RETURNED = keys.hold(0, NONCE), keys.returned(0, NONCE)


@pytest.fixture
def product(engine: Engine) -> int:
    return add_product(engine, 700, 5)


# -- settle_holds


def test_a_settled_hold_is_gone_and_its_units_are_not_back(engine: Engine, product: int) -> None:
    reserve(engine, {product: 2})
    before = keyspace(engine.gate.client)
    assert settle(engine, NONCE, OTHER) == ["settled", 1]
    assert before.pop(HOLD)
    assert before.pop(HOLDS)
    after = keyspace(engine.gate.client)
    assert after == before
    assert settle(engine, NONCE) == ["settled", 0]
    assert release(engine, product) == ["gone"]
    assert keyspace(engine.gate.client) == after
    assert available(engine, product) == 3


def test_many_holds_are_settled_at_once_each_as_it_was_made_and_others_stay(engine: Engine, product: int) -> None:
    for nonce, keep in (("kept", KEEP_MS), ("unkept", 0), ("other", 0), ("released", KEEP_MS)):
        reserve(engine, {product: 1}, nonce=nonce, keep=keep)
    release(engine, product, nonce="released")
    assert settle(engine, "kept", "unkept", "released", "unknown") == ["settled", 2]
    assert list(deadlines(engine)) == ["other"]
    states = {nonce: hold(engine, nonce).get("state") for nonce in ("kept", "unkept", "other", "released", "unknown")}
    assert states == {"kept": "settled", "unkept": None, "other": "held", "released": "released", "unknown": None}
    assert available(engine, product) == 2


# -- release_stock


def test_a_released_hold_gives_its_units_back_once(engine: Engine, product: int) -> None:
    pear = add_product(engine, 10, 9)
    reserve(engine, {product: 2, pear: 4})
    before = keyspace(engine.gate.client)
    assert release(engine, pear, product) == ["released"]
    assert before.pop(HOLD)
    assert before.pop(HOLDS)
    before[keys.sku(0, product)][1]["available"] = "5"  # type: ignore[index]
    before[keys.sku(0, pear)][1]["available"] = "9"  # type: ignore[index]
    assert keyspace(engine.gate.client) == before
    assert release(engine, product, pear) == ["gone"]
    assert settle(engine, NONCE) == ["settled", 0]
    assert keyspace(engine.gate.client) == before


def test_a_release_ends_one_hold_and_leaves_the_others(engine: Engine, product: int) -> None:
    reserve(engine, {product: 2})
    reserve(engine, {product: 1}, nonce=OTHER)
    assert release(engine, product) == ["released"]
    assert (list(deadlines(engine)), hold(engine, OTHER)["state"], available(engine, product)) == ([OTHER], "held", 4)


def test_a_release_that_means_a_hold_with_another_deadline_changes_nothing(engine: Engine, product: int) -> None:
    reserve(engine, {product: 2})
    deadline = deadlines(engine)[NONCE]
    before = keyspace(engine.gate.client)
    assert release(engine, product, deadline_ms=str(int(deadline) - 1)) == ["gone"]
    assert keyspace(engine.gate.client) == before
    assert release(engine, product, deadline_ms=str(int(deadline))) == ["released"]
    assert available(engine, product) == 5


def test_who_gives_up_leaves_a_hold_that_a_repetition_was_told_of(engine: Engine, product: int) -> None:
    reserve(engine, {product: 2}, append=0, keep=KEEP_MS)
    assert reserve(engine, {product: 2}, append=0, keep=KEEP_MS)[0] == "replayed"
    assert release(engine, product, shared=False) == ["shared"]
    assert (available(engine, product), hold(engine)["state"]) == (3, "held")
    assert release(engine, product) == ["released"]
    reserve(engine, {product: 2}, append=0, keep=KEEP_MS)  # taken anew, by one attempt
    assert release(engine, product, shared=False) == ["released"]
    assert available(engine, product) == 5


def test_a_release_that_does_not_name_every_product_is_an_error_and_changes_nothing(
    engine: Engine, product: int
) -> None:
    reserve(engine, {product: 1, add_product(engine, 1, 5): 1})
    before = keyspace(engine.gate.client)
    with pytest.raises(BrokenContract, match="every product"):
        release(engine, product)
    assert keyspace(engine.gate.client) == before


def test_a_deadline_that_outlived_its_hold_goes_with_the_next_attempt_to_end_it(engine: Engine, product: int) -> None:
    for end in (lambda: release(engine, product), lambda: settle(engine, NONCE)):
        engine.gate.client.zadd(HOLDS, {NONCE: 1})
        assert end() in (["gone"], ["settled", 0])
        assert deadlines(engine) == {}


# -- what is remembered under an idempotency key


@pytest.mark.parametrize("state", ["settled", "released"])
def test_under_a_key_the_end_of_a_hold_is_remembered_for_its_time_and_replayed(
    engine: Engine, product: int, state: str
) -> None:
    first = reserve(engine, {product: 2}, keep=KEEP_MS)
    assert settle(engine, NONCE)[0] == "settled" if state == "settled" else release(engine, product) == ["released"]
    assert hold(engine)["state"] == state
    assert 0 < int(str(engine.gate.client.pttl(HOLD))) <= KEEP_MS
    change_product(engine, product, status="INACTIVE", available=0)
    before = keyspace(engine.gate.client)
    assert reserve(engine, {product: 2}, keep=KEEP_MS, limit=0) == ["replayed", first[1], 0, first[3], "", *first[5:]]
    assert release(engine, product) == ["gone"]
    assert settle(engine, NONCE) == ["settled", 0]
    assert keyspace(engine.gate.client) == before


@pytest.mark.parametrize("state", ["settled", "released"])
def test_the_remembered_end_of_a_hold_is_forgotten_after_its_time(engine: Engine, product: int, state: str) -> None:
    reserve(engine, {product: 1}, keep=1)
    assert settle(engine, NONCE)[0] == "settled" if state == "settled" else release(engine, product) == ["released"]
    forgotten(engine, HOLD)
    assert reserve(engine, {product: 1})[0] == "reserved"


def test_a_remembered_refusal_is_no_hold_to_settle_or_release(engine: Engine, product: int) -> None:
    reserve(engine, {product: 6}, keep=KEEP_MS)
    before = keyspace(engine.gate.client)
    assert release(engine, product) == ["gone"]
    assert settle(engine, NONCE) == ["settled", 0]
    assert keyspace(engine.gate.client) == before


# -- return_stock


def test_units_of_a_cancelled_order_come_back_once(engine: Engine, product: int) -> None:
    pear = add_product(engine, 10, 0)
    before = keyspace(engine.gate.client)
    assert put_back(engine, {product: 2, pear: 3}) == ["returned", "1", "1"]
    after = keyspace(engine.gate.client)
    assert put_back(engine, {product: 2, pear: 3}) == ["already_returned", "1", "1"]
    assert keyspace(engine.gate.client) == after
    assert 0 < int(str(engine.gate.client.pttl(RETURNED))) <= KEEP_MS
    assert after.pop(RETURNED) == ("string", "1", True)
    before[LANE][1]["returned"] = "1"  # type: ignore[index]
    before[keys.sku(0, product)][1]["available"] = "7"  # type: ignore[index]
    before[keys.sku(0, pear)][1]["available"] = "3"  # type: ignore[index]
    assert after == before


def test_the_marker_of_a_return_is_what_keeps_it_from_being_done_twice(engine: Engine, product: int) -> None:
    put_back(engine, {product: 2}, keep_ms=1)
    forgotten(engine, RETURNED)
    assert put_back(engine, {product: 2}) == ["returned", "1", "2"]
    assert available(engine, product) == 9


@pytest.mark.parametrize("change", [{"open": "0"}, {"replid": "0" * 40}])
def test_the_answers_to_a_return_come_in_their_order_of_precedence(
    engine: Engine, product: int, change: dict[str, str]
) -> None:
    put_back(engine, {product: 2})
    ready: Any = engine.gate.client.hgetall(LANE)
    change_lane(engine, **change)
    before = keyspace(engine.gate.client)
    assert put_back(engine, {product: 2}, built="0") == ["lane_not_ready"]
    assert keyspace(engine.gate.client) == before
    change_lane(engine, **ready)
    before = keyspace(engine.gate.client)
    assert put_back(engine, {product: 2}, built="99") == ["lane_not_ready"]  # the ledger is ahead: it is being rebuilt
    assert put_back(engine, {product: 2}, built="0") == ["rebuilt"]
    assert put_back(engine, {product: 2}) == ["already_returned", "1", "1"]
    assert keyspace(engine.gate.client) == before
    engine.gate.client.delete(RETURNED)
    assert put_back(engine, {product: 2}) == ["returned", "1", "2"]


@pytest.mark.parametrize("quantity", [0, -1, "1.5", "x", "", "1e3"])
def test_a_return_of_something_else_than_units_is_an_error_and_changes_nothing(
    engine: Engine, product: int, quantity: Any
) -> None:
    """Neither the marker nor the units of the products before it: a second attempt would find the marker."""
    pear = add_product(engine, 10, 1)
    before = keyspace(engine.gate.client)
    with pytest.raises(BrokenContract, match="at least 1"):
        put_back(engine, {product: 2, pear: quantity})
    assert keyspace(engine.gate.client) == before


# -- due_holds


def test_due_holds_are_those_whose_deadline_has_passed_the_longest_overdue_first(engine: Engine) -> None:
    engine.gate.client.zadd(HOLDS, {"late": 2, "later": 1, "not yet": 9_999_999_999_999})
    before = keyspace(engine.gate.client)
    assert engine.gate.run("due_holds", [HOLDS], [10]) == ["later", "late"]
    assert engine.gate.run("due_holds", [HOLDS], [1]) == ["later"]
    assert engine.gate.run("due_holds", [HOLDS], [0]) == []
    assert keyspace(engine.gate.client) == before
    engine.gate.client.delete(HOLDS)
    assert engine.gate.run("due_holds", [HOLDS], [10]) == []


def test_a_hold_is_due_from_the_very_millisecond_of_its_deadline(engine: Engine) -> None:
    """The script itself, with the clock standing still at a known instant."""
    clock = "redis.call('TIME')"
    source = script("due_holds").source
    assert source.count(clock) == 1
    stopped = script_from(source.replace(clock, "{'1700000000', '123999'}"), "due_holds_with_stopped_clock")
    now_ms = 1_700_000_000_123
    engine.gate.client.zadd(HOLDS, {"before": now_ms - 1, "now": now_ms, "after": now_ms + 1})
    assert stopped.run(engine.gate.client, [HOLDS], [10]) == ["before", "now"]


def test_a_new_hold_is_not_due_and_one_of_no_time_is_due_at_once(engine: Engine, product: int) -> None:
    reserve(engine, {product: 1})
    assert engine.gate.run("due_holds", [HOLDS], [10]) == []
    reserve(engine, {product: 1}, nonce=OTHER, hold=0)
    assert engine.gate.run("due_holds", [HOLDS], [10]) == [OTHER]
