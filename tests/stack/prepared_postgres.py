"""The data of a new Postgres, made once and copied: making them takes longer than most tests that need a server of
their own. Whoever tests how they are made starts without them."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from ops.postgres import discard_postgres, start_postgres
from ops.processes import free_port


def prepare_postgres(directory: Path) -> None:
    """Leave in ``directory``, which does not exist yet, what the first start of a server would leave there."""
    made = _made_once()
    if (made / "location").exists():
        return  # Postgres' own user cannot reach such folders; what moved elsewhere cannot be copied
    directory.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", made, directory], check=True)


def discard_prepared() -> None:
    """At the end of all tests."""
    if _made_once.cache_info().currsize:
        discard_postgres(_made_once())
        _made_once().parent.rmdir()
        _made_once.cache_clear()


@cache
def _made_once() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="seonchak-prepared-"))
    folder.chmod(0o711)
    start_postgres(folder / "postgres", free_port()).stop()
    return folder / "postgres"
