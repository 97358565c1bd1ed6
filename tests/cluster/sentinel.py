"""One primary, two replicas and three sentinels that fail over by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis

from tests.cluster.members import PASSWORD, Front, Member, data_servers, sentinel_server
from tests.stack.stack_driver import wait_until

SERVICE = "shop"
QUORUM = 2
DOWN_AFTER_MS = 1_000
HELLO_MS = 2_000
"""How often a sentinel tells the others what it knows, when nobody hurries it; after four times as long a primary that
was replaced on purpose is told so."""

HURRY_MS = 200
"""How often they look and tell here: tests would wait for their seconds after every change."""

FAILOVER_PATIENCE_SECONDS = 40.0
FAILOVERS = 5


@dataclass(frozen=True)
class SentinelTopology:
    """The servers, whatever part they play now."""

    servers: list[Member]
    sentinels: list[Member]

    @property
    def url(self) -> str:
        """What REDIS_URL would be."""
        return url_of(sentinel.port for sentinel in self.sentinels)

    @property
    def pids(self) -> set[int]:
        return {member.pid for member in [*self.servers, *self.sentinels]}

    @property
    def primary(self) -> Member:
        """The primary that the sentinels name."""
        port = self._named_port()
        return next(server for server in self.servers if server.known_port == port)

    @property
    def replicas(self) -> list[Member]:
        """Everybody else."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def fail_over(self) -> Member:
        """A failover on purpose, as for maintenance; the new primary. The old one becomes its replica."""
        old, asked = self.primary, self.sentinels[0]

        def taken_over() -> bool:
            # A sentinel gives a failover up when the chosen replica does not answer in time: then it is asked again.
            if self._named_port(asked) == old.known_port:
                with suppress(redis.ResponseError):  # it is under way, or there is no replica to choose yet
                    asked.run("SENTINEL", "FAILOVER", SERVICE)
            return self._agree_on_another(old)

        wait_until(taken_over, f"another primary than {old.name}", FAILOVER_PATIENCE_SECONDS)
        return self.primary

    def fail_over_to(self, server: Member) -> None:
        """Failovers on purpose until it is this one's turn: sentinels pass over whoever they have not heard of for
        half a second, which on a busy machine may be anybody."""
        for each in self.servers:
            each.configure("replica-priority", 1 if each is server else 100)
        self.await_priority(server, 1)
        for _ in range(FAILOVERS):
            if self.fail_over() is server:
                return
            self.await_health()
        raise AssertionError(f"{server.name} was not chosen in {FAILOVERS} failovers")

    def take_your_time(self) -> None:
        """From now on the sentinels tell each other, and replaced primaries, as late as they do by default."""
        for sentinel in self.sentinels:
            sentinel.run("SENTINEL", "DEBUG", "PUBLISH-PERIOD", HELLO_MS)

    def never_fail_over(self) -> None:
        """From now on no primary is taken for dead."""
        for sentinel in self.sentinels:
            sentinel.run("SENTINEL", "SET", SERVICE, "down-after-milliseconds", 600_000)

    def await_priority(self, server: Member, priority: int) -> None:
        """Return when every sentinel has heard of the server's priority as a replica."""
        for sentinel in self.sentinels:
            wait_until(
                lambda at=sentinel: (str(server.known_port), str(priority)) in self._priorities(at),
                f"{sentinel.name} knows the priority of {server.name}",
            )

    def _priorities(self, sentinel: Member) -> set[tuple[str, str]]:
        with sentinel.client() as client:
            return {(str(each["port"]), str(each["slave-priority"])) for each in client.sentinel_slaves(SERVICE)}

    def await_other_primary(self, old: Member) -> Member:
        """Return when all sentinels name another primary than ``old`` and it takes writes."""
        wait_until(lambda: self._agree_on_another(old), f"another primary than {old.name}", FAILOVER_PATIENCE_SECONDS)
        return self.primary

    def _agree_on_another(self, old: Member) -> bool:
        ports = {self._named_port(sentinel) for sentinel in self.sentinels if sentinel.running}
        return len(ports) == 1 and old.known_port not in ports and self.primary.is_primary

    def await_health(self) -> None:
        """Return when every server that is not the primary follows it, and every sentinel knows all others."""

        def healthy() -> bool:
            primary = self.primary
            try:
                followers = [server.info("replication") for server in self.replicas]
            except redis.ConnectionError:  # a server is cut off when it is told to follow
                return False
            return primary.is_primary and all(
                each["role"] == "slave"
                and each["master_port"] == primary.known_port
                and each["master_link_status"] == "up"
                for each in followers
            )

        wait_until(healthy, "everybody follows the primary", FAILOVER_PATIENCE_SECONDS)
        for sentinel in self.sentinels:
            wait_until(lambda at=sentinel: self._sees_everybody(at), f"{sentinel.name} sees everybody")

    def _sees_everybody(self, sentinel: Member) -> bool:
        flat = sentinel.run("SENTINEL", "MASTER", SERVICE)
        state = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        others, replicas = int(state["num-other-sentinels"]), int(state["num-slaves"])
        return state["flags"] == "master" and others == len(self.sentinels) - 1 and replicas == len(self.servers) - 1

    def _named_port(self, sentinel: Member | None = None) -> int:
        asked = sentinel or next(each for each in self.sentinels if each.running)
        return int(asked.run("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])


def url_of(ports: Iterable[int], scheme: str = "redis+sentinel") -> str:
    """What REDIS_URL is for sentinels on these ports."""
    places = ",".join(f"127.0.0.1:{port}" for port in ports)
    password = quote(PASSWORD, safe="")
    return f"{scheme}://:{password}@{places}/{SERVICE}?sentinel_password={password}"


@contextmanager
def sentinel_topology(folder: Path, front: Front = nullcontext) -> Iterator[SentinelTopology]:
    """All six, healthy; none of them is left at the end.

    ``front`` opens another port in front of a server's, by which everybody knows it then.
    """
    with ExitStack() as exits:
        servers = exits.enter_context(data_servers(folder, ("alpha", "beta", "gamma"), front=front))
        for server in servers[1:]:
            server.run("REPLICAOF", "127.0.0.1", servers[0].known_port)
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {servers[0].known_port} {QUORUM}",
            f'sentinel auth-pass {SERVICE} "{PASSWORD}"',
            f'sentinel sentinel-pass "{PASSWORD}"',
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
            f"sentinel parallel-syncs {SERVICE} 2",
        ]
        for server in servers[1:]:
            server.await_link()
        sentinels = [exits.enter_context(sentinel_server(folder, f"sentinel{n}", lines)) for n in (1, 2, 3)]
        for sentinel in sentinels:
            sentinel.await_answer()
            for period in ("INFO", "PING", "ASK", "PUBLISH", "MIN-LINK-RECONNECT"):
                sentinel.run("SENTINEL", "DEBUG", f"{period}-PERIOD", HURRY_MS)
        topology = SentinelTopology(servers, sentinels)
        topology.await_health()
        yield topology
