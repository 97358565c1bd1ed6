"""The ledger's schema, in versions: Alembic's migrations in ``engine/ledger/migrations``."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from engine.ledger.session import Ledger

# What Alembic tells of itself at every look is nothing a person waits for.
logging.getLogger("alembic").setLevel(logging.WARNING)

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x5EC0
"""Advisory lock: two processes that migrate at once do it one after the other."""


def migrate(ledger: Ledger) -> None:
    """Bring the schema to this code's version; a newer one is left as it is. Safe to repeat and to run side by side.

    Raises LedgerUnavailable.
    """
    with ledger.transaction() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SET LOCAL statement_timeout = '10min'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        if _is_newer(_revision(connection)):
            return
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def missing_migrations(ledger: Ledger) -> str:
    """In words, what the schema lacks for this code; empty when nothing. Raises LedgerUnavailable.

    A newer schema lacks nothing: migrations only add, so that processes of the version before go on beside the new ones
    (docs/deploy.md).
    """
    with ledger.read() as connection:
        current = _revision(connection)
    if current == _newest() or _is_newer(current):
        return ""
    return f"the schema is at {current or 'nothing'}, this code needs {_newest()}: run `make migrate`"


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_newer(revision: str | None) -> bool:
    """Every revision up to this code's own is in its folder; one that is not there was made later."""
    return revision is not None and revision not in _known()


@cache
def _newest() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config
