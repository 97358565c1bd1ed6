"""publish_product.lua: what it writes, what it leaves alone, and that units are neither made nor lost by it."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis.crc import key_slot

from engine.context import Engine
from engine.errors import BrokenContract, GateUnavailable
from engine.gate import keys, products
from engine.gate.products import ProductTerms
from engine.gate.scripts import Argument, Script, script, script_from

PRODUCT = 7
LANE, SKU = keys.lane(0), keys.sku(0, PRODUCT)
LARGEST = 2**53 - 1


def epoch(engine: Engine) -> str:
    return str(engine.gate.client.hget(LANE, "epoch"))


def publish(
    engine: Engine,
    version: int,
    supplied: int,
    *,
    name: str = "감귤",
    price: int = 1000,
    status: str = "ACTIVE",
    under_epoch: str | None = None,
    by: Script | None = None,
) -> list[Any]:
    """One call of the script, its reply as it is."""
    arguments: list[Argument] = [under_epoch or epoch(engine), version, name, price, status, supplied]
    return (by or script("publish_product")).run(engine.gate.client, [LANE, SKU], arguments)


def sku(engine: Engine) -> dict[str, str]:
    found: Any = engine.gate.client.hgetall(SKU)
    return dict(found)


def everything(engine: Engine) -> dict[str, str]:
    """A digest of the content of every key. Made by the server: a client that decodes texts cannot read a DUMP."""
    client = engine.gate.client
    digest = "return redis.sha1hex(redis.call('DUMP', KEYS[1]))"
    return {str(key): str(client.eval(digest, 1, str(key))) for key in client.keys("*")}


def take(engine: Engine, units: int) -> None:
    """What a hold does to the units free to take."""
    engine.gate.client.hincrby(SKU, "available", -units)


def test_the_first_publication_writes_one_hash_and_nothing_else(engine: Engine) -> None:
    before = everything(engine)
    assert publish(engine, 1, 50) == ["published", "50", "1"]
    assert sku(engine) == {
        "version": "1",
        "name": "감귤",
        "price": "1000",
        "status": "ACTIVE",
        "supplied": "50",
        "available": "50",
    }
    after = everything(engine)
    assert after.pop(SKU)
    assert after == before
    assert engine.gate.client.ttl(SKU) == -1


def test_the_same_version_again_changes_nothing(engine: Engine) -> None:
    publish(engine, 3, 50)
    take(engine, 8)
    before = everything(engine)
    assert publish(engine, 3, 50) == ["unchanged", "42", "1"]
    assert everything(engine) == before


def test_an_older_version_never_replaces_a_newer_one(engine: Engine) -> None:
    publish(engine, 10, 50, name="배", price=2000, status="INACTIVE")
    before = everything(engine)
    # 9 is older than 10 as a number, though not as a text.
    assert publish(engine, 9, 40) == ["unchanged", "50", "1"]
    assert everything(engine) == before


def test_a_newer_version_adds_what_came_in_and_leaves_away_what_was_taken(engine: Engine) -> None:
    publish(engine, 1, 50)
    take(engine, 50)
    assert publish(engine, 2, 65, name="배", price=1, status="INACTIVE") == ["published", "15", "1"]
    assert sku(engine) == {
        "version": "2",
        "name": "배",
        "price": "1",
        "status": "INACTIVE",
        "supplied": "65",
        "available": "15",
    }


def test_a_version_that_was_never_published_on_its_own_is_not_lost_with_its_stock(engine: Engine) -> None:
    publish(engine, 1, 50)
    assert publish(engine, 4, 80) == ["published", "80", "1"]
    assert publish(engine, 2, 60) == ["unchanged", "80", "1"]
    assert publish(engine, 3, 70) == ["unchanged", "80", "1"]


@pytest.mark.parametrize("name", ["x", " a  b ", 'quote " and \\', "줄\n바꿈", "🍊", "0", "nil", "1e3"])
def test_a_name_is_kept_as_it_is(engine: Engine, name: str) -> None:
    publish(engine, 1, 1, name=name)
    assert sku(engine)["name"] == name


def test_the_largest_numbers_stay_exact(engine: Engine) -> None:
    assert publish(engine, LARGEST - 1, LARGEST - 1, price=LARGEST) == ["published", str(LARGEST - 1), "1"]
    assert publish(engine, LARGEST, LARGEST, price=LARGEST) == ["published", str(LARGEST), "1"]
    assert publish(engine, LARGEST, LARGEST) == ["unchanged", str(LARGEST), "1"]
    found = sku(engine)
    assert {found[field] for field in ("version", "price", "supplied", "available")} == {str(LARGEST)}


# -- refusals, in their order


@pytest.mark.parametrize(("field", "value"), [("open", "0"), ("replid", "0" * 40)], ids=["closed", "another server"])
def test_a_lane_that_is_not_ready_says_so_before_anything_else(engine: Engine, field: str, value: str) -> None:
    publish(engine, 5, 50)
    engine.gate.client.hset(LANE, field, value)
    before = everything(engine)
    for version, believed in ((6, epoch(engine)), (6, "999"), (5, epoch(engine))):
        assert publish(engine, version, 60, under_epoch=believed) == ["lane_not_ready"]
    assert everything(engine) == before


def test_a_server_that_forgot_everything_is_not_ready(engine: Engine) -> None:
    engine.gate.client.flushdb()
    assert publish(engine, 1, 50, under_epoch="1") == ["lane_not_ready"]
    assert everything(engine) == {}


def test_who_believes_in_another_epoch_is_told_the_right_one_before_versions_count(engine: Engine) -> None:
    publish(engine, 5, 50)
    before = everything(engine)
    for version in (5, 6):
        assert publish(engine, version, 60, under_epoch="999") == ["stale_epoch", epoch(engine)]
    assert everything(engine) == before


@pytest.mark.parametrize(("key_count", "argument_count"), [(1, 6), (3, 6), (2, 5), (2, 7), (0, 0)])
def test_a_wrong_number_of_keys_or_arguments_is_an_error_and_changes_nothing(
    engine: Engine, key_count: int, argument_count: int
) -> None:
    before = everything(engine)
    names = [LANE, SKU, keys.sku(0, 8)][:key_count]
    arguments = [epoch(engine), "1", "감귤", "1000", "ACTIVE", "50", "more"][:argument_count]
    with pytest.raises(BrokenContract, match="2 keys and 6 arguments"):
        engine.gate.run("publish_product", names, arguments)
    assert everything(engine) == before


# -- from the engine's side


def test_a_publisher_learns_a_new_epoch_by_itself_and_a_closed_lane_is_an_outage(engine: Engine) -> None:
    terms = ProductTerms(PRODUCT, 1, "감귤", 1000, "ACTIVE", 50)
    engine.gate.known_lane(0)
    engine.gate.client.hincrby(LANE, "epoch", 1)
    products.publish(engine.gate, terms)
    assert sku(engine)["available"] == "50"
    engine.gate.client.hset(LANE, "open", "0")
    with pytest.raises(GateUnavailable):
        products.publish(engine.gate, terms)


def test_the_keys_of_one_call_are_in_one_cluster_slot() -> None:
    for lane in (0, 15):
        assert key_slot(keys.lane(lane).encode()) == key_slot(keys.sku(lane, PRODUCT).encode())
    assert key_slot(keys.lane(0).encode()) != key_slot(keys.sku(1, PRODUCT).encode())


# -- units are neither made nor lost


def findings(engine: Engine, by: Script) -> set[str]:
    """What is wrong after 40 versions were published in a random order, each twice, while others took units."""
    publish(engine, 1, 1000, by=by)
    versions = [version for version in range(1, 41) for _ in range(2)]
    random.Random(7).shuffle(versions)

    def publish_and_take(version: int) -> int:
        publish(engine, version, 1000 + 10 * version, by=by)
        take(engine, 3)
        return 3

    with ThreadPoolExecutor(8) as pool:
        taken = sum(pool.map(publish_and_take, versions))
    taken += publish_and_take(2)  # however the threads were scheduled, an old version is the last to arrive
    found = sku(engine)
    wrong = set()
    if int(found["available"]) + taken != int(found["supplied"]):
        wrong.add("units were made or lost")
    if (found["version"], found["supplied"]) != ("40", "1400"):
        wrong.add("an older version replaced a newer one")
    return wrong


def test_no_unit_is_made_or_lost_whatever_the_order_and_number_of_publications(engine: Engine) -> None:
    assert findings(engine, script("publish_product")) == set()


@pytest.mark.parametrize(
    ("guard", "without", "finding"),
    [
        ("tonumber(supplied) - tonumber(known[2] or '0')", "tonumber(supplied)", "units were made or lost"),
        ("tonumber(known[1]) >= tonumber(version)", "false", "an older version replaced a newer one"),
    ],
    ids=["adds all that ever came in", "takes older versions"],
)
def test_a_script_without_its_guards_would_be_noticed(engine: Engine, guard: str, without: str, finding: str) -> None:
    source = script("publish_product").source
    assert source.count(guard) == 1
    assert findings(engine, script_from(source.replace(guard, without), "broken_publish_product")) == {finding}
