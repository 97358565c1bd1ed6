"""A client for a cluster that may be away, wholly or in part."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import AuthenticationError, MaxConnectionsError, RedisClusterException, SlotNotCoveredError

SILENCE_SECONDS = 0.25
NODE_SHARE = 0.8
"""After a time-out redis-py asks another node for the slots before it tells: both have to fit into about a second."""
_SLOTS = "slots that nobody serves"


class LazyClusterClient:
    """Stands for a RedisCluster, which is made at the first use: it asks the cluster for its slots when it is made."""

    def __init__(self, places: Sequence[tuple[str, int]], options: Mapping[str, Any]) -> None:
        """``options`` are for a pool of connections to one node; each has its own."""
        time_outs = {name: options[name] * NODE_SHARE for name in ("socket_timeout", "socket_connect_timeout")}
        self._places = tuple(places)
        self._options = {**options, **time_outs}
        self._lock = threading.Lock()
        self._client: ClusterClient | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type[RedisCluster]:  # type: ignore[override]
        """What ``isinstance`` is told: whoever asks whether this is a cluster has to know."""
        return RedisCluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected(), name)

    def __enter__(self) -> LazyClusterClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back."""
        with self._lock:
            if self._client is not None:
                self._client.close()

    def _connected(self) -> ClusterClient:
        if self._client is None:
            # While all nodes hang, making it takes many time-outs: nobody waits for more than one.
            if not self._lock.acquire(timeout=self._options["socket_timeout"]):
                raise redis.ConnectionError("the cluster is being looked for")
            try:
                if self._client is None:
                    self._client = self._make()
            finally:
                self._lock.release()
        return self._client

    def _make(self) -> ClusterClient:
        (host, port), *others = self._places
        options = dict(self._options)
        scheme = "rediss" if options.pop("ssl", False) else "redis"
        try:
            return ClusterClient(
                # Only with a URL redis-py makes the pools that it is told to make.
                url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}",
                startup_nodes=[ClusterNode(*place) for place in others],
                connection_pool_class=NodePool,
                # Slots that nobody serves are no reason to leave those that somebody does.
                require_full_coverage=False,
                **options,
            )
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


class NodePool(redis.BlockingConnectionPool):
    """Connections to one node, with a bounded wait for a free one.

    That there is none is told in the words that redis-py's cluster understands: it would take it for a node that does
    not answer, and close the connections of those who are being answered.
    """

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """A connection. Raises MaxConnectionsError when none becomes free in time."""
        try:
            return super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]
        except redis.ConnectionError as error:
            if str(error) == "No connection available.":
                raise MaxConnectionsError(str(error)) from error
            raise


class ClusterClient(RedisCluster):
    """A RedisCluster in which one shard that is away does not hold up the others.

    Whoever gets no answer from a node looks for the slots anew, which takes another node's time, too, and closes its
    connections. For a moment after that everybody else who wants the same node is told so at once: otherwise those who
    wait for a hanging shard hold all threads, and those who are refused by a dead one keep the living ones busy.
    """

    def __init__(self, **options: Any) -> None:
        self._silent_until: dict[str, float] = {}
        super().__init__(**options)

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """As in redis-py, which does not look again for slots that nobody served when it looked."""
        try:
            return super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except SlotNotCoveredError as error:
            if time.monotonic() >= self._silent_until.get(_SLOTS, 0.0):
                self._keep_away_from(_SLOTS)
                self.nodes_manager.initialize()
            raise redis.ConnectionError(str(error)) from error

    def _execute_command(self, target_node: ClusterNode, *arguments: Any, **options: Any) -> Any:
        name = target_node.name
        silent_until = self._silent_until.get(name)
        if silent_until is not None:
            if time.monotonic() < silent_until:
                raise redis.ConnectionError(f"{name} did not answer just now")
            self._keep_away_from(name)  # all others, while this one tries
        try:
            reply = super()._execute_command(target_node, *arguments, **options)  # type: ignore[no-untyped-call]
        except (AuthenticationError, MaxConnectionsError):
            self._silent_until.pop(name, None)
            raise
        except (redis.ConnectionError, redis.TimeoutError):
            self._keep_away_from(name)
            raise
        except RedisClusterException as error:  # no other node tells who has the slots
            self._keep_away_from(name)
            raise redis.ConnectionError(str(error)) from error
        except redis.RedisError:  # it has answered
            self._silent_until.pop(name, None)
            raise
        if silent_until is not None:
            self._silent_until.pop(name, None)
        return reply

    def _keep_away_from(self, name: str) -> None:
        self._silent_until[name] = time.monotonic() + SILENCE_SECONDS

    def determine_slot(self, *arguments: Any) -> int | None:
        """As in redis-py, which asks one certain node where the keys of an XREAD are: that one may be away."""
        found: int | None
        if arguments[0] == "XREAD":
            found = self.keyslot(arguments[arguments.index(b"STREAMS") + 1])  # type: ignore[no-untyped-call]
        else:
            found = super().determine_slot(*arguments)
        return found
