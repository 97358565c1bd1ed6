"""The product list: what it shows, how it is cached, who asks the ledger, and what it does when a store is away."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import LedgerUnavailable
from engine.gate import keys
from engine.gate import products as gate_products
from engine.gate.stock import lane_of_product
from engine.ledger import products as ledger_products
from engine.shop.product_offers import ProductChange, ProductView, change_product, list_products
from engine.upkeep.guard import watch_lanes
from tests.integration.placed_orders import statements_of, with_settings, without_ledger, without_redis
from tests.integration.products_on_sale import create, in_one_lane_and_in_several, listed
from tests.integration.shop import add_user, order
from tests.stack.stack_driver import wait_until


def set_available(engine: Engine, product_id: int, units: int) -> None:
    """What the gate would tell if that many units were free."""
    engine.gate.client.hset(keys.sku(lane_of_product(engine.gate, product_id), product_id), "available", str(units))


# -- what it shows


@in_one_lane_and_in_several
def test_it_shows_what_is_on_sale_in_order_of_id(engine: Engine) -> None:
    apple = create(engine, "사과", 1000, 10)
    create(engine, "모과", 1, 1, "INACTIVE")
    pear = create(engine, "배", 2000, 0)
    assert list_products(engine) == [
        ProductView(apple.id, "사과", 1000, 10, "ACTIVE"),
        ProductView(pear.id, "배", 2000, 0, "ACTIVE"),
    ]


def test_cached_or_not_it_is_the_same_list(engine: Engine) -> None:
    create(engine, 'a "b" \\ 줄\n🍊', 1_000_000_000, 100_000_000)
    create(engine)
    asked = list_products(engine)
    with closing(without_ledger(engine)) as cut_off:
        assert list_products(cut_off) == asked


@in_one_lane_and_in_several
def test_its_stock_is_live_although_the_list_is_cached(engine: Engine) -> None:
    user, apple, pear = add_user(engine, 1, 100_000), create(engine, "사과"), create(engine, "배")
    assert listed(engine) == [("사과", 1000, 10), ("배", 1000, 10)]
    order(engine, user, {apple.id: 3, pear.id: 10})
    with statements_of(engine, "products") as asked:
        assert listed(engine) == [("사과", 1000, 7), ("배", 1000, 0)]
    assert asked == []


def test_units_below_zero_are_shown_as_none(engine: Engine) -> None:
    product = create(engine)
    set_available(engine, product.id, -1)
    assert listed(engine) == [("감귤", 1000, 0)]


def test_what_the_gate_does_not_know_yet_is_shown_with_the_ledgers_stock(engine: Engine) -> None:
    product = create(engine)
    engine.gate.client.delete(keys.sku(lane_of_product(engine.gate, product.id), product.id))
    assert listed(engine) == [("감귤", 1000, 10)]


# -- the cache


def test_a_miss_fills_the_cache_for_five_minutes(engine: Engine) -> None:
    product = create(engine)
    assert engine.gate.client.exists(keys.product_list()) == 0
    list_products(engine)
    assert engine.gate.client.type(keys.product_list()) == "string"
    assert 290 < int(engine.gate.client.ttl(keys.product_list())) <= 300
    content = json.loads(str(engine.gate.client.get(keys.product_list())))
    assert content["products"] == [{"id": product.id, "name": "감귤", "price": 1000, "stock": 10, "status": "ACTIVE"}]
    assert engine.gate.client.exists(keys.filling("products")) == 0


def test_a_hit_does_not_ask_the_ledger(engine: Engine) -> None:
    create(engine)
    list_products(engine)
    with statements_of(engine, "products") as asked:
        list_products(engine)
        assert asked == []
        engine.gate.client.delete(keys.product_list())
        list_products(engine)
        assert len(asked) == 1


def test_that_nothing_is_on_sale_is_cached_too(engine: Engine) -> None:
    assert list_products(engine) == []
    with statements_of(engine, "products") as asked:
        assert list_products(engine) == []
    assert asked == []


def test_every_change_is_in_the_next_list(engine: Engine) -> None:
    assert listed(engine) == []
    apple = create(engine, "사과")
    assert listed(engine) == [("사과", 1000, 10)]
    create(engine, "배")
    assert listed(engine) == [("사과", 1000, 10), ("배", 1000, 10)]
    for members, expected in (
        ({"price": 900}, ("사과", 900, 10)),
        ({"name": "부사"}, ("부사", 900, 10)),
        ({"add_stock": 5}, ("부사", 900, 15)),
    ):
        change_product(engine, apple.id, ProductChange(**members))
        assert listed(engine)[0] == expected
    change_product(engine, apple.id, ProductChange(status="INACTIVE"))
    assert listed(engine) == [("배", 1000, 10)]


# -- a change while somebody reads


class HeldQuery:
    """The ledger's answer to the first who asks, held back after it was read until the test lets it go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = threading.Event()
        self.may_return = threading.Event()
        self.asked = 0
        self._really_ask = ledger_products.active_products
        monkeypatch.setattr(ledger_products, "active_products", self._ask)

    def _ask(self, connection: Any) -> Any:
        self.asked += 1
        first = self.asked == 1
        found = self._really_ask(connection)
        if first:
            self.read.set()
            assert self.may_return.wait(30)
        return found


def list_cached_by_a_slow_reader(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is listed after a reader has cached a list that it read before the price was changed to 900."""
    product = create(engine)
    query = HeldQuery(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(listed, engine)
        assert query.read.wait(30)
        change_product(engine, product.id, ProductChange(price=900))
        query.may_return.set()
        assert slow.result() == [("감귤", 1000, 10)]
    assert engine.gate.client.exists(keys.product_list()) == 1
    return listed(engine)


def test_a_list_that_was_read_before_a_change_and_cached_after_it_counts_as_none(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_cached_by_a_slow_reader(engine, monkeypatch) == [("감귤", 900, 10)]


def test_no_list_from_before_redis_forgot_everything_ever_counts_again(engine: Engine) -> None:
    """Whoever read it may cache it only now."""
    client: Any = engine.gate.client
    product = create(engine)

    def generations_of_changes(prices: range) -> list[str]:
        found = []
        for price in prices:
            change_product(engine, product.id, ProductChange(price=price))
            found.append(client.get(keys.product_generation()))
        return found

    before = generations_of_changes(range(1, 6))
    client.flushdb()
    watch_lanes(engine)
    after = generations_of_changes(range(6, 26))
    assert len({*before, *after}) == 25


def test_without_generations_the_slow_readers_list_would_be_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget_only_what_is_cached_now(gate: Any) -> None:
        gate.client.delete(keys.product_list())

    monkeypatch.setattr(gate_products, "forget_list", forget_only_what_is_cached_now)
    assert list_cached_by_a_slow_reader(engine, monkeypatch) == [("감귤", 1000, 10)]


def test_who_reads_after_a_change_does_not_join_a_query_from_before_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = create(engine)
    query = HeldQuery(monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(listed, engine)
        assert query.read.wait(30)
        change_product(engine, product.id, ProductChange(price=900))
        after = pool.submit(listed, engine)
        try:
            # It waits a while for the one who asks already, then asks for itself.
            assert after.result(30) == [("감귤", 900, 10)]
        finally:
            query.may_return.set()
        assert before.result() == [("감귤", 1000, 10)]


# -- stores that are away


@pytest.fixture
def silent_redis() -> Iterator[tuple[str, list[socket.socket]]]:
    """The address of a server that accepts and never answers, and who has called it so far."""
    callers: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                callers.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", callers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for caller in callers:
        caller.close()


def test_without_redis_the_list_comes_from_the_ledger_with_its_stock(engine: Engine) -> None:
    product = create(engine)
    set_available(engine, product.id, 3)
    with closing(without_redis(engine)) as cut_off:
        assert listed(cut_off) == [("감귤", 1000, 10)]


def test_a_redis_that_hangs_is_waited_for_once(engine: Engine, silent_redis: tuple[str, list[socket.socket]]) -> None:
    create(engine)
    url, callers = silent_redis
    with closing(with_settings(engine, redis_url=url, gate_timeout_seconds=0.1)) as cut_off:
        assert listed(cut_off) == [("감귤", 1000, 10)]
        wait_until(lambda: callers, "the call was accepted")
    assert len(callers) == 1


def test_a_redis_that_goes_away_between_the_list_and_the_stock_costs_only_the_live_stock(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = create(engine)
    set_available(engine, product.id, 3)
    list_products(engine)
    cached = gate_products.cached_list(engine.gate)
    with closing(without_redis(engine)) as cut_off, monkeypatch.context() as patch:
        patch.setattr(gate_products, "cached_list", lambda _gate: cached)
        assert listed(cut_off) == [("감귤", 1000, 10)]
    assert listed(engine) == [("감귤", 1000, 3)]


def test_without_the_ledger_the_list_comes_from_the_cache_with_live_stock(engine: Engine) -> None:
    product = create(engine)
    list_products(engine)
    set_available(engine, product.id, 3)
    with closing(without_ledger(engine)) as cut_off:
        assert listed(cut_off) == [("감귤", 1000, 3)]
        engine.gate.client.delete(keys.product_list())
        with pytest.raises(LedgerUnavailable):
            list_products(cut_off)


def test_without_either_it_is_an_outage_of_the_ledger(engine: Engine) -> None:
    create(engine)
    list_products(engine)
    with closing(without_ledger(engine)) as cut_off, closing(without_redis(cut_off)) as alone:
        with pytest.raises(LedgerUnavailable):
            list_products(alone)
        assert len(list_products(cut_off)) == 1
