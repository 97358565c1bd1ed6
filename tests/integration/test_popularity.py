"""Popular products: which hours count, how they are ranked, cached and told when a store is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from redis.crc import key_slot

from engine.context import Engine
from engine.errors import GateUnavailable, LedgerUnavailable
from engine.gate import filling, keys
from engine.gate import popularity as gate_popularity
from engine.gate.popularity import PopularProduct
from engine.ledger.statistics import best_sellers
from engine.shop.popularity import popular_products, rebuild_ranking
from scheduler import jobs
from tests.integration.placed_orders import (
    add_product,
    execute,
    statements_of,
    with_settings,
    without_ledger,
    without_redis,
)

NOON = datetime(2030, 5, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
INSTANT = timedelta(microseconds=1)


def sell(engine: Engine, product_id: int, units: int, hour: datetime = NOON) -> None:
    """Count units in an hour's bucket."""
    execute(
        engine,
        """
        INSERT INTO product_stats (product_id, hour, quantity) VALUES (:product_id, :hour, :units)
        ON CONFLICT (product_id, hour) DO UPDATE SET quantity = product_stats.quantity + excluded.quantity
        """,
        product_id=product_id,
        hour=hour,
        units=units,
    )


def this_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def sold(engine: Engine, now: datetime) -> dict[int, int]:
    """Units by product id within the window that ends at ``now``."""
    with engine.ledger.read() as connection:
        return {product.product_id: product.total_sales for product in best_sellers(connection, now, 100)}


def ranked_keys(engine: Engine) -> set[str]:
    """Every key of the ranking, whatever it is for."""
    return {str(key) for key in engine.gate.client.keys("sc:*popular*")}


@contextmanager
def closing(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.close()


# -- which hours count


def test_an_hour_counts_as_long_as_it_began_within_the_last_72_hours(engine: Engine) -> None:
    product = add_product(engine)
    sell(engine, product, 5, NOON - 72 * HOUR)
    assert sold(engine, NOON) == {product: 5}
    assert sold(engine, NOON + INSTANT) == {}


def test_the_running_hour_counts_and_the_next_one_does_not_yet(engine: Engine) -> None:
    product = add_product(engine)
    sell(engine, product, 5, NOON)
    sell(engine, product, 7, NOON + HOUR)
    assert sold(engine, NOON - INSTANT) == {}
    assert sold(engine, NOON) == {product: 5}
    assert sold(engine, NOON + HOUR - INSTANT) == {product: 5}
    assert sold(engine, NOON + HOUR) == {product: 12}


def test_the_window_moves_by_whole_hours(engine: Engine) -> None:
    product = add_product(engine)
    for hours in range(80):
        sell(engine, product, 1, NOON - hours * HOUR)
    assert sold(engine, NOON) == {product: 73}
    assert sold(engine, NOON + INSTANT) == sold(engine, NOON + HOUR - INSTANT) == {product: 72}


def test_the_hours_are_utc_whatever_zone_now_is_told_in(engine: Engine) -> None:
    product = add_product(engine)
    sell(engine, product, 5, NOON - 72 * HOUR)
    seoul = datetime.fromisoformat("2030-05-10T21:00:00+09:00")
    assert sold(engine, seoul) == {product: 5}


# -- the ranking


def test_five_products_most_sold_first_ties_by_id_only_what_sold(engine: Engine) -> None:
    for product_id, units in ((10, 3), (9, 3), (100, 3), (2, 8), (7, 0), (8, -2), (1, 1), (3, 2), (11, 2)):
        add_product(engine, f"상품 {product_id}", product_id)
        sell(engine, product_id, units)
    expected = [(2, 8), (9, 3), (10, 3), (100, 3), (3, 2)]
    asked = popular_products(engine, NOON)
    cached = popular_products(without_ledger(engine))
    for found in (asked, cached):
        assert [(product.product_id, product.total_sales) for product in found] == expected
        assert found[0].name == "상품 2"


def test_sales_that_cancellations_outweigh_are_left_out(engine: Engine) -> None:
    product = add_product(engine)
    sell(engine, product, 5, NOON - HOUR)
    sell(engine, product, -5, NOON)
    assert popular_products(engine, NOON) == []


def test_the_cache_keeps_names_and_numbers_exactly(engine: Engine) -> None:
    ranking = [
        PopularProduct(2**53 - 1, "이름 with  spaces ", 2**53 - 1),
        PopularProduct(12, "", 4),
        PopularProduct(101, "none", 4),
    ]
    gate_popularity.cache_ranking(engine.gate, ranking, replace=True)
    assert gate_popularity.cached_ranking(engine.gate) == ranking


# -- the cache


def test_a_hit_does_not_ask_the_ledger(engine: Engine) -> None:
    product = add_product(engine, "감귤")
    sell(engine, product, 5)
    rebuild_ranking(engine, NOON)
    with statements_of(engine, "product_stats") as asked:
        assert popular_products(engine) == [PopularProduct(product, "감귤", 5)]
        assert asked == []
        engine.gate.client.delete(keys.popular())
        popular_products(engine)
        assert len(asked) == 1


def test_a_miss_fills_the_cache_for_an_hour(engine: Engine) -> None:
    sell(engine, add_product(engine), 5)
    popular_products(engine, NOON)
    assert ranked_keys(engine) == {keys.popular()}
    assert engine.gate.client.type(keys.popular()) == "zset"
    assert 3590 < int(engine.gate.client.ttl(keys.popular())) <= 3600


def test_that_nothing_sold_is_remembered_for_ten_minutes(engine: Engine) -> None:
    assert popular_products(engine, NOON) == []
    assert 590 < int(engine.gate.client.ttl(keys.popular())) <= 600
    with statements_of(engine, "product_stats") as asked:
        assert popular_products(engine, NOON) == []
    assert asked == []


def test_the_first_sale_replaces_the_empty_marker_and_the_last_cancellation_brings_it_back(engine: Engine) -> None:
    product = add_product(engine)
    assert rebuild_ranking(engine, NOON) == 0
    sell(engine, product, 5)
    assert rebuild_ranking(engine, NOON) == 1
    assert [found.product_id for found in popular_products(engine)] == [product]
    assert int(engine.gate.client.ttl(keys.popular())) > 600
    sell(engine, product, -5)
    assert rebuild_ranking(engine, NOON) == 0
    assert popular_products(engine) == []
    assert int(engine.gate.client.ttl(keys.popular())) <= 600


def test_a_slow_filler_does_not_replace_what_the_scheduler_rebuilt(engine: Engine) -> None:
    newer, older = [PopularProduct(1, "new", 9)], [PopularProduct(1, "old", 3)]
    gate_popularity.cache_ranking(engine.gate, newer, replace=True)
    gate_popularity.cache_ranking(engine.gate, older, replace=False)
    assert gate_popularity.cached_ranking(engine.gate) == newer
    assert ranked_keys(engine) == {keys.popular()}


def _torn_reads(engine: Engine, replace: object) -> int:
    """How many reads beside 300 replacements see neither the one ranking nor the other."""
    even = [PopularProduct(number, "even", 100 - number) for number in range(1, 6)]
    odd = [PopularProduct(number, "odd", 50 - number) for number in range(11, 16)]
    assert callable(replace)
    replace(even)
    ended = threading.Event()

    def read() -> int:
        torn = 0
        while not ended.is_set():
            torn += gate_popularity.cached_ranking(engine.gate) not in (even, odd)
        return torn

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(300):
            replace(odd if number % 2 else even)
        ended.set()
        return sum(reader.result() for reader in readers)


def test_readers_see_one_ranking_or_the_other_and_never_a_mixture(engine: Engine) -> None:
    assert _torn_reads(engine, lambda ranking: gate_popularity.cache_ranking(engine.gate, ranking, replace=True)) == 0


def test_readers_would_notice_a_ranking_that_is_replaced_piece_by_piece(engine: Engine) -> None:
    def replace(ranking: list[PopularProduct]) -> None:
        engine.gate.client.delete(keys.popular())
        for product in ranking:
            member = f"{product.product_id:019d} {product.name}"
            engine.gate.client.zadd(keys.popular(), {member: -product.total_sales})

    assert _torn_reads(engine, replace) > 0


def test_both_keys_of_a_replacement_are_in_one_cluster_slot() -> None:
    slots = {key_slot(key.encode()) for key in (keys.popular(), keys.next_popular("ab"))}
    assert len(slots) == 1
    assert key_slot(b"sc:popular:next") not in slots


# -- single flight


def ask_at_once(engines: list[Engine], askers: int) -> list[list[PopularProduct]]:
    ready = threading.Barrier(askers)

    def ask(number: int) -> list[PopularProduct]:
        ready.wait()
        return popular_products(engines[number % len(engines)])

    with ThreadPoolExecutor(askers) as pool:
        return list(pool.map(ask, range(askers)))


def test_two_hundred_misses_at_once_ask_the_ledger_once(engine: Engine) -> None:
    product = add_product(engine, "감귤")
    sell(engine, product, 5, this_hour())
    with statements_of(engine, "product_stats") as asked:
        answers = ask_at_once([engine], 200)
    assert answers == [[PopularProduct(product, "감귤", 5)]] * 200
    assert len(asked) == 1


def test_misses_in_several_processes_ask_the_ledger_once(engine: Engine) -> None:
    sell(engine, add_product(engine), 5, this_hour())
    with closing(with_settings(engine)) as second, closing(with_settings(engine)) as third:
        engines = [engine, second, third]
        with (
            statements_of(engine, "product_stats") as first_asked,
            statements_of(second, "product_stats") as second_asked,
            statements_of(third, "product_stats") as third_asked,
        ):
            answers = ask_at_once(engines, 30)
    assert len({tuple(answer) for answer in answers}) == 1
    assert len(first_asked) + len(second_asked) + len(third_asked) == 1


def test_who_waits_for_another_process_that_died_asks_in_the_end(engine: Engine) -> None:
    product = add_product(engine, "감귤")
    sell(engine, product, 5)
    assert filling.begin(engine.gate, "popular")  # and is never heard of again
    with statements_of(engine, "product_stats") as asked:
        assert popular_products(engine, NOON) == [PopularProduct(product, "감귤", 5)]
    assert len(asked) == 1
    assert 0 < int(engine.gate.client.pttl(keys.filling("popular"))) <= filling.FILLING_MS


def test_a_failed_query_lets_the_next_one_ask_at_once(engine: Engine) -> None:
    with closing(without_ledger(engine)) as cut_off, pytest.raises(LedgerUnavailable):
        popular_products(cut_off, NOON)
    assert ranked_keys(engine) == set()
    with statements_of(engine, "product_stats") as asked:
        popular_products(engine, NOON)
    assert len(asked) == 1


# -- stores that are away


def test_without_redis_the_ledger_answers(engine: Engine) -> None:
    product = add_product(engine, "감귤")
    sell(engine, product, 5)
    with closing(without_redis(engine)) as cut_off:
        assert popular_products(cut_off, NOON) == [PopularProduct(product, "감귤", 5)]
        with pytest.raises(GateUnavailable):
            rebuild_ranking(cut_off, NOON)


def test_without_the_ledger_the_cache_answers_and_a_miss_is_an_outage(engine: Engine) -> None:
    product = add_product(engine, "감귤")
    sell(engine, product, 5)
    rebuild_ranking(engine, NOON)
    with closing(without_ledger(engine)) as cut_off:
        assert popular_products(cut_off) == [PopularProduct(product, "감귤", 5)]
        with pytest.raises(LedgerUnavailable):
            rebuild_ranking(cut_off)
        assert popular_products(cut_off) == [PopularProduct(product, "감귤", 5)]
        engine.gate.client.delete(keys.popular())
        with pytest.raises(LedgerUnavailable):
            popular_products(cut_off)


def test_the_scheduler_keeps_the_ranking_up_to_date(engine: Engine) -> None:
    product = add_product(engine, "감귤")
    sell(engine, product, 5, this_hour())
    jobs.rebuild_ranking(engine)
    with closing(without_ledger(engine)) as cut_off:
        assert popular_products(cut_off) == [PopularProduct(product, "감귤", 5)]
