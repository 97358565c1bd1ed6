"""reserve_stock, settle_holds, release_stock, return_stock, due_holds: every answer, and what each leaves behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import BrokenContract
from engine.gate import keys
from tests.integration.shop import add_product

NONCE, OTHER = "o" + "a" * 44, "o" + "b" * 44
HOLD_MS, KEEP_MS = 30_000, 60_000
LANE, OUTBOX, BELL, HOLDS = keys.lane(0), keys.outbox(0), keys.bell(0), keys.holds(0)


@pytest.fixture
def product(engine: Engine) -> int:
    return add_product(engine, 700, 5)


def reserve(
    engine: Engine, quantities: dict[int, Any], nonce: str = NONCE, carried: tuple[Any, ...] = (), **changes: Any
) -> list[Any]:
    """The script's raw answer; ``carried`` are ids and names from earlier lanes, ``changes`` replace arguments."""
    wanted: dict[str, Any] = {
        "lane": 0,
        "epoch": engine.gate.client.hget(LANE, "epoch"),
        "nonce": nonce,
        "user": 7,
        "coupon": "",
        "hold": HOLD_MS,
        "keep": 0,
        "bell": 5000,
        "limit": 100,
        "append": 1,
        "held": "",
        "lines": "",
        **changes,
    }
    pairs = [part for pair in quantities.items() for part in pair]
    script_keys = [LANE, OUTBOX, BELL, keys.hold(0, nonce), HOLDS, *(keys.sku(0, each) for each in quantities)]
    return engine.gate.run("reserve_stock", script_keys, [*wanted.values(), *pairs, *carried])


def available(engine: Engine, product: int) -> int:
    return int(str(engine.gate.client.hget(keys.sku(0, product), "available")))


def hold(engine: Engine, nonce: str = NONCE) -> dict[str, str]:
    found: Any = engine.gate.client.hgetall(keys.hold(0, nonce))
    return dict(found)


def everything(engine: Engine) -> dict[str, bytes]:
    """All keys as they are, but for what times out by itself."""
    client: Any = engine.gate.client
    found = {}
    for key in client.scan_iter("sc:*"):
        kind = client.type(key)
        read = {"hash": client.hgetall, "string": client.get, "zset": lambda k: client.zrange(k, 0, -1)}
        found[key] = client.xlen(key) if kind == "stream" else read[kind](key)
    return found


def settle(engine: Engine, *nonces: str) -> list[Any]:
    return engine.gate.run("settle_holds", [HOLDS, *(keys.hold(0, each) for each in nonces)], list(nonces))


def release(engine: Engine, product: int, nonce: str = NONCE) -> list[Any]:
    return engine.gate.run("release_stock", [HOLDS, keys.hold(0, nonce), keys.sku(0, product)], [nonce, product])


def put_back(engine: Engine, product: int, quantity: int, epoch: str | None = None) -> list[Any]:
    current = epoch or str(engine.gate.client.hget(LANE, "epoch"))
    script_keys = [LANE, keys.returned(0, NONCE), keys.sku(0, product)]
    return engine.gate.run("return_stock", script_keys, [current, KEEP_MS, quantity])


def test_a_reservation_takes_the_units_holds_them_and_appends_the_order(engine: Engine, product: int) -> None:
    answer = reserve(engine, {product: 2}, coupon=9)
    request_id = f"0.1.1.{NONCE}"
    assert answer == ["reserved", request_id, 1, "1", f"{product}:2:700", str(product), answer[6]]
    assert available(engine, product) == 3
    assert hold(engine) == {
        "state": "held",
        "request_id": request_id,
        "lines": f"{product}:2:700",
        "keep_ms": "0",
    }
    (entry_id, fields), *others = engine.gate.client.xrange(OUTBOX)
    assert (entry_id, others) == ("1-1", [])
    assert {name: fields[name] for name in ("kind", "request_id", "nonce", "user_id", "user_coupon_id", "held")} == {
        "kind": "order",
        "request_id": request_id,
        "nonce": NONCE,
        "user_id": "7",
        "user_coupon_id": "9",
        "held": "0:1",
    }
    assert (fields["lines"], fields[f"name:{product}"]) == (f"{product}:2:700", answer[6])
    deadline = float(str(engine.gate.client.zscore(HOLDS, NONCE)))
    assert deadline == int(fields["decided_at_ms"]) + HOLD_MS
    assert engine.gate.client.ttl(keys.hold(0, NONCE)) == -1


def test_before_the_last_lane_units_are_held_and_nothing_is_appended(engine: Engine, product: int) -> None:
    assert reserve(engine, {product: 2}, append=0)[:3] == ["reserved", "", 0]
    assert (engine.gate.client.xlen(OUTBOX), available(engine, product), hold(engine)["request_id"]) == (0, 3, "")
    assert engine.gate.client.hget(LANE, "last_number") == "0"


def test_the_last_lane_tells_what_the_earlier_ones_hold(engine: Engine, product: int) -> None:
    reserve(engine, {product: 1}, held="3:8", lines="99:4:50", carried=(99, "배"))
    ((_, fields),) = engine.gate.client.xrange(OUTBOX)
    assert (fields["held"], fields["lines"], fields["name:99"]) == ("3:8 0:1", f"99:4:50 {product}:1:700", "배")


def test_the_same_nonce_gets_the_same_answer_and_takes_nothing(engine: Engine, product: int) -> None:
    first = reserve(engine, {product: 2})
    before = everything(engine)
    assert reserve(engine, {product: 2}) == ["replayed", first[1], 0, *first[3:]]
    assert everything(engine) == before


@pytest.mark.parametrize("append", [0, 1])
def test_every_short_product_is_named_and_nothing_is_left_behind(engine: Engine, product: int, append: int) -> None:
    scarce, plenty = add_product(engine, 10, 1), add_product(engine, 10, 100)
    before = everything(engine)
    answer = reserve(engine, {product: 6, plenty: 5, scarce: 2}, append=append)
    assert answer == ["out_of_stock", str(product), "5", str(scarce), "1"]
    assert everything(engine) == before


def test_an_unknown_or_inactive_product_comes_before_a_short_one(engine: Engine, product: int) -> None:
    before = everything(engine)
    assert reserve(engine, {product: 6, 404: 1}) == ["product_not_found", "404"]
    assert everything(engine) == before
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
    before = everything(engine)
    assert reserve(engine, {product: 9}, limit=1)[0] == "out_of_stock"
    assert reserve(engine, {product: 1}, limit=1) == ["backlogged"]
    assert everything(engine) == before


def test_a_lane_that_is_not_ready_comes_first_and_a_stale_epoch_second(engine: Engine, product: int) -> None:
    assert reserve(engine, {404: 1}, epoch=99) == ["stale_epoch", "1"]
    engine.gate.client.hset(LANE, "run_id", "0" * 40)
    assert reserve(engine, {product: 1}, epoch=99) == ["lane_not_ready"]
    assert available(engine, product) == 5


@pytest.mark.parametrize("quantity", [0, -1, "1.5", "x", "", "1e3"])
def test_a_quantity_that_is_none_is_an_error_and_changes_nothing(engine: Engine, product: int, quantity: Any) -> None:
    before = everything(engine)
    with pytest.raises(BrokenContract):
        reserve(engine, {product: quantity})
    assert everything(engine) == before


def test_a_hundred_buyers_at_once_get_exactly_what_there_is(engine: Engine) -> None:
    product = add_product(engine, 1, 40)
    nonces = [f"o{number:044d}" for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda nonce: reserve(engine, {product: 1}, nonce=nonce)[0], nonces))
    assert (answers.count("reserved"), answers.count("out_of_stock"), available(engine, product)) == (40, 60, 0)
    numbers = [entry_id for entry_id, _ in engine.gate.client.xrange(OUTBOX)]
    assert numbers == [f"1-{number}" for number in range(1, 41)]


def test_a_settled_hold_is_gone_its_units_are_not_back(engine: Engine, product: int) -> None:
    reserve(engine, {product: 2})
    assert settle(engine, NONCE, OTHER) == ["settled", 1]
    assert (available(engine, product), hold(engine), engine.gate.client.exists(HOLDS)) == (3, {}, 0)
    assert settle(engine, NONCE) == ["settled", 0]
    assert release(engine, product) == ["gone"]
    assert available(engine, product) == 3


def test_a_released_hold_gives_its_units_back_once(engine: Engine, product: int) -> None:
    reserve(engine, {product: 2})
    assert release(engine, product) == ["released"]
    assert release(engine, product) == ["gone"]
    assert settle(engine, NONCE) == ["settled", 0]
    assert (available(engine, product), hold(engine), engine.gate.client.exists(HOLDS)) == (5, {}, 0)


@pytest.mark.parametrize("state", ["settled", "released"])
def test_under_a_key_the_end_of_a_hold_is_remembered_and_replayed(engine: Engine, product: int, state: str) -> None:
    first = reserve(engine, {product: 2}, keep=KEEP_MS)
    if state == "settled":
        settle(engine, NONCE)
    else:
        release(engine, product)
    assert hold(engine)["state"] == state
    assert 0 < engine.gate.client.pttl(keys.hold(0, NONCE)) <= KEEP_MS
    left = available(engine, product)
    assert reserve(engine, {product: 2}, keep=KEEP_MS)[:2] == ["replayed", first[1]]
    assert available(engine, product) == left


def test_a_release_that_does_not_name_every_product_is_an_error_and_changes_nothing(
    engine: Engine, product: int
) -> None:
    reserve(engine, {product: 1, add_product(engine, 1, 5): 1})
    before = everything(engine)
    with pytest.raises(BrokenContract):
        release(engine, product)
    assert everything(engine) == before


def test_units_of_a_cancelled_order_come_back_once(engine: Engine, product: int) -> None:
    assert put_back(engine, product, 2) == ["returned"]
    assert put_back(engine, product, 2) == ["already_returned"]
    assert available(engine, product) == 7
    assert 0 < engine.gate.client.pttl(keys.returned(0, NONCE)) <= KEEP_MS


def test_a_return_needs_the_lane_as_it_is_now(engine: Engine, product: int) -> None:
    assert put_back(engine, product, 2, epoch="99") == ["stale_epoch", "1"]
    engine.gate.client.hset(LANE, "open", "0")
    assert put_back(engine, product, 2) == ["lane_not_ready"]
    assert available(engine, product) == 5


def test_due_holds_are_those_whose_deadline_has_passed_longest_overdue_first(engine: Engine) -> None:
    engine.gate.client.zadd(HOLDS, {"late": 2, "later": 1, "not yet": 9_999_999_999_999})
    assert engine.gate.run("due_holds", [HOLDS], [10]) == ["later", "late"]
    assert engine.gate.run("due_holds", [HOLDS], [1]) == ["later"]
    assert engine.gate.client.zcard(HOLDS) == 3


@pytest.mark.parametrize("script", ["reserve_stock", "settle_holds", "release_stock", "return_stock", "due_holds"])
def test_too_few_keys_or_arguments_are_an_error_and_change_nothing(engine: Engine, product: int, script: str) -> None:
    reserve(engine, {product: 1})
    before = everything(engine)
    with pytest.raises(BrokenContract):
        engine.gate.run(script, [HOLDS], [])
    assert everything(engine) == before
