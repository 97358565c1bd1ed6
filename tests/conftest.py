"""Real servers for the tests: private ones from wheels, on free ports, in a folder that goes when the tests end.

``REDIS_URL`` in the environment puts another Redis in the embedded one's place; its database is emptied by every test.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from engine.config import Settings
from engine.context import Engine
from engine.guard import watch_lanes
from engine.ledger.schema import migrate
from engine.ledger.session import Ledger
from ops.postgres import discard_postgres, start_postgres
from ops.processes import free_port
from ops.valkey import start_valkey

EngineMaker = Callable[..., Engine]

_numbers = count(1)


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
        yield external
        return
    store = start_valkey(stores_folder / "valkey", free_port())
    yield store.url
    store.stop()


@pytest.fixture(scope="session")
def postgres_url(stores_folder: Path) -> Iterator[str]:
    """A Postgres with nothing in it but the default database."""
    store = start_postgres(stores_folder / "postgres", free_port())
    yield store.url.replace("postgresql://", "postgresql+psycopg://", 1)
    store.stop()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a migrated database to copy: far quicker than migrating for every test."""
    name = "seonchak_template"
    _administer(postgres_url, f"CREATE DATABASE {name}")
    ledger = Ledger(_database(postgres_url, name))
    migrate(ledger)
    ledger.close()
    return name


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A database of this test's own, migrated and empty."""
    name = f"test_{next(_numbers)}"
    _administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY")
    yield _database(postgres_url, name)
    _administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


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


def _administer(postgres_url: str, statement: str) -> None:
    administrator = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text(statement))
    administrator.dispose()


def _database(postgres_url: str, name: str) -> str:
    return make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
