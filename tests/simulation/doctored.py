"""Other scripts in the place of the engine's, for as long as a test wants to know what would happen with them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from engine.gate import scripts

Edit = tuple[str, str]
"""A regular expression (dots match line ends) and what stands in place of what it matches."""

KNOWS_ITS_SERVER_BY = ("'INFO', 'server'), 'run_id:(%x+)'", "'INFO', 'replication'), 'master_replid:(%x+)'")


@contextmanager
def doctored_scripts(edits: Mapping[str, Edit]) -> Iterator[None]:
    """While this lasts the engine runs these scripts changed. Raises AssertionError when an edit changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "lua"
        shutil.copytree(scripts.LUA_DIRECTORY, directory)
        for name, (pattern, replacement) in edits.items():
            path = directory / f"{name}.lua"
            source = path.read_text(encoding="utf-8")
            changed = re.sub(pattern, lambda _, text=replacement: text, source, flags=re.DOTALL)
            assert changed != source, f"{name}.lua has nothing like {pattern}"
            path.write_text(changed, encoding="utf-8")
        with _scripts_from(directory):
            yield


@contextmanager
def scripts_that_notice_a_promotion() -> Iterator[None]:
    """A simulated failover gives a server a new replication id; scripts that look at its run id would not notice."""
    old, new = KNOWS_ITS_SERVER_BY
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "lua"
        shutil.copytree(scripts.LUA_DIRECTORY, directory)
        for path in directory.glob("*.lua"):
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        with _scripts_from(directory):
            yield


@contextmanager
def _scripts_from(directory: Path) -> Iterator[None]:
    with mock.patch.object(scripts, "LUA_DIRECTORY", directory):
        scripts.script.cache_clear()
        try:
            yield
        finally:
            scripts.script.cache_clear()
