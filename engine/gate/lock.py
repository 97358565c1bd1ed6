"""redis-py's lock, with scripts that need no server but the one that holds the lock."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.exceptions import NoScriptError
from redis.lock import Lock

from engine.gate.clients import RedisClient


class _LockScript:
    """redis-py loads a script that one server does not know, after a failover say, on every primary of the cluster, and
    fails if one of them is away."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sha = sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Any], client: RedisClient) -> Any:
        try:
            return client.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(self._source, len(keys), *keys, *args)


class OneServerLock(Lock):
    """A lock that is kept and given up though other servers are away."""

    lua_release: Any = _LockScript(Lock.LUA_RELEASE_SCRIPT)
    lua_extend: Any = _LockScript(Lock.LUA_EXTEND_SCRIPT)
    lua_reacquire: Any = _LockScript(Lock.LUA_REACQUIRE_SCRIPT)
