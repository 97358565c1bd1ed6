"""Looking whether the servers that the person's own REDIS_URL, QUEUE_REDIS_URL and DATABASE_URL name are there."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import redis

from engine.gate.clients import parse_address

PATIENCE_SECONDS = 3.0
OLDEST_POSTGRES = 15


def redis_problem(name: str, url: str, patience_seconds: float = PATIENCE_SECONDS) -> str | None:
    """Why the Redis in the variable ``name`` cannot be used, or None. Never repeats a password."""
    if "+" in urlsplit(url).scheme:
        return _retried(lambda: _no_node_listens(name, url), patience_seconds)
    return _retried(lambda: _redis_refuses(name, url), patience_seconds)


def database_problem(name: str, url: str, patience_seconds: float = PATIENCE_SECONDS) -> str | None:
    """Why the Postgres in the variable ``name`` cannot be used, or None. Never repeats a password."""
    return _retried(lambda: _postgres_refuses(name, url), patience_seconds)


def _retried(problem: Callable[[], str | None], patience_seconds: float) -> str | None:
    """Servers that start at the same time as we do get a moment."""
    deadline = time.monotonic() + patience_seconds
    while (found := problem()) is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _redis_refuses(name: str, url: str) -> str | None:
    try:
        client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    except ValueError as error:
        return f"{name}: {error}"
    try:
        client.ping()
    except redis.RedisError as error:
        return f"{name}: the Redis at {_place(url)} cannot be used: {_first_line(error)}"
    finally:
        client.close()
    return None


def _no_node_listens(name: str, url: str) -> str | None:
    """One node of a cluster, or one sentinel, is enough to begin with."""
    reason = ""
    try:
        for place in parse_address(url).places:
            try:
                with socket.create_connection(place, timeout=2):
                    return None
            except OSError as error:
                reason = _first_line(error)
    except ValueError as error:
        reason = _first_line(error)
    return f"{name}: no Redis answers at {_place(url)}: {reason}"


def _postgres_refuses(name: str, url: str) -> str | None:
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        with psycopg.connect(plain, connect_timeout=2) as connection:
            major = connection.info.server_version // 10_000
    except psycopg.Error as error:
        return f"{name}: the Postgres at {_place(url)} cannot be used: {_first_line(error)}"
    if major < OLDEST_POSTGRES:
        return f"{name}: the Postgres at {_place(url)} is version {major}; {OLDEST_POSTGRES} or newer is needed"
    return None


def _place(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path or "its default place"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
