"""The real processes on a cluster: a rush while a shard loses its primary, and days without a whole shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from engine.gate import keys
from ops.stack import Stack
from tests.cluster.rushes import CLUSTER_LANES
from tests.cluster.scenarios import ORDERS_AND_A_DEAD_SHARD_PRIMARY, cluster_stack
from tests.cluster.shards import SHARDS, ClusterTopology
from tests.stack.stack_driver import wait_until

pytestmark = pytest.mark.long

BUSY_WITHIN_SECONDS = 1.5
MENDED_WITHIN_SECONDS = 20.0
"""A round of the guard waits five for a shard that hangs, and the one before may just have begun; a rebuild waits five
for outboxes."""

LOST, OTHER = 0, 1
"""The shard that is away, and one to which something happens meanwhile."""

LOCK_SECONDS = 8.0
"""The scheduler loses its lock when it stands still for five."""


class Shop:
    """The shop as a client sees it, with one coupon in each shard."""

    def __init__(self, topology: ClusterTopology, stack: Stack) -> None:
        self.topology, self.stack = topology, stack
        self.client = httpx.Client(base_url=f"{stack.address}api/v1", timeout=20)
        self._user = 1_000_000
        self._coupons: dict[int, int] = {}
        while len(self._coupons) < SHARDS:
            body = {"name": "쿠폰", "discountAmount": 10, "totalQuantity": 1000}
            coupon = int(self.client.post("/admin/coupons", json=body).json()["id"])
            self._coupons[topology.shard_of_lane(keys.lane_of("coupon", coupon, CLUSTER_LANES))] = coupon

    def issue(self, shard: int, user_id: int | None = None) -> httpx.Response:
        """Somebody new, unless somebody is named, asks for the coupon that the shard has."""
        self._user += 1
        user = user_id or self._user
        return self.client.post(
            f"/coupons/{self._coupons[shard]}/issue", json={"userId": user}, headers={"Prefer": "wait=10"}
        )

    def sells(self, shard: int) -> bool:
        """Whether the shard gives a coupon, and it becomes durable."""
        return self.issue(shard).status_code == 201

    def assert_busy(self, shard: int) -> None:
        """The shard refuses soon."""
        started = time.monotonic()
        answer = self.issue(shard)
        assert (answer.status_code, answer.json()["code"]) == (503, "BUSY"), answer.text
        assert time.monotonic() - started < BUSY_WITHIN_SECONDS

    def said(self) -> str:
        """What the processes have written."""
        return (Path(self.stack.data_dir) / "output").read_text(errors="replace")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ClusterTopology, Stack]]:
    """One stack for all; whoever takes a server away brings it back."""
    with cluster_stack(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def shop(running: tuple[ClusterTopology, Stack]) -> Iterator[Shop]:
    shop = Shop(*running)
    yield shop
    shop.client.close()


@contextmanager
def hung(topology: ClusterTopology) -> Iterator[None]:
    for node in topology.shards[LOST]:
        node.pause()
    try:
        yield
    finally:
        for node in topology.shards[LOST]:
            node.resume()


@contextmanager
def killed(topology: ClusterTopology) -> Iterator[None]:
    for node in topology.shards[LOST]:
        node.kill()
    yield
    for node in topology.shards[LOST]:
        node.start()


def test_an_order_rush_survives_a_shard_that_loses_its_primary(
    running: tuple[ClusterTopology, Stack], tmp_path: Path
) -> None:
    topology, stack = running
    ORDERS_AND_A_DEAD_SHARD_PRIMARY.run_on(topology, stack, tmp_path, ORDERS=500, USERS=100, UNITS=150).assert_passed()
    for node in topology.nodes:
        if not node.running:
            node.start()
    topology.await_health()


@pytest.mark.parametrize("away", [killed, hung])
def test_while_a_shard_is_away_the_others_sell_are_guarded_and_are_rebuilt(
    shop: Shop, away: Callable[[ClusterTopology], Iterator[None]]
) -> None:
    for shard in range(SHARDS):
        wait_until(lambda at=shard: shop.sells(at), f"shard {shard} sells")
    lost_its_lock = shop.said().count("nobody is the active scheduler")
    since = time.monotonic()
    with away(shop.topology):  # type: ignore[attr-defined]
        shop.assert_busy(LOST)
        assert shop.sells(OTHER)
        assert shop.sells(OTHER + 1)
        # The rest of the primaries is no majority: a person decides.
        shop.topology.replica(OTHER).run("CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: shop.sells(OTHER), "a shard that failed over sells", MENDED_WITHIN_SECONDS)
        winner = 7_000_000 + int(since)
        assert shop.issue(OTHER, winner).status_code == 201
        shop.topology.primary(OTHER).run("FLUSHALL")
        wait_until(lambda: shop.sells(OTHER), "a shard that forgot is rebuilt and sells", MENDED_WITHIN_SECONDS)
        assert shop.issue(OTHER, winner).json()["code"] == "COUPON_ALREADY_ISSUED"
        shop.assert_busy(LOST)
        wait_until(lambda: time.monotonic() > since + LOCK_SECONDS, "the scheduler has had time to stumble")
        assert shop.sells(OTHER + 1)
    wait_until(lambda: shop.sells(LOST), "the shard sells again")
    assert shop.said().count("nobody is the active scheduler") == lost_its_lock
    shop.topology.await_health()
