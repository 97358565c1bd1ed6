"""A cluster of three shards, each a primary and a replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.crc import key_slot

from engine.gate import keys
from tests.cluster.members import PASSWORD, Front, Member, Settings, data_servers
from tests.stack.stack_driver import wait_until

SLOTS = 16_384
SHARDS = 3
NODE_TIMEOUT_MS = 1_000
PATIENCE_SECONDS = 40.0


@dataclass(frozen=True)
class ClusterTopology:
    """``shards`` are pairs of servers; which of a pair is the primary changes."""

    shards: list[tuple[Member, Member]]

    @property
    def nodes(self) -> list[Member]:
        return [node for shard in self.shards for node in shard]

    @property
    def url(self) -> str:
        """What REDIS_URL would be."""
        places = ",".join(f"127.0.0.1:{node.known_port}" for node in self.nodes)
        return f"redis+cluster://:{quote(PASSWORD, safe='')}@{places}"

    @property
    def pids(self) -> set[int]:
        return {node.pid for node in self.nodes}

    def slots_of(self, shard: int) -> tuple[int, int]:
        """The first and the last slot of a shard, dealt so that ``slot * SHARDS // SLOTS`` names the shard."""
        first, beyond = (-(-each * SLOTS // SHARDS) for each in (shard, shard + 1))
        return first, beyond - 1

    def shard_of_lane(self, lane: int) -> int:
        """Which shard holds the lane."""
        return key_slot(keys.lane(lane).encode()) * SHARDS // SLOTS

    def lanes_of(self, shard: int, lanes: int) -> list[int]:
        """The lanes that the shard holds."""
        return [lane for lane in range(lanes) if self.shard_of_lane(lane) == shard]

    def primary(self, shard: int) -> Member:
        """The one of the pair that takes writes; fails when there is none."""
        return next(node for node in self.shards[shard] if node.running and node.is_primary)

    def replica(self, shard: int) -> Member:
        """The other one."""
        primary = self.primary(shard)
        return next(node for node in self.shards[shard] if node is not primary)

    def fail_over(self, shard: int, how: str = "") -> Member:
        """The replica takes over on purpose; ``how`` is FORCE or TAKEOVER when the primary cannot agree to it."""
        old, new = self.primary(shard), self.replica(shard)
        new.run("CLUSTER", "FAILOVER", *([how] if how else []))
        wait_until(lambda: new.is_primary and not old.is_primary, f"{new.name} takes over", PATIENCE_SECONDS)
        return new

    def await_other_primary(self, shard: int, old: Member) -> Member:
        """Return when the other one of the pair has taken over and the rest knows."""
        new = next(node for node in self.shards[shard] if node is not old)
        wait_until(lambda: new.is_primary, f"{new.name} takes over from {old.name}", PATIENCE_SECONDS)
        wait_until(lambda: self._all_say_ok([old]), "the cluster is whole again", PATIENCE_SECONDS)
        return new

    def await_health(self) -> None:
        """Return when every shard has a primary with a replica that follows it, and everybody knows."""

        def paired(shard: tuple[Member, Member]) -> bool:
            states = [node.info("replication") for node in shard]
            followers = [each for each in states if each["role"] == "slave"]
            return len(followers) == 1 and followers[0]["master_link_status"] == "up"

        for shard in self.shards:
            wait_until(lambda at=shard: paired(at), f"{shard[0].name} and {shard[1].name} are a pair", PATIENCE_SECONDS)
        wait_until(lambda: self._all_say_ok([]), "the cluster is whole", PATIENCE_SECONDS)

    def _all_say_ok(self, but: list[Member]) -> bool:
        return all(
            _cluster_info(node)["cluster_state"] == "ok" for node in self.nodes if node.running and node not in but
        )


@contextmanager
def cluster_topology(folder: Path, front: Front = nullcontext) -> Iterator[ClusterTopology]:
    """All six, healthy; none of them is left at the end.

    ``front`` opens another port in front of a node's, by which clients and replicas know it then.

    Shards answer for themselves while another one is away (``cluster-require-full-coverage no``): with the default, one
    dead shard stops all.
    """
    names = [f"shard{number}{letter}" for number in range(SHARDS) for letter in "ab"]
    settings: Settings = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": NODE_TIMEOUT_MS,
        "cluster-require-full-coverage": "no",
        "cluster-allow-replica-migration": "no",
    }
    with data_servers(folder, names, settings, front, "cluster-announce-port") as nodes:
        topology = ClusterTopology(list(zip(nodes[::2], nodes[1::2], strict=True)))
        for shard, (primary, _) in enumerate(topology.shards):
            primary.run("CLUSTER", "ADDSLOTSRANGE", *topology.slots_of(shard))
        for number, node in enumerate(nodes):
            node.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            nodes[0].run("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        for node in nodes:
            wait_until(lambda at=node: int(_cluster_info(at)["cluster_known_nodes"]) == len(nodes), "all know all")
        for primary, replica in topology.shards:
            _replicate(replica, primary)
        topology.await_health()
        yield topology


def _cluster_info(node: Member) -> dict[str, Any]:
    found: dict[str, Any] = node.run("CLUSTER INFO")
    return found


def _replicate(replica: Member, primary: Member) -> None:
    identity = primary.run("CLUSTER", "MYID")

    def accepted() -> bool:
        try:
            return bool(replica.run("CLUSTER", "REPLICATE", identity))
        except redis.ResponseError:  # it has not heard of that node yet
            return False

    wait_until(accepted, f"{replica.name} follows {primary.name}", PATIENCE_SECONDS)
