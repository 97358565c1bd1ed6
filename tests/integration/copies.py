"""What a server had at some time, for it to come back with."""

from __future__ import annotations

import redis

from engine.gate import keys


def raw_copy(redis_url: str) -> dict[bytes, bytes]:
    """All that the server has now."""
    with redis.Redis.from_url(redis_url) as raw:
        return {key: raw.dump(key) for key in raw.keys("*")}


def forget_all_since(redis_url: str, copy: dict[bytes, bytes]) -> None:
    """The server comes back with what it had when ``copy`` was taken, under another replication id."""
    with redis.Redis.from_url(redis_url) as raw:
        raw.flushdb()
        for key, value in copy.items():
            raw.restore(key, 0, value)
        raw.hset(keys.lane(0), "replid", "0" * 40)
