"""Redis clients from URLs: one server, Sentinel or Cluster, decisions never retried by the client itself.

A retry inside the client could run a decision twice after a time-out; a time-out is an unknown outcome that the
caller settles by asking again with the same nonce (``docs/decisions/0003-no-client-retries.md``).
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

RedisClient = redis.Redis | RedisCluster

POOL_WAIT_SECONDS = 0.2
DEFAULT_SENTINEL_PORT = 26379
SILENT_NETWORK = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}
"""A network that drops every packet is noticed after about eleven seconds (redis-py's own settings: 46)."""


class BlockingSentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Sentinel's discovery with a bounded wait for a free connection."""


def connect(url: str, *, timeout_seconds: float, max_connections: int = 64) -> RedisClient:
    """A thread-safe client for ``url``; connects at the first command, never retries, gives up after the time-out.

    Schemes: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://[:password@]host:port,host:port/service[/db]``,
    ``redis+cluster://host:port``.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "decode_responses": True,
        # Bytes that are no UTF-8 become lone surrogates: whoever stores them as text is refused, nobody is stopped.
        "encoding_errors": "surrogateescape",
        "retry": Retry(NoBackoff(), 0),
    }
    scheme = urlsplit(url).scheme
    if scheme == "redis+cluster":
        # The one client that asks at once: it has to know which node has which slots.
        return RedisCluster.from_url(
            url.replace("redis+cluster://", "redis://", 1), **options, max_connections=max_connections
        )
    if scheme == "redis+sentinel":
        return _from_sentinel(url, options, max_connections)
    pool = redis.BlockingConnectionPool.from_url(
        url, max_connections=max_connections, timeout=POOL_WAIT_SECONDS, **options
    )
    return redis.Redis.from_pool(pool)


def connect_queue(url: str, *, timeout_seconds: float = 1.0) -> redis.Redis:
    """A client for RQ: raw bytes, because RQ stores compressed job data; Cluster is refused by the settings.

    The time-out is short because a ring is made while a client waits; RQ's worker sets its own, of minutes, and then
    only keepalive tells it that the network forgot its connection.
    """
    options: dict[str, Any] = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    if urlsplit(url).scheme != "unix":
        options["socket_keepalive_options"] = SILENT_NETWORK
    if urlsplit(url).scheme == "redis+sentinel":
        return _from_sentinel(url, options, max_connections=16)
    return redis.Redis.from_url(url, **options)


def _from_sentinel(url: str, options: dict[str, Any], max_connections: int) -> redis.Redis:
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    hosts = [_host_and_port(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    sentinel_password = parse_qs(parts.query).get("sentinel_password", [None])[0]
    sentinel = Sentinel(
        hosts,
        sentinel_kwargs={"password": sentinel_password, "socket_timeout": 1, "socket_connect_timeout": 1},
        password=unquote(parts.password) if parts.password else None,
        username=unquote(parts.username) if parts.username else None,
        db=int(database or 0),
        max_connections=max_connections,
        timeout=POOL_WAIT_SECONDS,
        **options,
    )
    master: redis.Redis = sentinel.master_for(service or "mymaster", connection_pool_class=BlockingSentinelPool)
    return master


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    return host, int(port or DEFAULT_SENTINEL_PORT)
