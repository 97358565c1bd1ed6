"""The servers that a command works on: those that the environment names, or those of the stack that runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engine.config import Settings
from engine.context import Engine
from engine.errors import EngineError, LedgerUnavailable
from engine.ledger.audit_queries import recorded_lanes
from engine.ledger.schema import missing_migrations
from ops.problems import StackProblem
from ops.stack import read_stack


@contextmanager
def connected() -> Iterator[Engine]:
    """As :func:`connect` with this process' environment, closed at the end."""
    engine = connect(os.environ)
    try:
        yield engine
    finally:
        engine.close()


def connect(environ: Mapping[str, str]) -> Engine:
    """An engine on the servers that the environment names, else on those of the stack that runs on DATA_DIR.

    It has as many lanes as the data. Raises StackProblem, InvalidSettings, LedgerUnavailable.
    """
    settings = settings_of(environ)
    engine = Engine.connect(settings, patient=True)
    try:
        behind = missing_migrations(engine.ledger)
        if behind:
            raise LedgerUnavailable(behind)
        with engine.ledger.read() as connection:
            lanes = recorded_lanes(connection) or settings.lanes
    except EngineError:
        engine.close()
        raise
    if lanes == settings.lanes:
        return engine
    engine.close()
    return Engine.connect(replace(settings, lanes=lanes), patient=True)


def settings_of(environ: Mapping[str, str]) -> Settings:
    """The settings of a process on those servers. Raises StackProblem, InvalidSettings."""
    if environ.get("REDIS_URL") or environ.get("DATABASE_URL"):
        return Settings.from_environment(environ)
    folder = data_dir(environ)
    stack = read_stack(folder)
    if stack is None:
        raise StackProblem(
            f"no stack runs on DATA_DIR={folder}. Start one with `make run`, or name the servers: "
            "REDIS_URL=… DATABASE_URL=…"
        )
    urls = {"REDIS_URL": stack.redis_url, "QUEUE_REDIS_URL": stack.queue_redis_url, "DATABASE_URL": stack.database_url}
    return Settings.from_environment({**urls, "LANES": environ.get("LANES", "")})


def data_dir(environ: Mapping[str, str]) -> Path:
    """The folder that the embedded servers keep their data in."""
    return Path(environ.get("DATA_DIR", "").strip() or "var")
