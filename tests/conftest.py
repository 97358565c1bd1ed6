"""Real servers for the tests: private ones from wheels, on free ports, in a folder that goes when the tests end.

``REDIS_URL`` in the environment puts another Redis in the embedded one's place. Every test empties that database, so it
has to be empty to begin with: nobody's data are lost because a variable happened to be set.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import create_engine, make_url, text
from xdist.remote import Producer

from engine.config import Settings
from engine.context import Engine
from engine.gate.clients import connect
from engine.ledger.schema import migrate
from engine.ledger.session import Ledger
from engine.upkeep.guard import watch_lanes
from ops.postgres import discard_postgres, start_postgres
from ops.processes import free_port
from ops.stores import RunningStore
from ops.valkey import start_valkey
from tests.emptying import EMPTYING
from tests.sharing import SharedStacks, place_in_line
from tests.stack.prepared_postgres import discard_prepared, prepare_postgres

MEMORY = Path("/dev/shm")  # noqa: S108 - folders with names of their own are made in it
ENOUGH_MEMORY = 8 * 2**30
"""Bytes; write-ahead logs grow to a gigabyte each before they are used again."""

EngineMaker = Callable[..., Engine]

OTHERS_OUT = text("""
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
""")
SCHEMA = text("""
    SELECT md5(string_agg(part, E'\\n' ORDER BY part)) FROM (
        SELECT concat_ws(' ', relname, relkind, attname, atttypid, attnotnull)
        FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
        WHERE relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', conname, conrelid::regclass, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT concat_ws(' ', proname, prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    ) AS parts (part)
""")


@pytest.fixture(scope="session")
def stores_folder() -> Iterator[Path]:
    """A folder that Postgres' own user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="seonchak-tests-"))
    folder.chmod(0o711)
    yield folder
    discard_postgres(folder / "postgres")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(stores_folder: Path) -> Iterator[str]:
    """A Redis that the tests may empty."""
    external = os.environ.get("REDIS_URL")
    if external:
        external = _database_of_this_worker(external)
        with connect(external, timeout_seconds=5) as client:
            if client.dbsize():
                pytest.exit("REDIS_URL names a database with data in it, and the tests empty theirs: name another", 2)
            yield external
            client.flushdb()
        return
    store = start_valkey(stores_folder / "valkey", free_port())
    yield store.url
    store.stop()


def _database_of_this_worker(url: str) -> str:
    """Tests that run side by side empty a database each: the one named, the one after it, and so on."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{int(parts.path.strip('/') or 0) + int(worker.removeprefix('gw'))}"))


@pytest.fixture(scope="session")
def postgres_url(stores_folder: Path) -> Iterator[str]:
    """A Postgres with nothing in it but the default database."""
    prepare_postgres(stores_folder / "postgres")
    store = start_postgres(stores_folder / "postgres", free_port())
    yield store.url.replace("postgresql://", "postgresql+psycopg://", 1)
    store.stop()


@dataclass(frozen=True)
class MigratedDatabase:
    """A migrated database, whoever cleans up in it between tests, and what its schema looks like."""

    url: str
    cleaner: DatabaseEngine
    schema: str


@pytest.fixture(scope="session")
def migrated_database(postgres_url: str) -> Iterator[MigratedDatabase]:
    """One for all tests: making and dropping one per test takes longer than most tests."""
    name = "seonchak_tests"
    administrator = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    administrator.dispose()
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    _migrate(url)
    cleaner = create_engine(url, pool_pre_ping=True)  # a test may have ended its session, too
    with cleaner.begin() as connection:
        schema = str(connection.execute(SCHEMA).scalar_one())
    yield MigratedDatabase(url, cleaner, schema)
    cleaner.dispose()


@pytest.fixture
def database_url(migrated_database: MigratedDatabase) -> str:
    """A migrated database that is empty and that nobody else works in; a test may change its schema, too."""
    with migrated_database.cleaner.begin() as connection:
        # What a killed process left open must not hold a lock that the emptying waits for.
        connection.execute(OTHERS_OUT)
        unchanged = connection.execute(SCHEMA).scalar_one() == migrated_database.schema
        if unchanged:
            connection.execute(text(EMPTYING))
        else:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    if not unchanged:
        _migrate(migrated_database.url)
    return migrated_database.url


def _migrate(url: str) -> None:
    ledger = Ledger(url)
    migrate(ledger)
    ledger.close()


@pytest.fixture
def lanes() -> int:
    """How many lanes the test runs with; modules that want several override this with a parametrised fixture."""
    return 1


@pytest.fixture
def make_engine(redis_url: str, database_url: str) -> Iterator[EngineMaker]:
    """Makes engines on this test's stores, ``make_engine(lanes=…, redis_url=…, …)``; Redis starts empty."""
    made: list[Engine] = []

    def make(**changes: object) -> Engine:
        settings = {"redis_url": redis_url, "queue_redis_url": redis_url, "database_url": database_url, **changes}
        engine = Engine.connect(Settings(**settings), patient=True)  # type: ignore[arg-type]
        made.append(engine)
        return engine

    make().gate.client.flushdb()
    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make_engine: EngineMaker, lanes: int) -> Engine:
    """An engine whose lanes are open and empty."""
    engine = make_engine(lanes=lanes)
    watch_lanes(engine)
    return engine


def pytest_configure() -> None:
    """Where there is room, let everything that is thrown away afterwards be written to memory: a new server's data are
    a thousand files, which some disks take a second of processor time for, and there are hundreds of servers.
    """
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ENOUGH_MEMORY:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # what was found before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first."""
    items.sort(key=place_in_line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SharedStacks:
    """Called where tests run side by side."""
    return SharedStacks(config, log)


def pytest_unconfigure() -> None:
    """Nothing of the tests is left behind."""
    discard_prepared()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RunningStore]:
    """A Redis that this test may stop, restart and break."""
    store = start_valkey(tmp_path / "valkey", free_port())
    yield store
    store.stop()
