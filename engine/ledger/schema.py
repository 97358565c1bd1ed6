"""The ledger's schema, in versions: Alembic's migrations in ``engine/ledger/migrations``."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from engine.ledger.session import Ledger

# What Alembic tells of itself at every look is nothing a person waits for.
logging.getLogger("alembic").setLevel(logging.WARNING)

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x5EC0
"""Advisory lock: two processes that migrate at once do it one after the other."""


def migrate(ledger: Ledger) -> None:
    """Bring the schema to this code's version. Safe to repeat and to run side by side; raises LedgerUnavailable."""
    with ledger.transaction() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SET LOCAL statement_timeout = '10min'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def missing_migrations(ledger: Ledger) -> str:
    """In words, what the schema lacks for this code; empty when it is up to date. Raises LedgerUnavailable."""
    with ledger.read() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == _newest():
        return ""
    return f"the schema is at {current or 'nothing'}, this code needs {_newest()}: run `make migrate`"


@cache
def _newest() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config
