"""``lua/reserve_stock.lua`` on a real server: every answer, its precedence, and the raw keys that it leaves behind.

And that no stock script takes another number of keys and arguments than its own; what ends a hold has its own module.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import BrokenContract
from engine.gate import keys
from engine.outcomes import ReserveStatus
from tests.integration.lane_driver import LARGEST, keyspace
from tests.integration.shop import add_product
from tests.integration.stock_driver import (
    BELL,
    HOLD_MS,
    HOLDS,
    KEEP_MS,
    LANE,
    NONCE,
    OTHER,
    OUTBOX,
    available,
    change_lane,
    change_product,
    deadlines,
    forgotten,
    hold,
    release,
    reserve,
)


@pytest.fixture
def product(engine: Engine) -> int:
    return add_product(engine, 700, 5)


def test_a_reservation_takes_the_units_holds_them_and_appends_the_order(engine: Engine, product: int) -> None:
    answer = reserve(engine, {product: 2}, coupon=9)
    request_id = f"0.1.1.{NONCE}"
    deadline = int(deadlines(engine)[NONCE])
    assert answer == ["reserved", request_id, 1, "1", str(deadline), f"{product}:2:700", str(product), answer[7]]
    assert available(engine, product) == 3
    assert hold(engine) == {
        "state": "held",
        "request_id": request_id,
        "lines": f"{product}:2:700",
        "keep_ms": "0",
        "order_lane": "0",
        "deadline_ms": str(deadline),
    }
    (entry_id, fields), *others = engine.gate.client.xrange(OUTBOX)
    assert (entry_id, others) == ("1-1", [])
    assert {name: fields[name] for name in ("kind", "request_id", "nonce", "user_id", "user_coupon_id", "held")} == {
        "kind": "order",
        "request_id": request_id,
        "nonce": NONCE,
        "user_id": "7",
        "user_coupon_id": "9",
        "held": f"0:1:{deadlines(engine)[NONCE]:.0f}",
    }
    assert (fields["lines"], fields[f"name:{product}"]) == (f"{product}:2:700", answer[7])
    assert deadline == int(fields["decided_at_ms"]) + HOLD_MS
    assert engine.gate.client.ttl(keys.hold(0, NONCE)) == -1


def test_before_the_last_lane_units_are_held_and_nothing_is_appended(engine: Engine, product: int) -> None:
    assert reserve(engine, {product: 2}, append=0)[:3] == ["reserved", "", 0]
    assert (engine.gate.client.xlen(OUTBOX), available(engine, product), hold(engine)["request_id"]) == (0, 3, "")
    assert engine.gate.client.hget(LANE, "last_number") == "0"


def test_the_last_lane_tells_what_the_earlier_ones_hold(engine: Engine, product: int) -> None:
    reserve(engine, {product: 1}, held="3:8:5", lines="99:4:50", carried=(99, "배"))
    ((_, fields),) = engine.gate.client.xrange(OUTBOX)
    assert (fields["held"], fields["lines"], fields["name:99"]) == (
        f"3:8:5,0:1:{deadlines(engine)[NONCE]:.0f}",
        f"99:4:50,{product}:1:700",
        "배",
    )


def test_the_same_nonce_gets_the_same_answer_and_takes_nothing(engine: Engine, product: int) -> None:
    first = reserve(engine, {product: 2})
    before = keyspace(engine.gate.client)
    assert reserve(engine, {product: 2}) == ["replayed", first[1], 0, *first[3:]]
    assert keyspace(engine.gate.client) == before


@pytest.mark.parametrize("append", [0, 1])
def test_every_short_product_is_named_and_nothing_is_left_behind(engine: Engine, product: int, append: int) -> None:
    scarce, plenty = add_product(engine, 10, 1), add_product(engine, 10, 100)
    before = keyspace(engine.gate.client)
    answer = reserve(engine, {product: 6, plenty: 5, scarce: 2}, append=append)
    assert answer == ["out_of_stock", str(product), "5", str(scarce), "1"]
    assert keyspace(engine.gate.client) == before


def test_an_unknown_or_inactive_product_comes_before_a_short_one(engine: Engine, product: int) -> None:
    before = keyspace(engine.gate.client)
    assert reserve(engine, {product: 6, 404: 1}) == ["product_not_found", "404"]
    assert keyspace(engine.gate.client) == before
    engine.gate.client.hset(keys.sku(0, product), "status", "INACTIVE")
    assert reserve(engine, {product: 1}) == ["product_not_found", str(product)]


@pytest.mark.parametrize("quantities", [{404: 1}, {None: 6}])
def test_a_refusal_under_a_key_is_remembered_for_a_while_and_given_again(
    engine: Engine, product: int, quantities: dict[int | None, int]
) -> None:
    wanted = {product if each is None else each: quantity for each, quantity in quantities.items()}
    refused = reserve(engine, wanted, keep=KEEP_MS)
    assert 0 < engine.gate.client.pttl(keys.hold(0, NONCE)) <= KEEP_MS
    engine.gate.client.hset(keys.sku(0, product), "available", 100)
    assert reserve(engine, wanted, keep=KEEP_MS) == refused
    assert not engine.gate.client.exists(HOLDS)


def test_a_full_outbox_refuses_after_stock_and_leaves_nothing(engine: Engine, product: int) -> None:
    reserve(engine, {product: 1}, nonce=OTHER)
    before = keyspace(engine.gate.client)
    assert reserve(engine, {product: 9}, limit=1)[0] == "out_of_stock"
    assert reserve(engine, {product: 1}, limit=1) == ["backlogged"]
    assert keyspace(engine.gate.client) == before


def test_a_lane_that_is_not_ready_comes_first_and_a_stale_epoch_second(engine: Engine, product: int) -> None:
    assert reserve(engine, {404: 1}, epoch=99) == ["stale_epoch", "1"]
    engine.gate.client.hset(LANE, "replid", "0" * 40)
    assert reserve(engine, {product: 1}, epoch=99) == ["lane_not_ready"]
    assert available(engine, product) == 5


@pytest.mark.parametrize("quantity", [0, -1, "1.5", "x", "", "1e3"])
def test_a_quantity_that_is_none_is_an_error_and_changes_nothing(engine: Engine, product: int, quantity: Any) -> None:
    before = keyspace(engine.gate.client)
    with pytest.raises(BrokenContract):
        reserve(engine, {product: quantity})
    assert keyspace(engine.gate.client) == before


def test_a_hundred_buyers_at_once_get_exactly_what_there_is(engine: Engine) -> None:
    product = add_product(engine, 1, 40)
    nonces = [f"o{number:044d}" for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda nonce: reserve(engine, {product: 1}, nonce=nonce)[0], nonces))
    assert (answers.count("reserved"), answers.count("out_of_stock"), available(engine, product)) == (40, 60, 0)
    numbers = [entry_id for entry_id, _ in engine.gate.client.xrange(OUTBOX)]
    assert numbers == [f"1-{number}" for number in range(1, 41)]


def test_a_reservation_leaves_exactly_these_keys(engine: Engine, product: int) -> None:
    client = engine.gate.client
    before = keyspace(client)
    request_id = reserve(engine, {product: 2}, keep=KEEP_MS)[1]
    after = keyspace(client)
    assert after.pop(OUTBOX)[0] == "stream"
    assert after.pop(BELL) == ("string", "1", True)
    assert after.pop(HOLDS) == ("zset", [(NONCE, *deadlines(engine).values())], False)
    record = {"state": "held", "request_id": request_id, "lines": f"{product}:2:700", "keep_ms": str(KEEP_MS)}
    record |= {"order_lane": "0", "deadline_ms": f"{deadlines(engine)[NONCE]:.0f}"}
    assert after.pop(keys.hold(0, NONCE)) == ("hash", record, False)
    before[LANE][1]["last_number"] = "1"  # type: ignore[index]
    before[keys.sku(0, product)][1]["available"] = "3"  # type: ignore[index]
    assert after == before


def test_the_answers_come_in_their_order_of_precedence(engine: Engine, product: int) -> None:
    """Everything that can be wrong is wrong at once; one thing after the other is put right."""
    mine = reserve(engine, {product: 1}, nonce=OTHER)
    unknown, short, right = {404: 1, product: 99}, {product: 99}, {product: 1}
    change_lane(engine, open=0)
    given = [reserve(engine, unknown, nonce=OTHER, epoch=99, limit=0)]
    change_lane(engine, open=1)
    given.append(reserve(engine, unknown, nonce=OTHER, epoch=99, limit=0))
    engine.gate.client.hset(keys.hold(0, OTHER), "state", "ending")
    given.append(reserve(engine, unknown, nonce=OTHER, limit=0))
    engine.gate.client.hset(keys.hold(0, OTHER), "state", "held")
    given.append(reserve(engine, unknown, nonce=OTHER, limit=0, deadline=1, append=0))
    given.append(reserve(engine, unknown, nonce=OTHER, limit=0, deadline=1))
    once = (("user:7", 1),)
    reserve(engine, {404: 1}, turns=once)  # the one turn that there is
    given.append(reserve(engine, unknown, limit=0, deadline=1, turns=once))
    given.append(reserve(engine, unknown, limit=0, turns=once))
    given.append(reserve(engine, unknown, limit=0))
    given.append(reserve(engine, short, limit=0))
    given.append(reserve(engine, right, limit=1))
    given.append(reserve(engine, right, limit=2))
    assert [answer[0] for answer in given] == list(ReserveStatus)
    assert given[4][:6] == ["replayed", mine[1], 0, "1", mine[4], f"{product}:1:700"]


@pytest.mark.parametrize("change", [{"open": "0"}, {"replid": "0" * 40}])
@pytest.mark.parametrize("keep", [0, KEEP_MS])
def test_a_lane_that_is_not_ready_and_a_stale_epoch_leave_nothing_to_remember(
    engine: Engine, product: int, change: dict[str, str], keep: int
) -> None:
    before = keyspace(engine.gate.client)
    for epoch in (0, 2, "1.0", " 1", ""):
        assert reserve(engine, {product: 1}, epoch=epoch, keep=keep) == ["stale_epoch", "1"]
    assert keyspace(engine.gate.client) == before
    change_lane(engine, **change)
    before = keyspace(engine.gate.client)
    assert reserve(engine, {product: 1}, keep=keep) == ["lane_not_ready"]
    assert keyspace(engine.gate.client) == before


def test_a_full_outbox_is_no_answer_to_remember_under_a_key(engine: Engine, product: int) -> None:
    """Busy means ask again: remembering it would make it final."""
    reserve(engine, {product: 1}, nonce=OTHER)
    before = keyspace(engine.gate.client)
    assert reserve(engine, {product: 1}, keep=KEEP_MS, limit=1) == ["backlogged"]
    assert keyspace(engine.gate.client) == before
    assert reserve(engine, {product: 1}, keep=KEEP_MS, limit=2)[0] == "reserved"


def test_a_refusal_without_a_key_is_forgotten_at_once(engine: Engine, product: int) -> None:
    assert reserve(engine, {product: 6})[0] == "out_of_stock"
    change_product(engine, product, available=6)
    assert reserve(engine, {product: 6})[0] == "reserved"


def test_a_remembered_refusal_is_forgotten_after_its_time(engine: Engine, product: int) -> None:
    assert reserve(engine, {product: 6}, keep=1)[0] == "out_of_stock"
    change_product(engine, product, available=6)
    forgotten(engine, keys.hold(0, NONCE))
    assert reserve(engine, {product: 6})[0] == "reserved"


def test_the_bell_is_rung_once_and_only_by_what_was_appended(engine: Engine, product: int) -> None:
    client = engine.gate.client
    reserve(engine, {product: 9}, nonce="refused")
    reserve(engine, {product: 1}, nonce="first lane", append=0)
    assert not client.exists(BELL)
    assert [reserve(engine, {product: 1}, nonce=nonce, bell=60_000)[2] for nonce in ("a", "b", "a")] == [1, 0, 0]
    assert 5000 < int(str(client.pttl(BELL))) <= 60_000
    client.delete(BELL)
    assert reserve(engine, {product: 1}, nonce="a")[:3:2] == ["replayed", 0]
    assert not client.exists(BELL)
    assert reserve(engine, {product: 1}, nonce="c")[2] == 1
    assert 0 < int(str(client.pttl(BELL))) <= 5000


def test_the_largest_numbers_stay_exact(engine: Engine) -> None:
    largest = str(LARGEST)
    change_product(engine, LARGEST, name="감", price=LARGEST, status="ACTIVE", available=LARGEST)
    change_lane(engine, epoch=LARGEST, built_epoch=LARGEST, last_number=LARGEST - 1)
    answer = reserve(engine, {LARGEST: LARGEST}, user=LARGEST, coupon=LARGEST)
    line = f"{largest}:{largest}:{largest}"
    deadline = str(int(deadlines(engine)[NONCE]))
    assert answer == ["reserved", f"0.{largest}.{largest}.{NONCE}", 1, largest, deadline, line, largest, "감"]
    ((entry_id, fields),) = engine.gate.client.xrange(OUTBOX)
    assert entry_id == f"{largest}-{largest}"
    assert (fields["user_id"], fields["user_coupon_id"], fields["lines"]) == (largest, largest, line)
    assert fields["held"] == f"0:{largest}:{deadlines(engine)[NONCE]:.0f}"
    assert (engine.gate.client.hget(LANE, "last_number"), available(engine, LARGEST)) == (largest, 0)
    assert release(engine, LARGEST) == ["released"]
    assert available(engine, LARGEST) == LARGEST


def test_when_the_append_is_refused_nothing_has_changed(engine: Engine, product: int) -> None:
    """Somebody else wrote into the outbox: the one write that Redis can refuse comes before all others."""
    engine.gate.client.xadd(OUTBOX, {"kind": "strange"}, id="1-5")
    before = keyspace(engine.gate.client)
    with pytest.raises(BrokenContract, match="equal or smaller"):
        reserve(engine, {product: 1})
    assert keyspace(engine.gate.client) == before


@pytest.mark.parametrize("name", ["lane", "nonce", "user_coupon_id", "order_lane", "held_until_ms", "lines"])
def test_an_order_that_does_not_say_everything_is_an_error_and_changes_nothing(
    engine: Engine, product: int, name: str
) -> None:
    before = keyspace(engine.gate.client)
    with pytest.raises(BrokenContract, match=f"was not told {name}"):
        reserve(engine, {product: 1}, **{name: None})
    assert keyspace(engine.gate.client) == before


@pytest.mark.parametrize("name", ["hold", "keep", "bell"])
@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "nan", "1e3", "0x10"])
def test_a_duration_that_is_none_is_an_error_before_anything_is_written(
    engine: Engine, product: int, name: str, value: str
) -> None:
    before = keyspace(engine.gate.client)
    with pytest.raises(BrokenContract, match="whole milliseconds"):
        reserve(engine, {product: 1}, **{name: value})
    assert keyspace(engine.gate.client) == before


@pytest.mark.parametrize(
    ("script", "key_count", "argument_count"),
    [
        *(("reserve_stock", *counts) for counts in ((0, 0), (5, 1), (6, 1), (6, 2), (6, 4), (7, 3), (7, 4))),
        *(("settle_holds", *counts) for counts in ((0, 0), (2, 1), (3, 1), (3, 3), (4, 2), (2, 2))),
        *(("release_stock", *counts) for counts in ((0, 0), (3, 4), (4, 4), (4, 6), (5, 5), (5, 7))),
        *(("return_stock", *counts) for counts in ((0, 0), (2, 3), (3, 3), (3, 5), (4, 4))),
        *(("claim_holds", *counts) for counts in ((0, 0), (3, 1), (4, 1), (4, 3), (5, 2))),
        *(("due_holds", *counts) for counts in ((0, 1), (2, 1), (1, 0), (1, 2))),
    ],
)
def test_a_wrong_number_of_keys_or_arguments_changes_nothing(
    engine: Engine, product: int, script: str, key_count: int, argument_count: int
) -> None:
    reserve(engine, {product: 1})
    before = keyspace(engine.gate.client)
    with pytest.raises(BrokenContract, match=f": {script} takes"):
        engine.gate.run(script, [f"sc:{{0}}:{number}" for number in range(key_count)], ["1"] * argument_count)
    assert keyspace(engine.gate.client) == before
