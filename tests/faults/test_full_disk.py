"""A Redis that cannot write its append-only file any more refuses writes: the shop is busy, it is not broken."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate import products, stock
from engine.gate.lanes import known_versions
from engine.outcomes import Submitted
from engine.upkeep.guard import watch_lanes
from ops.stores import RunningStore
from tests.conftest import EngineMaker
from tests.integration.shop import add_product, add_user, drain_all, order, state_of
from tests.stack.stack_driver import wait_until


@pytest.fixture
def engine(own_redis: RunningStore, make_engine: EngineMaker) -> Engine:
    engine = make_engine(redis_url=own_redis.url, queue_redis_url=own_redis.url)
    watch_lanes(engine)
    return engine


def limit_file_size(store: RunningStore, largest: int) -> None:
    _, most = resource.prlimit(store.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (most if largest < 0 else largest, most))


def refuses_writes(engine: Engine) -> bool:
    client: Any = engine.gate.client
    with suppress(Exception):
        client.set("filler", time.monotonic())
    return bool(client.info("persistence")["aof_last_write_status"] == "err")


def test_a_full_disk_makes_the_gate_unavailable_and_nothing_changes(engine: Engine, own_redis: RunningStore) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    limit_file_size(own_redis, 1)
    wait_until(lambda: refuses_writes(engine), "Redis has noticed")
    for key in (None, "k"):
        with pytest.raises(GateUnavailable, match="MISCONF"):
            order(engine, user, {product: 1}, key=key)
    with pytest.raises(GateUnavailable, match="MISCONF"):
        products.forget_list(engine.gate)
    assert known_versions(engine.gate, ["sc:{0}:sku:1"]) == {"sc:{0}:sku:1": 1}
    assert products.units_available(engine.gate, [product]) == {product: 5}
    limit_file_size(own_redis, -1)
    wait_until(lambda: not refuses_writes(engine), "Redis has noticed that there is room again")
    placed = order(engine, user, {product: 1}, key="k")
    assert isinstance(placed, Submitted)
    drain_all(engine)
    assert state_of(engine, placed).result is not None
    assert products.units_available(engine.gate, [product]) == {product: 4}
    assert engine.gate.client.zcard("sc:{0}:holds") == 0
    assert stock.lane_of_product(engine.gate, product) == 0
