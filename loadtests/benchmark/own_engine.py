"""An engine on private stores, for what is measured in this process: nothing else runs on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import engine.flow.drain as engine_drain
from engine.config import Settings
from engine.context import Engine
from engine.ledger.schema import migrate
from engine.upkeep.guard import watch_lanes
from loadtests.private_stack import private_folder
from ops.postgres import start_postgres
from ops.processes import free_port
from ops.valkey import start_valkey

PATIENT_STATEMENT_SECONDS = 60.0
"""A shop gives up on a statement and tries again; a measurement that gives up has measured nothing, and a shared disk
may stand still for longer than a shop waits."""


class OwnWorkFailed(Exception):
    """What was to be measured did not happen: a figure would be of nothing."""


@contextmanager
def own_engine() -> Iterator[Engine]:
    """An engine with one open lane, on embedded servers as ``make run`` starts them; gone at the end."""
    with private_folder() as folder:
        valkey = start_valkey(folder / "valkey", free_port())
        try:
            postgres = start_postgres(folder / "postgres", free_port())
            try:
                database_url = postgres.url.replace("postgresql://", "postgresql+psycopg://", 1)
                settings = Settings(
                    valkey.url, valkey.url, database_url, statement_timeout_seconds=PATIENT_STATEMENT_SECONDS
                )
                engine = Engine.connect(settings, patient=True)
                migrate(engine.ledger)
                watch_lanes(engine)
                yield engine
                engine.close()
            finally:
                postgres.stop()
        finally:
            valkey.stop()


def drain_all(engine: Engine, batch_limit: int = engine_drain.BATCH_LIMIT) -> None:
    """Empty the outbox by the real drain, in batches of at most this many, without its pauses between small ones."""
    usual, engine_drain.BATCH_LIMIT = engine_drain.BATCH_LIMIT, batch_limit
    report = engine_drain.DrainReport(lane=0)
    try:
        while engine_drain.drain_batch(engine, report):
            pass
    finally:
        engine_drain.BATCH_LIMIT = usual
    insist(report.quarantined == 0 and report.forgotten == 0, "the drain put something aside")


def timed(count: int, work: Callable[[], None]) -> float:
    """Things per second, of ``count`` things that ``work`` does."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def insist(holds: bool, what: str) -> None:
    """Raises OwnWorkFailed unless it holds."""
    if not holds:
        raise OwnWorkFailed(what)
