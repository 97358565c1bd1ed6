"""Redis clients from URLs: one server, Sentinel or Cluster, decisions never retried by the client itself.

A retry inside the client could run a decision twice after a time-out; a time-out is an unknown outcome that the
caller settles by asking again with the same nonce (``docs/decisions/0003-no-client-retries.md``).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from engine.gate.cluster_client import LazyClusterClient
from engine.gate.sentinel_pool import SentinelPool

RedisClient = redis.Redis | RedisCluster

POOL_WAIT_SHARE = 0.4
"""Of the time-out: how long somebody waits for a free connection. Redis-py's own is 20 s, the web's 0.2."""
SENTINEL_SECONDS = 0.2
"""How long one sentinel may take. It is next door and knows the answer by heart; one that hangs must not use up the
time of a decision, because there are others to ask."""

SILENT_NETWORK = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}
"""A network that drops every packet is noticed after about eleven seconds (redis-py's own settings: 46)."""

_DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379}
_SENTINEL_PREFIX = "sentinel_"


@dataclass(frozen=True)
class Address:
    """What a URL says: ``options`` are for connections to servers, ``sentinel_options`` for those to sentinels."""

    kind: str
    places: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]


def connect(url: str, *, timeout_seconds: float, max_connections: int = 64) -> RedisClient:
    """A thread-safe client for ``url``; connects at the first command, never retries, gives up after the time-out.

    Schemes: ``redis://``, ``rediss://``, ``unix://`` as redis-py has them, and

    - ``redis+sentinel://[[user]:password@]host[:port],…/service[/database]``
    - ``redis+cluster://[[user]:password@]host[:port],…``

    with ``rediss+…`` for TLS, to the sentinels, too. Options in the query are redis-py's (``ssl_ca_certs``, …); those
    that begin with ``sentinel_`` are for the sentinels (``sentinel_password``). Raises ValueError for a URL that cannot
    be understood.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        # Bytes that are no UTF-8 become lone surrogates: whoever stores them as text is refused, nobody is stopped.
        "encoding_errors": "surrogateescape",
        "retry": Retry(NoBackoff(), 0),
        "max_connections": max_connections,
        "timeout": timeout_seconds * POOL_WAIT_SHARE,
        **_time_outs(timeout_seconds),
    }
    if "+" not in urlsplit(url).scheme:
        return redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(url, **options))
    address = parse_address(url)
    if address.kind == "sentinel":
        return _from_sentinels(address, options)
    # It stands for a RedisCluster in everything but that it can be made while the cluster is away.
    return cast(RedisCluster, LazyClusterClient(address.places, {**options, **address.options}))


def connect_queue(url: str, *, timeout_seconds: float = 1.0) -> redis.Redis:
    """A client for RQ: raw bytes, because RQ stores compressed job data; Cluster is refused by the settings.

    The time-out is short because a ring is made while a client waits; RQ's worker sets its own, of many seconds, and
    then only keepalive tells it that the network forgot its connection.
    """
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), **_time_outs(timeout_seconds)}
    if urlsplit(url).scheme != "unix":
        options["socket_keepalive_options"] = SILENT_NETWORK
    if "+" in urlsplit(url).scheme:
        options |= {"max_connections": 16, "timeout": timeout_seconds * POOL_WAIT_SHARE}
        return _from_sentinels(parse_address(url), options)
    return redis.Redis.from_url(url, **options)


def parse_address(url: str) -> Address:
    """Take a ``…+sentinel://`` or ``…+cluster://`` URL apart. Raises ValueError."""
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    places = tuple(_place(host, _DEFAULT_PORTS[kind]) for host in hosts.split(","))
    given = parse_qsl(parts.query)
    for_servers = [each for each in given if not each[0].startswith(_SENTINEL_PREFIX)]
    for_sentinels = [
        (name.removeprefix(_SENTINEL_PREFIX), value) for name, value in given if name.startswith(_SENTINEL_PREFIX)
    ]
    ssl_options = [(name, value) for name, value in for_servers if name.startswith("ssl_")]
    return Address(
        kind=kind,
        places=places,
        service=service or "mymaster",
        options=_options(f"{scheme}://{credentials}@host/{database}", for_servers),
        sentinel_options=_options(f"{scheme}://host", [*ssl_options, *for_sentinels]),
    )


def _options(url: str, query: list[tuple[str, str]]) -> dict[str, Any]:
    """Keyword arguments for a connection, read and converted by redis-py itself."""
    options: dict[str, Any] = parse_url(f"{url}?{urlencode(query)}")
    del options["host"]
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return options


def _place(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"a host is missing in front of {text!r}")
    return parts.hostname, parts.port or default_port


def _from_sentinels(address: Address, options: Mapping[str, Any]) -> redis.Redis:
    # Without a retry of its own: redis-py's default would ask a dead sentinel eleven times before the next one.
    for_sentinels = {"retry": Retry(NoBackoff(), 0), **_time_outs(SENTINEL_SECONDS), **address.sentinel_options}
    sentinel = Sentinel(
        address.places,
        sentinel_kwargs=for_sentinels,
        **{**options, **address.options},
    )
    primary: redis.Redis = sentinel.master_for(address.service, connection_pool_class=SentinelPool)
    return primary


def _time_outs(seconds: float) -> dict[str, Any]:
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}
