"""On a Redis Cluster: two nodes that share the slots, sixteen lanes.

A cluster refuses a script whose keys do not share a slot, and one that touches a key it did not declare; so what passes
here declares its keys truly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

import pytest
from redis.cluster import RedisCluster

from engine.context import Engine
from engine.errors import InvalidSettings
from engine.gate.server import refuse_eviction
from engine.outcomes import RequestStatus, Submitted
from engine.upkeep.guard import Verdict, watch_lanes
from tests.cluster.members import PASSWORD, Member, data_servers
from tests.conftest import EngineMaker
from tests.integration.shop import (
    add_held_coupon,
    add_product,
    add_user,
    assert_conserved,
    drain_all,
    holds,
    order,
    state_of,
)
from tests.stack.stack_driver import wait_until

SLOTS = 16384
ANNOUNCED_AS = "cluster-announce-port"
LANES = 16


def serves_all_slots(node: Member) -> bool:
    return bool(node.run("CLUSTER INFO")["cluster_state"] == "ok")


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"cluster-enabled": "yes"}
    with data_servers(tmp_path_factory.mktemp("cluster"), ("a", "b"), settings, nullcontext, ANNOUNCED_AS) as nodes:
        for number, node in enumerate(nodes):
            half = SLOTS // 2
            node.run("CLUSTER", "ADDSLOTSRANGE", number * half, (number + 1) * half - 1)
            node.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        nodes[0].run("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, nodes[1].bus_port)
        wait_until(lambda: all(serves_all_slots(node) for node in nodes), "both serve all slots")
        yield f"redis+cluster://:{quote(PASSWORD, safe='')}@127.0.0.1:{nodes[0].port}"


@pytest.fixture
def engine(cluster_url: str, redis_url: str, make_engine: EngineMaker) -> Engine:
    engine = make_engine(lanes=LANES, redis_url=cluster_url, queue_redis_url=redis_url)
    client: Any = engine.gate.client
    client.flushdb(target_nodes=RedisCluster.PRIMARIES)
    assert set(watch_lanes(engine).values()) == {Verdict.REBUILD}
    return engine


def test_lanes_live_on_both_nodes(engine: Engine) -> None:
    assert len({engine.gate.inspect(lane).replid for lane in range(LANES)}) == 2


def test_coupons_orders_and_rebuilds_work_across_nodes(engine: Engine) -> None:
    user = add_user(engine, 1, 100_000)
    products = [add_product(engine, 1_000, 5) for _ in range(10)]
    coupon = add_held_coupon(engine, user, 500)
    placed = order(engine, user, dict.fromkeys(products, 2), coupon, key="k")
    assert order(engine, user, dict.fromkeys(products, 2), coupon, key="k") == placed
    assert isinstance(placed, Submitted)
    drain_all(engine)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert holds(engine) == 0
    assert_conserved(engine)
    client: Any = engine.gate.client
    client.flushdb(target_nodes=RedisCluster.PRIMARIES)
    assert set(watch_lanes(engine).values()) == {Verdict.REBUILD}
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert_conserved(engine)


def test_one_node_that_evicts_is_enough_to_refuse_the_cluster(engine: Engine) -> None:
    client = engine.gate.client
    assert isinstance(client, RedisCluster)
    refuse_eviction(engine.gate)
    node = client.get_nodes()[-1]
    client.config_set("maxmemory-policy", "allkeys-lru", target_nodes=node)
    try:
        with pytest.raises(InvalidSettings, match="allkeys-lru"):
            refuse_eviction(engine.gate)
    finally:
        client.config_set("maxmemory-policy", "noeviction", target_nodes=node)
