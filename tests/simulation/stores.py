"""The real stores of a simulation: emptied cheaply, copied, put back as they were, moved to other servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from sqlalchemy import create_engine, make_url, text

from engine.config import Settings
from engine.context import Engine
from engine.flow.bell import Bell
from engine.gate import keys, scripts
from engine.gate.gate import Gate
from engine.ledger.schema import migrate
from tests.emptying import EMPTYING
from tests.simulation.doctored import CLOCK, SERVER, scripts_in_a_simulated_world

DATABASE = "seonchak_simulation"
LEDGER_CONNECTIONS = 24
"""More than there are ever transactions open at once: a new connection in the middle would be a step of its own."""
PATIENCE_SECONDS = 60.0
"""Real time never ends a wait: the simulation says when a statement or a session has taken too long."""
BACKLOG_LIMIT = 1000
OPENING_MS = 1_900_000_000_000
"""The time at which every history begins; it goes on as the simulation says."""


class SilentBell(Bell):
    """A bell that nobody hears: every ring is lost, and drains come when the simulation says so."""

    def __init__(self) -> None:
        pass

    def ring(self, lane: int) -> bool:  # noqa: ARG002 - as the bell's
        return True

    def ring_for_followups(self) -> bool:
        return True

    def waiting(self) -> int:
        return 0

    def followups_waiting(self) -> int:
        return 0

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Copy:
    """The whole keyspace as it was at a step: key, time to live in milliseconds, value as Redis dumps it."""

    step: int
    entries: tuple[tuple[bytes, int, bytes], ...]


@dataclass
class Stores:
    """One Redis and one database that belong to the simulation alone."""

    engine: Engine
    ledger: psycopg.Connection[dict[str, Any]]
    """For looking at the ledger from outside: every statement is a transaction of its own."""
    monitor: psycopg.Connection[Any]
    raw: Any
    """A client that gives bytes, for copies."""

    @classmethod
    @contextmanager
    def connect(cls, redis_url: str, postgres_url: str) -> Iterator[Stores]:
        """Make the database, migrate it and connect; ``postgres_url`` is any database of the server."""
        url = _make_database(postgres_url)
        engine = Engine.connect(
            Settings(
                redis_url=redis_url,
                queue_redis_url=redis_url,
                database_url=url,
                backlog_limit=BACKLOG_LIMIT,
                ledger_pool_size=LEDGER_CONNECTIONS,
                statement_timeout_seconds=PATIENCE_SECONDS,
            ),
            patient=True,
        )
        migrate(engine.ledger)
        plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
        raw = type(engine.gate.client).from_url(redis_url)
        with (
            psycopg.connect(plain, autocommit=True, row_factory=psycopg.rows.dict_row) as ledger,
            psycopg.connect(plain, autocommit=True) as monitor,
        ):
            stores = cls(engine, ledger, monitor, raw)
            stores._warm_up()
            try:
                with scripts_in_a_simulated_world():
                    yield stores
            finally:
                raw.flushdb()
                raw.close()
                engine.close()

    def process(self, lanes: int) -> Engine:
        """The engine of a process that has just started: it knows nothing yet. Connections are shared by all."""
        settings = replace(self.engine.settings, lanes=lanes)
        gate = Gate(self.engine.gate.client, lanes, BACKLOG_LIMIT)
        return replace(self.engine, settings=settings, gate=gate, bell=SilentBell())

    def empty(self) -> None:
        """Nothing is left in either store; Redis knows every script, so that no history is the first to send one."""
        self.raw.flushdb()
        with self.raw.pipeline(transaction=False) as pipeline:
            for path in sorted(scripts.LUA_DIRECTORY.glob("*.lua")):
                pipeline.script_load(path.read_text(encoding="utf-8"))
            pipeline.set(CLOCK, OPENING_MS)
            pipeline.execute()
        self.monitor.execute(EMPTYING.encode())

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """What the ledger says to a query, seen from outside."""
        return self.ledger.execute(query.encode(), values).fetchall()

    def is_waiting_for_lock(self, backend: int) -> tuple[int, ...]:
        """The backends that keep this one waiting; empty when it is at work."""
        row = self.monitor.execute(b"SELECT pg_blocking_pids(%s)", [backend]).fetchone()
        return tuple(row[0]) if row else ()

    def second_in_a_queue(self, backends: Sequence[int]) -> int | None:
        """Of backends that wait for locks, the first in their order that waits for the same one as another; or None.

        Rows are waited for in the name of the transaction that changed them. Only one may do so for a row; the next one
        waits for the row itself, until the first has its turn.
        """
        query = b"""
            SELECT pid, locktype, transactionid FROM pg_locks
            WHERE NOT granted AND pid = ANY(%s) ORDER BY array_position(%s, pid)
        """
        transactions = set()
        for backend, kind, transaction in self.monitor.execute(query, [backends, backends]):
            if kind == "tuple" or transaction in transactions:
                return int(backend)
            if transaction is not None:
                transactions.add(transaction)
        return None

    def copy(self, step: int) -> Copy:
        """The keyspace as it is now."""
        names = sorted(self.raw.scan_iter(count=1000))
        with self.raw.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.pttl(name).dump(name)
            found = pipeline.execute()
        entries = zip(names, found[::2], found[1::2], strict=True)
        return Copy(step, tuple((name, max(0, ttl), value) for name, ttl, value in entries if value is not None))

    def put_back(self, copy: Copy | None, lanes: Iterable[int] | None = None) -> None:
        """Make the keyspace what it was in the copy; with None, empty. ``lanes``, if given, are the only ones."""
        wanted = None if lanes is None else tuple(f"{{{lane}}}".encode() for lane in lanes)

        def concerned(name: bytes) -> bool:
            ours = not name.startswith((CLOCK.encode(), SERVER.encode()))
            return ours and (wanted is None or any(tag in name for tag in wanted))

        with self.raw.pipeline(transaction=False) as pipeline:
            for name in self.raw.scan_iter(count=1000):
                if concerned(name):
                    pipeline.delete(name)
            for name, ttl, value in copy.entries if copy is not None else ():
                if concerned(name):
                    pipeline.restore(name, ttl, value)
            pipeline.execute()

    def fail_over(self, server: int, lanes: Iterable[int]) -> None:
        """From now on these lanes are on the server of this number; it has what was there before."""
        self.raw.mset({f"{SERVER}:{keys.lane(lane)}": f"{server:040x}" for lane in lanes})

    def pass_time(self, lanes: int, seconds: float, *, claims: bool) -> None:
        """Let the clock of Redis go on; bells and leases run out, and with ``claims`` those of follow-ups, too."""
        with self.raw.pipeline(transaction=False) as pipeline:
            pipeline.incrby(CLOCK, round(seconds * 1000))
            for lane in range(lanes):
                pipeline.delete(keys.bell(lane), keys.lease(lane))
            pipeline.execute()
        if claims:
            overdue = b"UPDATE order_followups SET due_at = now() WHERE status = 'PENDING' AND due_at > now()"
            self.monitor.execute(overdue)

    def _warm_up(self) -> None:
        """Open every connection of the pool now, and let the drivers ask and send what they do the first time."""
        opened = [self.engine.ledger.engine.connect() for _ in range(LEDGER_CONNECTIONS)]
        for connection in opened:
            connection.execute(text("SELECT 1"))
            connection.close()
        with self.engine.gate.client.lock("warm-up", timeout=1) as lock:
            lock.reacquire()


def _make_database(postgres_url: str) -> str:
    administrator = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {DATABASE}"))
        # The server is never killed here, so nothing is lost by not waiting for the disk.
        connection.execute(text(f"ALTER DATABASE {DATABASE} SET synchronous_commit = off"))
        # Whoever closes a circle of waits finds out before the simulation goes on, so it is always the same one.
        connection.execute(text(f"ALTER DATABASE {DATABASE} SET deadlock_timeout = '1ms'"))
    administrator.dispose()
    return make_url(postgres_url).set(database=DATABASE).render_as_string(hide_password=False)


__all__ = ["BACKLOG_LIMIT", "Copy", "SilentBell", "Stores"]
