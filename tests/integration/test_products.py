"""Products end to end inside the engine: put on sale, changed, published after a crash, rebuilt after a loss."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable, LedgerUnavailable
from engine.gate import keys
from engine.gate.stock import lane_of_product
from engine.ledger import products as ledger_products
from engine.outcomes import Refusal, Refused, Submitted
from engine.shop import product_offers
from engine.shop.product_offers import (
    NewProduct,
    ProductChange,
    ProductView,
    change_product,
    create_product,
    list_products,
)
from engine.upkeep.guard import Verdict, watch_lanes
from scheduler import jobs
from tests.integration.placed_orders import rows, without_ledger, without_redis
from tests.integration.products_on_sale import create, in_one_lane_and_in_several
from tests.integration.shop import add_user, assert_conserved, available, drain_all, order, stock_in_ledger


def change(engine: Engine, product_id: int, **members: Any) -> ProductView:
    product = change_product(engine, product_id, ProductChange(**members))
    assert isinstance(product, ProductView)
    return product


def sku(engine: Engine, product_id: int) -> dict[str, str]:
    found: Any = engine.gate.client.hgetall(keys.sku(lane_of_product(engine.gate, product_id), product_id))
    return dict(found)


def versions(engine: Engine) -> list[Any]:
    return rows(engine, "SELECT version, published_version FROM products ORDER BY id")


# -- administration


@in_one_lane_and_in_several
def test_a_new_product_is_in_the_ledger_at_the_gate_and_on_sale(engine: Engine) -> None:
    product = create(engine, "감귤", 1500, 10)
    assert product == ProductView(product.id, "감귤", 1500, 10, "ACTIVE")
    assert rows(engine, "SELECT name, price, stock, supplied, status FROM products") == [
        ("감귤", 1500, 10, 10, "ACTIVE")
    ]
    assert versions(engine) == [(1, 1)]
    assert sku(engine, product.id) == {
        "version": "1",
        "name": "감귤",
        "price": "1500",
        "status": "ACTIVE",
        "supplied": "10",
        "available": "10",
    }
    assert isinstance(order(engine, add_user(engine, 1, 10_000), {product.id: 1}), Submitted)


def test_a_change_is_live_at_once_and_leaves_alone_what_it_does_not_name(engine: Engine) -> None:
    product = create(engine, "감귤", 1500, 10)
    assert change(engine, product.id, price=900) == ProductView(product.id, "감귤", 900, 10, "ACTIVE")
    assert change(engine, product.id, name="한라봉") == ProductView(product.id, "한라봉", 900, 10, "ACTIVE")
    assert change(engine, product.id, add_stock=5) == ProductView(product.id, "한라봉", 900, 15, "ACTIVE")
    assert change(engine, product.id, status="INACTIVE") == ProductView(product.id, "한라봉", 900, 15, "INACTIVE")
    assert versions(engine) == [(5, 5)]
    found = sku(engine, product.id)
    assert (found["version"], found["name"], found["price"], found["status"]) == ("5", "한라봉", "900", "INACTIVE")
    assert (found["supplied"], found["available"], stock_in_ledger(engine, product.id)) == ("15", "15", 15)


def test_what_is_not_on_sale_cannot_be_ordered_until_it_is_again(engine: Engine) -> None:
    user, product = add_user(engine, 1, 10_000), create(engine, status="INACTIVE")
    refused = order(engine, user, {product.id: 1})
    assert isinstance(refused, Refused)
    assert refused.code is Refusal.PRODUCT_NOT_FOUND
    change(engine, product.id, status="ACTIVE")
    assert isinstance(order(engine, user, {product.id: 1}), Submitted)
    change(engine, product.id, status="INACTIVE")
    assert isinstance(order(engine, user, {product.id: 1}), Refused)


def test_an_unknown_product_cannot_be_changed(engine: Engine) -> None:
    product = create(engine)
    outcome = change_product(engine, product.id + 1, ProductChange(price=1, add_stock=5))
    assert isinstance(outcome, Refused)
    assert outcome.code is Refusal.PRODUCT_NOT_FOUND
    assert versions(engine) == [(1, 1)]
    assert sku(engine, product.id + 1) == {}


def test_stock_is_added_to_what_is_left_not_to_what_is_held_or_sold(engine: Engine) -> None:
    user, product = add_user(engine, 1, 100_000), create(engine, stock=10)
    order(engine, user, {product.id: 3})
    drain_all(engine)
    order(engine, user, {product.id: 7})
    assert available(engine, product.id) == 0
    assert change(engine, product.id, add_stock=4).stock == 4
    assert isinstance(order(engine, user, {product.id: 4}), Submitted)
    assert isinstance(order(engine, user, {product.id: 1}), Refused)
    drain_all(engine)
    assert_conserved(engine)
    assert stock_in_ledger(engine, product.id) == 0


@in_one_lane_and_in_several
def test_changes_and_orders_at_once_lose_no_unit_and_no_version(engine: Engine) -> None:
    user, product = add_user(engine, 1, 10_000_000), create(engine, stock=5)

    def act(number: int) -> int:
        if number % 2:
            change(engine, product.id, add_stock=number)
            return number
        order(engine, user, {product.id: 1})
        return 0

    numbers = list(range(60))
    random.Random(3).shuffle(numbers)
    with ThreadPoolExecutor(8) as pool:
        added = sum(pool.map(act, numbers))
    drain_all(engine)
    assert versions(engine) == [(31, 31)]
    assert sku(engine, product.id)["supplied"] == str(5 + added)
    assert_conserved(engine)


# -- outages and crashes between the ledger and the gate


def test_without_the_ledger_nothing_changes(engine: Engine) -> None:
    product = create(engine)
    before = sku(engine, product.id)
    with closing(without_ledger(engine)) as cut_off:
        with pytest.raises(LedgerUnavailable):
            create_product(cut_off, NewProduct("배", 1, 1, "ACTIVE"))
        with pytest.raises(LedgerUnavailable):
            change_product(cut_off, product.id, ProductChange(price=1))
    assert versions(engine) == [(1, 1)]
    assert sku(engine, product.id) == before


@in_one_lane_and_in_several
def test_what_could_not_be_published_is_published_by_the_scheduler(engine: Engine) -> None:
    product = create(engine, "감귤", 1000, 10)
    assert [each.id for each in list_products(engine)] == [product.id]
    with closing(without_redis(engine)) as cut_off:
        with pytest.raises(GateUnavailable):
            create_product(cut_off, NewProduct("배", 2000, 20, "ACTIVE"))
        with pytest.raises(GateUnavailable):
            change_product(cut_off, product.id, ProductChange(price=900, add_stock=5))
    assert versions(engine) == [(2, 1), (1, 0)]
    assert sku(engine, product.id)["price"] == "1000"

    jobs.publish_changes(engine)
    assert versions(engine) == [(2, 2), (1, 1)]
    assert (sku(engine, product.id)["price"], available(engine, product.id)) == ("900", 15)
    assert [(each.name, each.price, each.stock) for each in list_products(engine)] == [
        ("감귤", 900, 15),
        ("배", 2000, 20),
    ]


def test_a_crash_after_publishing_is_repaired_without_adding_the_stock_twice(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = create(engine, stock=10)

    def die(*_arguments: Any, **_named: Any) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_products, "mark_product_published", die)
        with pytest.raises(SystemExit):
            change(engine, product.id, add_stock=5)
    assert versions(engine) == [(2, 1)]
    assert available(engine, product.id) == 15
    order(engine, add_user(engine, 1, 10_000), {product.id: 2})

    jobs.publish_changes(engine)
    assert versions(engine) == [(2, 2)]
    assert available(engine, product.id) == 13


def test_what_is_published_is_not_published_again(engine: Engine) -> None:
    create(engine)
    assert product_offers.publish_product_changes(engine) == 0


# -- a Redis that forgot


@in_one_lane_and_in_several
def test_a_rebuild_restores_every_product_to_the_unit(engine: Engine) -> None:
    user = add_user(engine, 1, 100_000)
    sold, changed = create(engine, "감귤", 1000, 10), create(engine, "배", 2000, 20)
    hidden = create(engine, "모과", 1, 0, "INACTIVE")
    change(engine, changed.id, price=1800, add_stock=5)
    order(engine, user, {sold.id: 4, changed.id: 1})
    drain_all(engine)
    before = {product.id: sku(engine, product.id) for product in (sold, changed, hidden)}
    assert before[sold.id]["available"] == "6"

    engine.gate.client.flushdb()
    assert set(watch_lanes(engine).values()) == {Verdict.REBUILD}
    assert {product_id: sku(engine, product_id) for product_id in before} == before
    assert isinstance(order(engine, user, {sold.id: 6}), Submitted)
    assert isinstance(order(engine, user, {sold.id: 1}), Refused)


def test_units_that_were_only_held_are_free_after_a_rebuild(engine: Engine) -> None:
    product = create(engine, stock=10)
    order(engine, add_user(engine, 1, 100_000), {product.id: 4})
    assert available(engine, product.id) == 6
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert available(engine, product.id) == 10


@in_one_lane_and_in_several
def test_a_change_that_a_rebuild_has_counted_is_not_counted_again_by_its_publication(engine: Engine) -> None:
    product = create(engine, stock=10)
    with closing(without_redis(engine)) as cut_off, pytest.raises(GateUnavailable):
        change_product(cut_off, product.id, ProductChange(add_stock=5))
    engine.gate.client.flushdb()
    watch_lanes(engine)
    assert available(engine, product.id) == 15
    jobs.publish_changes(engine)
    assert versions(engine) == [(2, 2)]
    assert available(engine, product.id) == 15
