"""A topology for every test: most of them leave it in pieces, and making one takes about as long as mending one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.context import Engine
from engine.upkeep.guard import watch_lanes
from tests.cluster.members import Member, data_servers
from tests.cluster.scenarios import url_of
from tests.cluster.sentinel import SentinelTopology, sentinel_topology
from tests.cluster.shards import ClusterTopology, cluster_topology
from tests.conftest import EngineMaker


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelTopology]:
    """One primary, two replicas, three sentinels."""
    with sentinel_topology(tmp_path) as topology:
        yield topology


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterTopology]:
    """Three shards of a primary and a replica each."""
    with cluster_topology(tmp_path) as topology:
        yield topology


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Member]]:
    """An old primary and a replica that has all of it, the new one to be; nobody watches over them."""
    with data_servers(tmp_path, ("old", "new")) as (old, new):
        new.run("REPLICAOF", "127.0.0.1", old.port)
        new.await_link()
        yield [old, new]


@pytest.fixture
def misled(servers: list[Member], make_engine: EngineMaker, redis_url: str) -> Engine:
    """An engine that is connected to the old primary, for ever."""
    engine = make_engine(redis_url=url_of(servers[0]), queue_redis_url=redis_url)
    watch_lanes(engine)
    return engine
