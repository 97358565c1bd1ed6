"""A topology for every test: most of them leave it in pieces, and making one takes about as long as mending one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.sentinel import SentinelTopology, sentinel_topology
from tests.cluster.shards import ClusterTopology, cluster_topology


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
