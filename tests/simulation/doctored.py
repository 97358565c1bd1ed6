"""Other scripts in the place of the engine's, for as long as a test wants to know what would happen with them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from engine.gate import scripts

Edit = tuple[str, str]
"""A regular expression (dots match line ends) and what stands in place of what it matches."""

CLOCK = "simulated-clock"
"""The key that holds the time of Redis in milliseconds since 1970."""
_TIME = "redis.call('TIME')"
_CLOCK = f"""(function()
  local now_ms = redis.call('INCR', '{CLOCK}')
  return {{string.format('%.0f', math.floor(now_ms / 1000)), string.format('%.0f', now_ms % 1000 * 1000)}}
end)()"""
SERVER = "simulated-server"
"""The keys ``<this>:<lane key>`` hold the replication id of the server that a lane is on."""
_SERVER = re.compile(r"string\.match\(redis\.call\('INFO', '\w+'\), '[^']*'\)")


@contextmanager
def doctored_scripts(edits: Mapping[str, Edit]) -> Iterator[None]:
    """While this lasts the engine runs these scripts changed. Raises AssertionError when an edit changes nothing."""

    def doctor(name: str, source: str) -> str:
        if name not in edits:
            return source
        pattern, replacement = edits[name]
        changed = re.sub(pattern, lambda _: replacement, source, flags=re.DOTALL)
        assert changed != source, f"{name}.lua has nothing like {pattern}"
        return changed

    with _rewritten(doctor):
        yield


@contextmanager
def scripts_in_a_simulated_world() -> Iterator[None]:
    """While this lasts scripts take the time from :data:`CLOCK`, which goes on by a millisecond at each look, and the
    id of the server that their lane is on from :data:`SERVER`: lanes may be on servers of their own, and fail over."""

    def rewrite(_: str, source: str) -> str:
        source = source.replace(_TIME, _CLOCK)
        return _SERVER.sub(f"(redis.call('GET', '{SERVER}:' .. KEYS[1]))", source)

    with _rewritten(rewrite):
        sources = "".join(path.read_text(encoding="utf-8") for path in scripts.LUA_DIRECTORY.glob("*.lua"))
        assert CLOCK in sources
        assert SERVER in sources
        assert "redis.call('TIME'" not in sources
        assert "redis.call('INFO'" not in sources
        yield


@contextmanager
def _rewritten(rewrite: Callable[[str, str], str]) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "lua"
        shutil.copytree(scripts.LUA_DIRECTORY, directory)
        for path in directory.glob("*.lua"):
            path.write_text(rewrite(path.stem, path.read_text(encoding="utf-8")), encoding="utf-8")
        with mock.patch.object(scripts, "LUA_DIRECTORY", directory):
            scripts.script.cache_clear()
            try:
                yield
            finally:
                scripts.script.cache_clear()
