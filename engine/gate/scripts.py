"""The Lua scripts: found in ``lua/``, called by their SHA.

Source of the protocol: EVALSHA answers NOSCRIPT on a server that has not seen the script (a restart, a failover);
EVAL runs it and remembers it. NOSCRIPT comes before anything ran, so this one repetition is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

from engine.errors import BrokenContract
from engine.gate.clients import RedisClient

LUA_DIRECTORY = Path(__file__).resolve().parents[2] / "lua"

Argument = str | int
Call = tuple[Sequence[str], Sequence[Argument]]
"""The keys and the arguments of one call."""


@dataclass(frozen=True)
class Script:
    """One decision's source and the SHA under which Redis knows it."""

    name: str
    source: str
    sha: str

    def run(self, client: RedisClient, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """One call; the reply as Redis gave it. Driver exceptions pass through: the gate translates them."""
        try:
            reply = client.evalsha(self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            reply = client.eval(self.source, len(keys), *keys, *arguments)
        if not isinstance(reply, list):
            raise BrokenContract(f"{self.name} answered {reply!r} instead of a table")
        return reply

    def run_each(self, client: redis.Redis, calls: Sequence[Call]) -> list[list[Any]]:
        """Several calls in one round trip, in order; a server that does not know the script has run none of them."""
        replies = self._pipelined(client, calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            client.script_load(self.source)
            replies = self._pipelined(client, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
            if not isinstance(reply, list):
                raise BrokenContract(f"{self.name} answered {reply!r} instead of a table")
        return replies

    def _pipelined(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for keys, arguments in calls:
                # Not pipeline.evalsha, and no Script objects: those ask first whether the server knows the script.
                pipeline.execute_command("EVALSHA", self.sha, len(keys), *keys, *arguments)
            return list(pipeline.execute(raise_on_error=False))


def script_from(source: str, name: str) -> Script:
    """A script from its text."""
    return Script(name=name, source=source, sha=sha1(source.encode(), usedforsecurity=False).hexdigest())


@cache
def script(name: str) -> Script:
    """The script in ``lua/<name>.lua``."""
    return script_from((LUA_DIRECTORY / f"{name}.lua").read_text(encoding="utf-8"), name)
