"""Connections and transactions: bounded in time, retried as a whole where Postgres says so, errors translated."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from engine.errors import LedgerUnavailable

Result = TypeVar("Result")

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
ATTEMPTS = 5
CONNECT_TIMEOUT_SECONDS = 2
SILENT_NETWORK = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A network that drops every packet, as one does that forgot the connection, is noticed after about eleven seconds. By
the kernel's own defaults a question waits a quarter of an hour, an answer under way for two hours."""
POOL_WAIT_SECONDS = 1.0
PLANNED_ANEW = text("SET LOCAL plan_cache_mode = force_custom_plan")
"""Postgres keeps the plans of repeated statements. One made before a rush is for tables of a few rows: it reads all of
them once for every row of a page, longer than a statement may take, until their statistics are taken again. Not for
every session: a drain's statements have arrays of a thousand values, and planning each anew costs a fifth of it."""


class Ledger:
    """The Postgres that remembers. Thread-safe; one per process; connects at the first statement."""

    def __init__(self, url: str, *, pool_size: int = 8, statement_timeout_seconds: float = 5.0) -> None:
        milliseconds = round(statement_timeout_seconds * 1000)
        self.engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_use_lifo=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": "seonchak",
                **SILENT_NETWORK,
                "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} "
                f"-c idle_in_transaction_session_timeout={2 * milliseconds} -c timezone=UTC",
            },
        )
        event.listen(self.engine, "checkout", self._refuse_a_dead_connection)

    def close(self) -> None:
        self.engine.dispose()

    def _refuse_a_dead_connection(self, connection: psycopg.Connection[Any], *_: object) -> None:
        """Called before each use of a connection. After an outage the first use of one from before it would fail,
        though Postgres answers again. SQLAlchemy's own pre-ping would cost a round trip before every use."""
        if not connection.closed and not _hears_something(connection):
            return
        try:
            self.engine.dialect.do_ping(connection)  # type: ignore[arg-type] # what psycopg's own takes
        except psycopg.Error as error:
            raise InvalidatePoolError from error  # SQLAlchemy connects anew, and so for all that wait in the pool

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries. Raises LedgerUnavailable when Postgres does not answer."""
        with _unavailability_translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection whose queries all see one and the same instant, for those that walk through whole tables.

        Raises as :meth:`read`.
        """
        with _unavailability_translated(), self.engine.connect() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ").execute(PLANNED_ANEW)
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        Raises LedgerUnavailable when Postgres does not answer; if that happened at COMMIT the outcome is unknown.
        """
        with _unavailability_translated(), self.engine.begin() as connection:
            yield connection

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Do ``work`` in one transaction, and all of it again after a deadlock or a serialization failure."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with _unavailability_translated(retryable=attempt < ATTEMPTS), self.engine.begin() as connection:
                    return work(connection)
            except RepeatTransaction:
                continue
        raise LedgerUnavailable("a transaction had to be repeated too often")


class RepeatTransaction(Exception):  # not an EngineError: it never leaves Ledger.run
    """The whole transaction has to be done again: Postgres asks for it, or the work saw that it raced another."""


@contextmanager
def _unavailability_translated(retryable: bool = False) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if retryable and getattr(error.orig, "sqlstate", None) in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
            raise RepeatTransaction from error
        raise LedgerUnavailable(_reason(error)) from error
    except PoolTimeout as error:
        raise LedgerUnavailable("no free connection") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise LedgerUnavailable(_reason(error)) from error
        raise


def _hears_something(connection: psycopg.Connection[Any]) -> bool:
    """Whether there is something to read. On an idle connection it is its end, or news such as a changed setting."""
    looking = select.poll()
    looking.register(connection.fileno(), select.POLLIN)
    return bool(looking.poll(0))


def _reason(error: DBAPIError) -> str:
    """The driver's first line: it names the cause; the statement and its values stay out of it."""
    return f"{type(error.orig).__name__}: {str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else ''}"
