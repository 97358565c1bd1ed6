"""What is tried on the topologies: each scenario is a rush with a fault, small in the tests and large by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.context import Engine
from engine.gate import keys
from loadtests.facts import connect
from ops.stack import Stack
from tests.cluster.members import PASSWORD, Member, data_server
from tests.cluster.rushes import CLUSTER_LANES, Ended, asleep, coupon_rush, order_rush, stack_on
from tests.cluster.sentinel import SentinelTopology, sentinel_topology
from tests.cluster.shards import ClusterTopology, cluster_topology
from tests.integration.stack_driver import wait_until

BEHIND = 50
"""How many decisions of a lane a replica misses before it takes over."""


@contextmanager
def sentinel_stack(folder: Path) -> Iterator[tuple[SentinelTopology, Stack]]:
    """The whole stack on Sentinel, the queue with it."""
    with sentinel_topology(folder) as topology, stack_on(topology.url) as stack:
        yield topology, stack


@contextmanager
def cluster_stack(folder: Path) -> Iterator[tuple[ClusterTopology, Stack]]:
    """The whole stack on a cluster, the queue on a Redis of its own."""
    with cluster_topology(folder) as topology, data_server(folder, "queue") as queue:
        queue.await_answer()
        with stack_on(topology.url, url_of(queue), CLUSTER_LANES) as stack:
            yield topology, stack


def url_of(server: Member) -> str:
    """What REDIS_URL is for one server."""
    return f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{server.known_port}/0"


def coupon_rush_while_the_primary_dies(folder: Path, **sizes: int) -> Ended:
    """Sentinel: kill -9 of the primary."""
    with sentinel_stack(folder) as (topology, stack):
        return coupon_rush(stack, folder, lambda: topology.primary.kill(), **sizes)


def order_rush_while_the_primary_dies(folder: Path, **sizes: int) -> Ended:
    """Sentinel: kill -9 of the primary."""
    with sentinel_stack(folder) as (topology, stack):
        return order_rush(stack, folder, lambda: topology.primary.kill(), **sizes)


def coupon_rush_while_a_shard_loses_its_primary(folder: Path, **sizes: int) -> Ended:
    """Cluster: kill -9 of the primary that has the coupon."""
    with cluster_stack(folder) as (topology, stack):
        return coupon_rush(stack, folder, lambda: _primary_of(topology, "coupon").kill(), **sizes)


def order_rush_while_a_shard_loses_its_primary(folder: Path, **sizes: int) -> Ended:
    """Cluster: kill -9 of the primary that has the product that everybody wants."""
    with cluster_stack(folder) as (topology, stack):
        return order_rush(stack, folder, lambda: _primary_of(topology, "sku").kill(), **sizes)


def coupon_rush_while_the_primary_is_replaced(folder: Path, **sizes: int) -> Ended:
    """Sentinel: SENTINEL FAILOVER. For seconds the old primary takes itself for one, too."""
    with sentinel_stack(folder) as (topology, stack):
        topology.take_your_time()
        return coupon_rush(stack, folder, lambda: _done(topology.fail_over()), **sizes)


def coupon_rush_there_and_back(folder: Path, **sizes: int) -> Ended:
    """Sentinel: a failover to a replica that lags, and back before the guard has looked; the drain sleeps, too."""
    with sentinel_stack(folder) as (topology, stack):
        return coupon_rush(stack, folder, lambda: there_and_back(topology, stack, "coupon", "worker.1"), **sizes)


def order_rush_there_and_back(folder: Path, **sizes: int) -> Ended:
    """Sentinel: a failover to a replica that lags, and back before the guard has looked."""
    with sentinel_stack(folder) as (topology, stack):
        return order_rush(stack, folder, lambda: there_and_back(topology, stack, "sku"), **sizes)


def there_and_back(topology: SentinelTopology, stack: Stack, kind: str, *sleepers: str) -> None:
    """The guard sleeps; everybody lags; the primary decides what nobody else hears of; one takes over, and it again."""
    engine = connect(stack)
    old = topology.primary
    try:
        with ExitStack() as exits:
            for name in ("scheduler", *sleepers):
                exits.enter_context(asleep(stack, name))
            for replica in topology.replicas:
                replica.fall_behind()
            _await_decisions(engine, kind, BEHIND)
            new = topology.fail_over()
            for server in topology.servers:
                server.catch_up()
            topology.await_health()
            for server in topology.servers:
                server.run("CONFIG", "SET", "replica-priority", 1 if server is old else 100)
            topology.await_priority(old, 1)
            assert topology.fail_over() is old is not new
    finally:
        engine.close()


def _await_decisions(engine: Engine, kind: str, count: int) -> None:
    """Return when the lane of the first coupon or product has decided so many more."""
    lane = keys.lane_of(kind, 1, engine.gate.lanes)
    before = engine.gate.inspect(lane).last_number or 0
    wait_until(lambda: (engine.gate.inspect(lane).last_number or 0) >= before + count, "the crowd goes on")


def _primary_of(topology: ClusterTopology, kind: str) -> Member:
    return topology.primary(topology.shard_of_lane(keys.lane_of(kind, 1, CLUSTER_LANES)))


def _done(_: Any) -> None:
    return None


SCENARIOS: dict[str, Callable[..., Ended]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        coupon_rush_while_the_primary_dies,
        order_rush_while_the_primary_dies,
        coupon_rush_while_the_primary_is_replaced,
        coupon_rush_there_and_back,
        order_rush_there_and_back,
        coupon_rush_while_a_shard_loses_its_primary,
        order_rush_while_a_shard_loses_its_primary,
    )
}
