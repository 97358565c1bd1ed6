"""Small rushes of the real processes on Sentinel, with the primary taken away in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.stack import Stack
from tests.cluster.scenarios import COUPONS_AND_A_DEAD_PRIMARY, ORDERS_THERE_AND_BACK, sentinel_stack
from tests.cluster.sentinel import SentinelTopology

pytestmark = pytest.mark.long

Running = tuple[SentinelTopology, Stack]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One stack for all; whoever takes a server away brings it back."""
    with sentinel_stack(tmp_path_factory.mktemp("sentinel")) as running:
        yield running


def test_a_coupon_rush_survives_a_killed_primary(running: Running, tmp_path: Path) -> None:
    topology, stack = running
    COUPONS_AND_A_DEAD_PRIMARY.run_on(topology, stack, tmp_path, USERS=800, REQUESTS=2000, COUPONS=300).assert_passed()
    for server in topology.servers:
        if not server.running:
            server.start()
    topology.await_health()


def test_an_order_rush_survives_a_failover_to_a_lagging_replica_and_back(running: Running, tmp_path: Path) -> None:
    topology, stack = running
    ORDERS_THERE_AND_BACK.run_on(topology, stack, tmp_path, ORDERS=900, USERS=100, UNITS=600).assert_passed()
    topology.await_health()
