"""What is tried on the topologies: each scenario is a rush with a fault, small in the tests and large by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import text

from engine.context import Engine
from engine.gate import keys
from loadtests.facts import connect
from ops.stack import Stack
from tests.cluster.members import PASSWORD, Member, data_server
from tests.cluster.rushes import CLUSTER_LANES, Ended, asleep, coupon_rush, order_rush, stack_on
from tests.cluster.sentinel import SentinelTopology, sentinel_topology
from tests.cluster.shards import ClusterTopology, cluster_topology
from tests.stack.stack_driver import wait_until

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
            topology.fail_over()
            for server in topology.servers:
                server.catch_up()
            topology.await_health()
            topology.fail_over_to(old)
        topology.await_health()
    finally:
        engine.close()


def _await_decisions(engine: Engine, kind: str, count: int) -> None:
    """Return when the lane of coupons or products has decided so many more; on one server there is one lane."""
    lane = keys.lane_of(kind, 1, engine.gate.lanes)
    before = engine.gate.inspect(lane).last_number or 0
    wait_until(lambda: (engine.gate.inspect(lane).last_number or 0) >= before + count, "the crowd goes on")


def replace_the_primary(topology: SentinelTopology, _: Stack) -> None:
    """SENTINEL FAILOVER: for seconds the old primary takes itself for one, too."""
    topology.take_your_time()
    topology.fail_over()
    topology.await_health()


def replace_the_primary_that_needs_a_replica(topology: SentinelTopology, stack: Stack) -> None:
    """The same, with ``min-replicas-to-write 1``: when its replicas have left, the old primary takes no write."""
    for server in topology.servers:
        server.run("CONFIG", "SET", "min-replicas-to-write", 1)
    replace_the_primary(topology, stack)


def kill_the_primary(topology: SentinelTopology, _: Stack) -> None:
    """Kill -9 of the primary that the sentinels name."""
    topology.primary.kill()


def kill_the_primary_of(kind: str) -> Callable[[ClusterTopology, Stack], None]:
    """Kill -9 of the primary of one shard: the one that has what everybody wants."""

    def strike(topology: ClusterTopology, stack: Stack) -> None:
        engine = connect(stack)
        with engine.ledger.read() as ledger:
            newest = int(ledger.execute(text(_WANTED[kind])).scalar_one())
        engine.close()
        lane = keys.lane_of(kind, newest, CLUSTER_LANES)
        topology.primary(topology.shard_of_lane(lane)).kill()

    return strike


_WANTED = {
    "coupon": "SELECT max(id) FROM coupons",
    "sku": "SELECT max(id) FROM products WHERE name = '한정판 운동화'",
}


@dataclass(frozen=True)
class Scenario:
    """A rush on a topology, and what happens in its middle."""

    name: str
    topology: Callable[[Path], AbstractContextManager[tuple[Any, Stack]]]
    rush: Callable[..., Ended]
    fault: Callable[[Any, Stack], None]

    def run(self, folder: Path, **sizes: int) -> Ended:
        """The whole of it."""
        with self.topology(folder) as (topology, stack):
            return self.run_on(topology, stack, folder, **sizes)

    def run_on(self, topology: Any, stack: Stack, folder: Path, **sizes: int) -> Ended:
        """On a stack that runs; reports go to the folder."""
        return self.rush(stack, folder, lambda: self.fault(topology, stack), **sizes)


COUPONS_AND_A_DEAD_PRIMARY = Scenario("coupons-primary-killed", sentinel_stack, coupon_rush, kill_the_primary)
ORDERS_AND_A_DEAD_PRIMARY = Scenario("orders-primary-killed", sentinel_stack, order_rush, kill_the_primary)
COUPONS_AND_A_NEW_PRIMARY = Scenario("coupons-primary-replaced", sentinel_stack, coupon_rush, replace_the_primary)
COUPONS_AND_A_NEW_PRIMARY_WITH_REPLICAS = Scenario(
    "coupons-primary-replaced-replica-needed", sentinel_stack, coupon_rush, replace_the_primary_that_needs_a_replica
)
COUPONS_THERE_AND_BACK = Scenario(
    "coupons-there-and-back",
    sentinel_stack,
    coupon_rush,
    lambda topology, stack: there_and_back(topology, stack, "coupon", "worker.1"),
)
ORDERS_THERE_AND_BACK = Scenario(
    "orders-there-and-back",
    sentinel_stack,
    order_rush,
    lambda topology, stack: there_and_back(topology, stack, "sku"),
)
COUPONS_AND_A_DEAD_SHARD_PRIMARY = Scenario(
    "coupons-shard-primary-killed", cluster_stack, coupon_rush, kill_the_primary_of("coupon")
)
ORDERS_AND_A_DEAD_SHARD_PRIMARY = Scenario(
    "orders-shard-primary-killed", cluster_stack, order_rush, kill_the_primary_of("sku")
)

SCENARIOS = {
    each.name: each
    for each in (
        COUPONS_AND_A_DEAD_PRIMARY,
        ORDERS_AND_A_DEAD_PRIMARY,
        COUPONS_AND_A_NEW_PRIMARY,
        COUPONS_AND_A_NEW_PRIMARY_WITH_REPLICAS,
        COUPONS_THERE_AND_BACK,
        ORDERS_THERE_AND_BACK,
        COUPONS_AND_A_DEAD_SHARD_PRIMARY,
        ORDERS_AND_A_DEAD_SHARD_PRIMARY,
    )
}
