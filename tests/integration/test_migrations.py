"""The migrated schema: it goes up, down and up again, and is what the tables in the code say."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, make_url, text

from engine.ledger import schema
from engine.ledger.schema import migrate, missing_migrations
from engine.ledger.session import Ledger
from engine.ledger.shop_tables import orders

METADATA = orders.metadata  # of the module that is imported last: every table has registered itself

CONSTRAINTS = text("""
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
""")
INDEXES = text("""
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
""")
# A default is written 0 by the migrations and '0'::bigint by SQLAlchemy; Postgres keeps the difference.
COLUMNS = text(r"""
    SELECT table_name, column_name, data_type, is_nullable,
           regexp_replace(column_default, $re$^'(\d+)'::bigint$$re$, $re$\1$re$), is_identity, identity_generation
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
""")


@pytest.fixture
def empty_ledger(postgres_url: str) -> Iterator[Ledger]:
    """A ledger on a database without any table."""
    name = f"migrations_{uuid4().hex}"
    administrator = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    ledger = Ledger(make_url(postgres_url).set(database=name).render_as_string(hide_password=False))
    yield ledger
    ledger.close()
    with administrator.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    administrator.dispose()


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


def shape_of(connection: Connection) -> dict[str, set[tuple[object, ...]]]:
    """What Postgres itself says of constraints, indexes and columns: more than Alembic compares."""
    return {
        name: {tuple(row) for row in connection.execute(query)}
        for name, query in (("constraints", CONSTRAINTS), ("indexes", INDEXES), ("columns", COLUMNS))
    }


def downgrade(ledger: Ledger, revision: str) -> None:
    with ledger.transaction() as connection:
        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_alembic_finds_no_difference_between_the_tables_and_the_migrated_schema(ledger: Ledger) -> None:
    with ledger.read() as connection:
        assert differences(connection) == []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE user_coupons ADD COLUMN extra text",
        "ALTER TABLE user_coupons DROP CONSTRAINT uq_user_coupons_coupon_id_sequence",
        "ALTER TABLE coupons ALTER COLUMN name DROP NOT NULL",
        "DROP INDEX ix_coupons_unpublished",
    ],
)
def test_a_schema_that_differs_is_noticed(ledger: Ledger, change: str) -> None:
    with ledger.read() as connection:  # which ends without a commit
        connection.execute(text(change))
        assert differences(connection) != []


def test_postgres_describes_both_schemas_alike_down_to_the_checks(ledger: Ledger, empty_ledger: Ledger) -> None:
    with empty_ledger.transaction() as connection:
        METADATA.create_all(connection)
    with ledger.read() as migrated, empty_ledger.read() as made:
        assert shape_of(migrated) == shape_of(made)
    with ledger.read() as connection:  # which ends without a commit
        before = shape_of(connection)
        connection.execute(text("ALTER TABLE coupons DROP CONSTRAINT ck_coupons_issued_within_quantity"))
        assert shape_of(connection) != before


def test_migrations_go_up_down_and_up_again(empty_ledger: Ledger) -> None:
    assert missing_migrations(empty_ledger).startswith("the schema is at nothing")
    migrate(empty_ledger)
    assert missing_migrations(empty_ledger) == ""
    with empty_ledger.read() as connection:
        first = shape_of(connection)
    downgrade(empty_ledger, "base")
    with empty_ledger.read() as connection:
        assert shape_of(connection) == {"constraints": set(), "indexes": set(), "columns": set()}
    migrate(empty_ledger)
    with empty_ledger.read() as connection:
        assert shape_of(connection) == first


def test_each_step_down_leaves_a_schema_that_goes_up_again(empty_ledger: Ledger) -> None:
    migrate(empty_ledger)
    downgrade(empty_ledger, "0001")
    assert missing_migrations(empty_ledger).startswith("the schema is at 0001")
    migrate(empty_ledger)
    with empty_ledger.read() as connection:
        assert differences(connection) == []


def test_migrating_again_changes_nothing(ledger: Ledger) -> None:
    with ledger.read() as connection:
        before = shape_of(connection)
    migrate(ledger)
    with ledger.read() as connection:
        assert shape_of(connection) == before


def test_two_processes_that_migrate_at_once_do_it_one_after_the_other(empty_ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        for migration in [pool.submit(migrate, empty_ledger) for _ in range(4)]:
            migration.result()
    assert missing_migrations(empty_ledger) == ""


def test_a_newer_schema_is_enough_and_is_left_alone(empty_ledger: Ledger) -> None:
    """So that the processes of the version before go on while the new ones come, and come back when those are bad."""
    migrate(empty_ledger)
    with empty_ledger.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("ALTER TABLE orders ADD COLUMN from_the_future text"))
    assert missing_migrations(empty_ledger) == ""
    migrate(empty_ledger)
    with empty_ledger.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
        assert connection.execute(text("SELECT from_the_future FROM orders")).all() == []
