"""On a Redis Cluster: two nodes that share the slots, sixteen lanes.

A cluster refuses a script whose keys do not share a slot, and one that touches a key it did not declare; so what passes
here declares its keys truly.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster

from engine.context import Engine
from engine.errors import InvalidSettings
from engine.gate.server import refuse_eviction
from engine.outcomes import RequestStatus, Submitted
from engine.upkeep.guard import Verdict, watch_lanes
from ops.processes import free_port
from ops.valkey import server_binary
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

SLOTS = 16384
PATIENCE_SECONDS = 30
LANES = 16


def start_node(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    # The cluster bus listens 10,000 ports above the server's.
    while (port := free_port()) > 50_000:
        continue
    folder.mkdir()
    command = [str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    process = subprocess.Popen(
        [*command, "--cluster-enabled", "yes", "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
    )
    return process, port


def answers(port: int) -> bool:
    with redis.Redis(port=port) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def serves_all_slots(port: int) -> bool:
    with redis.Redis(port=port, decode_responses=True) as client:
        return bool(client.cluster("info")["cluster_state"] == "ok")


def await_all(condition: Callable[[int], bool], ports: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(condition(port) for port in ports):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("cluster")
    nodes = [start_node(folder / name) for name in ("a", "b")]
    ports = [port for _, port in nodes]
    await_all(answers, ports)
    for number, port in enumerate(ports):
        with redis.Redis(port=port) as client:
            half = SLOTS // 2
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * half, (number + 1) * half - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    with redis.Redis(port=ports[0]) as client:
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[1])
    await_all(serves_all_slots, ports)
    yield f"redis+cluster://127.0.0.1:{ports[0]}"
    for process, _ in nodes:
        process.terminate()
        process.wait(10)


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
