"""The ledger's tables. Constraints are the last guard: what the gate may never do, Postgres refuses to record."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def id_column(name: str = "id") -> Column[int]:
    """A key that Postgres counts up unless it is given."""
    return Column(name, BigInteger, Identity(), primary_key=True)


def moment_column(
    name: str, *, nullable: bool = False, default_now: bool = False, primary_key: bool = False
) -> Column[datetime]:
    """A point in time; with ``default_now``, that of the transaction."""
    default = func.now() if default_now else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default, primary_key=primary_key)


engine_settings = Table(
    "engine_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the data was built with: ``lanes``, ``request_key``."""

coupons = Table(
    "coupons",
    metadata,
    id_column(),
    Column("name", Text, nullable=False),
    Column("discount_amount", BigInteger, nullable=False),
    Column("total_quantity", BigInteger, nullable=False),
    Column("issued", BigInteger, nullable=False, server_default="0"),
    Column("status", Text, nullable=False),
    moment_column("starts_at", nullable=True),
    moment_column("ends_at", nullable=True),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("published_version", BigInteger, nullable=False, server_default="0"),
    moment_column("created_at", default_now=True),
    CheckConstraint("discount_amount > 0", name="discount_positive"),
    CheckConstraint("total_quantity > 0", name="quantity_positive"),
    CheckConstraint("issued BETWEEN 0 AND total_quantity", name="issued_within_quantity"),
    CheckConstraint("status IN ('ACTIVE', 'INACTIVE')", name="status_known"),
    CheckConstraint("ends_at > starts_at", name="window_forward"),
    Index("ix_coupons_unpublished", "id", postgresql_where="published_version < version"),
)

user_coupons = Table(
    "user_coupons",
    metadata,
    id_column(),
    Column("coupon_id", BigInteger, ForeignKey("coupons.id"), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="AVAILABLE"),
    moment_column("issued_at"),
    # The request id comes first: Postgres checks unique indexes in the order of their creation, and two drains that
    # write the same entry side by side have to meet at the one that ON CONFLICT names.
    UniqueConstraint("request_id"),
    UniqueConstraint("coupon_id", "user_id"),
    UniqueConstraint("coupon_id", "sequence"),
    CheckConstraint("user_id > 0", name="user_positive"),
    CheckConstraint("sequence > 0", name="sequence_positive"),
    CheckConstraint("status IN ('AVAILABLE', 'USED')", name="status_known"),
    Index("ix_user_coupons_user", "user_id", "id"),
)

lane_progress = Table(
    "lane_progress",
    metadata,
    Column("lane", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("last_number", BigInteger, nullable=False),
    Column("built_epoch", BigInteger, nullable=False, server_default="0"),
    Column("returned", BigInteger, nullable=False, server_default="0"),
    moment_column("updated_at", default_now=True),
)
"""Per lane: the newest epoch that was opened, the number up to which every decision was recorded or dropped for good,
the epoch of its last rebuild, and how many returns of cancelled orders it is known to have carried out since."""

lane_epochs = Table(
    "lane_epochs",
    metadata,
    Column("lane", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("begins_after", BigInteger, nullable=False),
    Column("rebuilt", Boolean, nullable=False),
    moment_column("begun_at", default_now=True),
    CheckConstraint("begins_after >= 0", name="begins_after_not_negative"),
)
"""Every epoch of a lane: the last decision of the lane before it, and whether the lane was rebuilt from this ledger.
Decisions of earlier epochs that it does not stand on were forgotten by Redis: they are not recorded any more."""

quarantined_outcomes = Table(
    "quarantined_outcomes",
    metadata,
    id_column(),
    Column("request_id", Text, nullable=False),
    Column("lane", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("fields", JSONB, nullable=False),
    Column("error", Text, nullable=False),
    moment_column("quarantined_at", default_now=True),
    moment_column("ended_at", nullable=True),
    Column("ended_as", Text),
    Column("ended_because", Text),
    UniqueConstraint("lane", "epoch", "number"),
    CheckConstraint("ended_as IN ('RECORDED', 'DROPPED')", name="end_known"),
    CheckConstraint("(ended_at IS NULL) = (ended_as IS NULL)", name="ended_as_something"),
    Index("ix_quarantined_outcomes_request_id", "request_id"),
    Index("ix_quarantined_outcomes_waiting", "id", postgresql_where="ended_at IS NULL"),
)
"""Decisions that the ledger refused to record: each is a fault that a person has to look at. A row stays when its
decision was recorded after all (RECORDED) or given up (DROPPED)."""
