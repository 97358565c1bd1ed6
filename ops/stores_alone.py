"""The stores without the processes: for what has to be done with everything else stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from engine.config import Settings
from engine.context import Engine
from engine.errors import LedgerUnavailable
from engine.ledger.audit_queries import recorded_lanes
from engine.ledger.schema import missing_migrations
from ops.connection import data_dir
from ops.postgres import start_postgres
from ops.problems import StackProblem
from ops.run import remembered_ports
from ops.stack import locked
from ops.valkey import FSYNC_CHOICES, start_valkey


@contextmanager
def engine_alone(environ: Mapping[str, str], lanes: int) -> Iterator[Engine]:
    """An engine with so many lanes on the stores that the environment names, else on those of DATA_DIR.

    The latter are started, and stopped at the end; meanwhile no stack can start on the folder. Raises StackProblem
    when one runs there or nothing is there, InvalidSettings, LedgerUnavailable.
    """
    given = {name: value for name, value in environ.items() if value.strip()}
    urls: dict[str, str] = {
        name: given[name] for name in ("REDIS_URL", "QUEUE_REDIS_URL", "DATABASE_URL") if name in given
    }
    with ExitStack() as at_the_end:
        if "REDIS_URL" not in urls or "DATABASE_URL" not in urls:
            urls |= at_the_end.enter_context(_embedded(given, urls))
        engine = Engine.connect(Settings.from_environment({**urls, "LANES": str(lanes)}), patient=True)
        at_the_end.callback(engine.close)
        behind = missing_migrations(engine.ledger)
        if behind:
            raise LedgerUnavailable(behind)
        yield engine


def recorded_number_of_lanes(engine: Engine) -> int:
    """How many lanes the data was built with; as many as the engine has when there are no data yet."""
    with engine.ledger.read() as connection:
        return recorded_lanes(connection) or engine.gate.lanes


@contextmanager
def _embedded(given: Mapping[str, str], urls: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The addresses of those servers that are not named, for as long as the block lasts."""
    folder = data_dir(given).expanduser().resolve()
    if not (folder / "postgres").is_dir() and "DATABASE_URL" not in urls:
        raise StackProblem(f"DATA_DIR={folder} holds no data: name the servers, REDIS_URL=… DATABASE_URL=…")
    started: dict[str, str] = {}
    with locked(folder), ExitStack() as at_the_end:
        ports = remembered_ports(folder / "ports.json")
        if "REDIS_URL" not in urls:
            fsync = given.get("APPENDFSYNC", FSYNC_CHOICES[0])
            valkey = start_valkey(folder / "valkey", ports["valkey"], fsync=fsync)
            at_the_end.callback(valkey.stop)
            started["REDIS_URL"] = valkey.url
        if "DATABASE_URL" not in urls:
            postgres = start_postgres(folder / "postgres", ports["postgres"])
            at_the_end.callback(postgres.stop)
            started["DATABASE_URL"] = postgres.url
        yield started
