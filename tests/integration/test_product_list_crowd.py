"""A crowd that asks for the product list: one asks the ledger, few ask Redis, and nobody is told what is old."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest

from engine.caching import read_through
from engine.caching.single_flight import SingleFlight
from engine.context import Engine
from engine.errors import LedgerUnavailable
from engine.gate import filling, keys
from engine.gate import products as gate_products
from engine.ledger import products as ledger_products
from engine.shop.product_offers import list_products
from tests.integration.placed_orders import statements_of, with_settings, without_ledger
from tests.integration.products_on_sale import create, list_at_once


def test_two_hundred_misses_at_once_ask_the_ledger_once(engine: Engine) -> None:
    product = create(engine)
    with statements_of(engine, "products") as asked:
        answers = list_at_once([engine], 200)
    assert answers == [[product]] * 200
    assert len(asked) == 1


def most_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many calls of Redis were under way at the same moment while two hundred asked for the list."""
    guard, under_way, most = threading.Lock(), 0, 0

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            nonlocal under_way, most
            with guard:
                under_way += 1
                most = max(most, under_way)
            try:
                return call(*arguments)
            finally:
                with guard:
                    under_way -= 1

        return counted

    for name in ("cached_list", "units_available"):
        monkeypatch.setattr(gate_products, name, counting(getattr(gate_products, name)))
    list_at_once([engine], 200)
    return most


def test_a_crowd_takes_no_more_than_two_connections_to_redis(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create(engine)
    list_products(engine)
    assert most_at_once(engine, monkeypatch) <= 2  # one for the list, one for the stock


def test_a_crowd_that_takes_a_connection_each_would_be_noticed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create(engine)
    list_products(engine)
    monkeypatch.setattr(SingleFlight, "do_afresh", lambda _flights, _key, work: work())
    assert most_at_once(engine, monkeypatch) > 2


def test_misses_in_several_processes_ask_the_ledger_once(engine: Engine) -> None:
    product = create(engine)
    with ExitStack() as stack:
        engines = [stack.enter_context(closing(with_settings(engine))) for _ in range(4)]
        asked = [stack.enter_context(statements_of(each, "products")) for each in engines]
        answers = list_at_once(engines, 40)
    assert answers == [[product]] * 40
    assert sum(map(len, asked)) == 1


def test_without_single_flight_more_than_one_query_would_be_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def everybody_works(_flights: Any, _key: Any, work: Callable[[], Any]) -> Any:
        return work()

    create(engine)
    monkeypatch.setattr(SingleFlight, "do", everybody_works)
    monkeypatch.setattr(filling, "begin", lambda _gate, _name: True)
    both_ask = threading.Barrier(2)
    really_ask = ledger_products.active_products

    def ask_together(connection: Any) -> Any:
        both_ask.wait(30)
        return really_ask(connection)

    monkeypatch.setattr(ledger_products, "active_products", ask_together)
    with statements_of(engine, "products") as asked:
        list_at_once([engine], 2)
    assert len(asked) == 2


def test_who_waits_for_a_process_that_died_asks_in_the_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    product = create(engine)
    monkeypatch.setattr(read_through, "PATIENCE_SECONDS", 0.1)
    assert filling.begin(engine.gate, "products")  # and is never heard of again
    with statements_of(engine, "products") as asked:
        assert list_products(engine) == [product]
    assert len(asked) == 1
    assert 0 < int(engine.gate.client.pttl(keys.filling("products"))) <= filling.FILLING_MS


def test_who_waits_for_another_process_takes_what_that_one_cached(engine: Engine) -> None:
    product = create(engine)
    generation = gate_products.cached_list(engine.gate).generation
    assert filling.begin(engine.gate, "products")
    really_begin, turns = filling.begin, []

    def begin(gate: Any, name: str) -> bool:
        turns.append(name)
        if len(turns) == 3:
            gate_products.cache_list(gate, generation, [{**vars(product), "name": "남이 읽은"}])
        return really_begin(gate, name)

    with pytest.MonkeyPatch.context() as patch, statements_of(engine, "products") as asked:
        patch.setattr(filling, "begin", begin)
        assert [each.name for each in list_products(engine)] == ["남이 읽은"]
    assert asked == []
    assert len(turns) == 3


def test_a_failed_query_lets_the_next_one_ask_at_once(engine: Engine) -> None:
    product = create(engine)
    with closing(without_ledger(engine)) as cut_off, pytest.raises(LedgerUnavailable):
        list_products(cut_off)
    assert engine.gate.client.exists(keys.product_list(), keys.filling("products")) == 0
    assert list_products(engine) == [product]
