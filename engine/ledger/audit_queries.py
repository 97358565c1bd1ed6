"""What the audit asks the ledger in order to compare it with the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, bindparam, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from engine.ledger.coupons import Coupon
from engine.ledger.followups import FollowupKind
from engine.ledger.products import Product
from engine.ledger.quarantine import quarantined_count
from engine.ledger.shop_tables import products
from engine.ledger.tables import coupons, engine_settings, lane_progress, quarantined_outcomes, user_coupons


@dataclass(frozen=True)
class LaneRecord:
    """What the ledger has recorded of a lane."""

    epoch: int
    last_number: int
    built_epoch: int


@dataclass(frozen=True)
class CouponRecord:
    """A coupon and the highest place in line that is recorded, 0 if none is."""

    coupon: Coupon
    highest_sequence: int


@dataclass(frozen=True)
class ProductRecord:
    """A product, and which version of its row this is: every change of the row, whatever it changes, is another one."""

    product: Product
    row_version: str


class UnitsToReturn(NamedTuple):
    """Units of a cancelled order that are not known to be back on sale at the gate."""

    nonce: str
    product_id: int
    quantity: int


@dataclass(frozen=True)
class Named:
    """Something that should not be there: how many there are, and some of them in words."""

    count: int
    some: Sequence[str]


class DueFollowup(NamedTuple):
    """A follow-up that is the first of its kind to be worked off."""

    kind: str
    id: int
    order_id: int
    overdue_seconds: int


def recorded_lanes(connection: Connection) -> int | None:
    """The number of lanes that the data was built with; None before it was recorded."""
    query = select(engine_settings.c.value).where(engine_settings.c.name == "lanes")
    value = connection.execute(query).scalar_one_or_none()
    return None if value is None else int(value)


def lane_records(connection: Connection) -> dict[int, LaneRecord]:
    """Every lane that was ever opened."""
    rows = connection.execute(select(lane_progress))
    return {row.lane: LaneRecord(row.epoch, row.last_number, row.built_epoch) for row in rows}


def coupon_ids_after(connection: Connection, after: int, limit: int) -> list[int]:
    """Ids of coupons, in order: the next page."""
    return _ids_after(connection, coupons.c.id, after, limit)


def product_ids_after(connection: Connection, after: int, limit: int) -> list[int]:
    """Ids of products, in order: the next page."""
    return _ids_after(connection, products.c.id, after, limit)


def coupon_records(connection: Connection, coupon_ids: Sequence[int]) -> dict[int, CouponRecord]:
    """These coupons."""
    query = select(coupons, _HIGHEST_SEQUENCE).where(coupons.c.id.in_(coupon_ids))
    found = {}
    for row in connection.execute(query).mappings():
        values = dict(row)
        highest_sequence = int(values.pop("highest_sequence"))
        found[row["id"]] = CouponRecord(Coupon(**values), highest_sequence)
    return found


def recorded_within(connection: Connection, ranges: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """By coupon, how many places in line are recorded within its range, ``(after, upto]``."""
    values = {
        "coupon_ids": list(ranges),
        "afters": [after for after, _ in ranges.values()],
        "uptos": [upto for _, upto in ranges.values()],
    }
    return {row.id: row.places for row in connection.execute(_RECORDED_WITHIN, values)}


def product_records(connection: Connection, product_ids: Sequence[int]) -> dict[int, ProductRecord]:
    """These products."""
    query = select(products, _ROW_VERSION).where(products.c.id.in_(product_ids))
    found = {}
    for row in connection.execute(query).mappings():
        values = dict(row)
        row_version = str(values.pop("row_version"))
        found[row["id"]] = ProductRecord(Product(**values), row_version)
    return found


def product_row_versions(connection: Connection, product_ids: Sequence[int]) -> dict[int, str]:
    """The version of each of these rows."""
    query = select(products.c.id, _ROW_VERSION).where(products.c.id.in_(product_ids))
    return {row.id: row.row_version for row in connection.execute(query)}


def units_to_return(connection: Connection, product_ids: Sequence[int]) -> list[UnitsToReturn]:
    """Units of these products that cancellations gave back in the ledger and nobody reported back at the gate."""
    rows = connection.execute(_UNITS_TO_RETURN, {"product_ids": list(product_ids)})
    return [UnitsToReturn(row.nonce, row.product_id, row.quantity) for row in rows]


def quarantined(connection: Connection, some: int) -> Named:
    """What the ledger refused to record and nobody has decided about, the latest first."""
    table = quarantined_outcomes
    query = select(table.c.lane, table.c.epoch, table.c.number, table.c.kind).where(table.c.ended_at.is_(None))
    count = quarantined_count(connection)
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(some))
    return Named(count, [f"{row.kind or 'entry'} {row.epoch}-{row.number} of lane {row.lane}" for row in rows])


def parked_followups(connection: Connection, some: int) -> Named:
    """Follow-ups that nobody tries any more."""
    count = connection.execute(text("SELECT count(*) FROM order_followups WHERE status = 'PARKED'")).scalar_one()
    rows = connection.execute(_PARKED, {"some": some})
    return Named(count, [f"{row.kind} of order {row.order_id}" for row in rows])


def first_due_followups(
    connection: Connection, kinds: Sequence[FollowupKind], overdue_seconds: float
) -> list[DueFollowup]:
    """Of each kind the first follow-up that has been due for longer than that, if there is one."""
    values = {"kinds": [kind.value for kind in kinds], "overdue_seconds": overdue_seconds}
    return [DueFollowup(*row) for row in connection.execute(_FIRST_DUE, values)]


def unpublished(connection: Connection, some: int) -> Mapping[str, int]:
    """Changes that the gate has not confirmed: what was changed, in words, and to which version."""
    rows = connection.execute(_UNPUBLISHED, {"some": some})
    return {f"{row.kind} {row.id}": row.version for row in rows}


_HIGHEST_SEQUENCE = (
    select(func.coalesce(func.max(user_coupons.c.sequence), 0))
    .where(user_coupons.c.coupon_id == coupons.c.id)
    .scalar_subquery()
    .label("highest_sequence")
)

_RECORDED_WITHIN = text("""
    SELECT range.id, (
        SELECT count(*) FROM user_coupons
        WHERE coupon_id = range.id AND sequence > range.after AND sequence <= range.upto
    ) AS places
    FROM unnest(CAST(:coupon_ids AS bigint[]), CAST(:afters AS bigint[]), CAST(:uptos AS bigint[]))
         AS range (id, after, upto)
""")

_ROW_VERSION: ColumnElement[str] = literal_column("CAST(products.xmin AS text)", Text).label("row_version")
"""Postgres' own mark of the transaction that wrote a row: whoever changes the row changes it."""

# By status: PENDING and PARKED rows have an index each, and the many that are DONE have none.
_UNITS_TO_RETURN = text("""
    WITH undone AS (
        SELECT order_id FROM order_followups WHERE kind = 'RETURN_STOCK' AND status = 'PENDING'
        UNION ALL
        SELECT order_id FROM order_followups WHERE kind = 'RETURN_STOCK' AND status = 'PARKED'
    )
    SELECT orders.nonce, items.product_id, items.quantity
    FROM undone JOIN orders ON orders.id = undone.order_id
    JOIN order_items AS items ON items.order_id = undone.order_id
    WHERE items.product_id = ANY(CAST(:product_ids AS bigint[]))
""")

_PARKED = text("SELECT kind, order_id FROM order_followups WHERE status = 'PARKED' ORDER BY kind, id LIMIT :some")

_FIRST_DUE = text("""
    SELECT kind.name, due.id, due.order_id,
           CAST(extract(epoch FROM clock_timestamp() - due.due_at) AS bigint) AS overdue_seconds
    FROM unnest(:kinds) AS kind (name)
    CROSS JOIN LATERAL (
        SELECT id, order_id, due_at FROM order_followups
        WHERE order_followups.kind = kind.name AND status = 'PENDING'
          AND due_at < clock_timestamp() - make_interval(secs => :overdue_seconds)
        ORDER BY id LIMIT 1
    ) AS due
    ORDER BY kind.name
""").bindparams(bindparam("kinds", type_=ARRAY(Text)))

_UNPUBLISHED = text("""
    (SELECT 'coupon' AS kind, id, version FROM coupons WHERE published_version < version ORDER BY id LIMIT :some)
    UNION ALL
    (SELECT 'product', id, version FROM products WHERE published_version < version ORDER BY id LIMIT :some)
""")


def _ids_after(connection: Connection, key: Column[int], after: int, limit: int) -> list[int]:
    query = select(key).where(key > after).order_by(key).limit(limit)
    return list(connection.execute(query).scalars())
