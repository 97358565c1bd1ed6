"""Run histories from the command line: ``python -m tests.simulation --histories 10000 --seed 1``."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.postgres import discard_postgres, start_postgres
from ops.processes import free_port
from ops.valkey import start_valkey
from tests.simulation.plan import PROFILES
from tests.simulation.run import play
from tests.simulation.stores import Stores


@contextmanager
def private_stores() -> Iterator[Stores]:
    """A Valkey and a Postgres of our own, gone when this ends."""
    folder = Path(tempfile.mkdtemp(prefix="seonchak-simulation-"))
    folder.chmod(0o711)  # Postgres may have to run as another user
    try:
        redis = start_valkey(folder / "valkey", free_port())
        try:
            postgres = start_postgres(folder / "postgres", free_port())
            try:
                with Stores.connect(redis.url, postgres.url.replace("postgresql://", "postgresql+psycopg://", 1)) as it:
                    yield it
            finally:
                postgres.stop()
        finally:
            redis.stop()
    finally:
        discard_postgres(folder / "postgres")
        shutil.rmtree(folder, ignore_errors=True)
