"""Coupons in the ledger: what is offered, who has what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from engine.ledger import progress
from engine.ledger.session import Ledger
from engine.ledger.tables import coupons, user_coupons


@dataclass(frozen=True)
class Coupon:
    """A row of ``coupons``."""

    id: int
    name: str
    discount_amount: int
    total_quantity: int
    issued: int
    status: str
    starts_at: datetime | None
    ends_at: datetime | None
    version: int
    published_version: int
    created_at: datetime


@dataclass(frozen=True)
class UserCoupon:
    """A coupon somebody holds, as shown to its holder."""

    id: int
    coupon_id: int
    name: str
    discount_amount: int
    issued_at: datetime


@dataclass(frozen=True)
class RecordedWinner:
    """Somebody who has a coupon: which place in line it was, and whether it is AVAILABLE or USED."""

    sequence: int
    user_id: int
    user_coupon_id: int
    status: str
    issued_at: datetime
    request_id: str


@dataclass(frozen=True)
class Issuance:
    """One issuance the gate decided."""

    request_id: str
    coupon_id: int
    user_id: int
    sequence: int
    issued_at_ms: int


RECORD_ISSUANCES = text("""
    WITH recorded AS (
        INSERT INTO user_coupons (request_id, coupon_id, user_id, sequence, issued_at)
        SELECT request_id, coupon_id, user_id, sequence, to_timestamp(issued_at_ms / 1000.0)
        FROM unnest(CAST(:request_ids AS text[]), CAST(:coupon_ids AS bigint[]), CAST(:user_ids AS bigint[]),
                    CAST(:sequences AS bigint[]), CAST(:issued_at_ms AS bigint[]))
             AS decided (request_id, coupon_id, user_id, sequence, issued_at_ms)
        ORDER BY coupon_id, sequence
        ON CONFLICT (request_id) DO NOTHING
        RETURNING coupon_id
    ), counted AS (
        SELECT coupon_id, count(*) AS issued FROM recorded GROUP BY coupon_id
    ), locked AS (
        SELECT id FROM coupons WHERE id IN (SELECT coupon_id FROM counted) ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE coupons SET issued = coupons.issued + counted.issued
    FROM counted JOIN locked ON locked.id = counted.coupon_id
    WHERE coupons.id = counted.coupon_id
""")


ISSUANCE_RESULTS = text("""
    SELECT request_id, id, coupon_id, user_id, sequence, issued_at FROM user_coupons
    WHERE request_id = ANY(:request_ids)
""")

WINNERS = text("""
    SELECT string_agg(user_id || ' ' || sequence || ' ' || request_id, E'\\n') AS lines, max(sequence) AS last
    FROM (
        SELECT user_id, sequence, request_id FROM user_coupons
        WHERE coupon_id = :coupon_id AND sequence > :after ORDER BY sequence LIMIT :limit
    ) AS page
""")


def record_issuances(connection: Connection, issuances: Sequence[Issuance]) -> None:
    """Write issuances, the ones already there excepted. Any other conflict raises IntegrityError: a fault."""
    connection.execute(
        RECORD_ISSUANCES,
        {
            "request_ids": [issuance.request_id for issuance in issuances],
            "coupon_ids": [issuance.coupon_id for issuance in issuances],
            "user_ids": [issuance.user_id for issuance in issuances],
            "sequences": [issuance.sequence for issuance in issuances],
            "issued_at_ms": [issuance.issued_at_ms for issuance in issuances],
        },
    )


def issuance_results(connection: Connection, request_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The success bodies of recorded issuances, their times as datetimes, by request id; no entry where no row is."""
    rows = connection.execute(ISSUANCE_RESULTS, {"request_ids": list(request_ids)})
    return {
        request_id: {
            "userCouponId": id,
            "couponId": coupon_id,
            "userId": user_id,
            "sequence": sequence,
            "issuedAt": issued_at,
        }
        for request_id, id, coupon_id, user_id, sequence, issued_at in rows
    }


def available_coupons_of_user(ledger: Ledger, user_id: int) -> list[UserCoupon]:
    """The coupons a user can still use, oldest first; empty for somebody unknown."""
    query = (
        select(
            user_coupons.c.id,
            user_coupons.c.coupon_id,
            coupons.c.name,
            coupons.c.discount_amount,
            user_coupons.c.issued_at,
        )
        .join(coupons, coupons.c.id == user_coupons.c.coupon_id)
        .where(user_coupons.c.user_id == user_id, user_coupons.c.status == "AVAILABLE")
        .order_by(user_coupons.c.id)
    )
    with ledger.read() as connection:
        return [UserCoupon(**row) for row in connection.execute(query).mappings()]


def insert_coupon(connection: Connection, values: Mapping[str, Any]) -> Coupon:
    """Write a new coupon; it is not yet published."""
    return _coupon(connection.execute(insert(coupons).values(**values).returning(*coupons.c)).mappings().one())


def update_coupon(
    connection: Connection, coupon_id: int, values: Mapping[str, Any], add_quantity: int
) -> Coupon | None:
    """Change a coupon and raise its version, so that the change has to be published; None if there is none."""
    statement = (
        update(coupons)
        .where(coupons.c.id == coupon_id)
        .values(**values, version=coupons.c.version + 1, total_quantity=coupons.c.total_quantity + add_quantity)
        .returning(*coupons.c)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else _coupon(row)


def coupon_by_id(connection: Connection, coupon_id: int) -> Coupon | None:
    """A coupon, or None."""
    row = connection.execute(select(coupons).where(coupons.c.id == coupon_id)).mappings().one_or_none()
    return None if row is None else _coupon(row)


def all_coupons(connection: Connection) -> list[Coupon]:
    """Every coupon there is, in order of id."""
    return [_coupon(row) for row in connection.execute(select(coupons).order_by(coupons.c.id)).mappings()]


def unpublished_coupons(connection: Connection) -> list[Coupon]:
    """Coupons whose last change the gate has not confirmed."""
    query = select(coupons).where(coupons.c.published_version < coupons.c.version).order_by(coupons.c.id)
    return [_coupon(row) for row in connection.execute(query).mappings()]


def mark_published(connection: Connection, coupon_id: int, version: int, *, lane: int, epoch: int) -> None:
    """As :func:`engine.ledger.progress.mark_published`."""
    progress.mark_published(connection, coupons, coupon_id, version, lane=lane, epoch=epoch)


def highest_place(connection: Connection, coupon_id: int) -> int:
    """The highest place in line that somebody has, 0 if nobody has one."""
    query = select(func.coalesce(func.max(user_coupons.c.sequence), 0)).where(user_coupons.c.coupon_id == coupon_id)
    return int(connection.execute(query).scalar_one())


def winners_of(connection: Connection, coupon_id: int, at_a_time: int) -> Iterator[str]:
    """Everybody who has the coupon, in texts of at most so many lines ``<user id> <sequence> <request id>``.

    Postgres puts the texts together: a million rows never become a million objects here.
    """
    after = 0
    while True:
        row = connection.execute(WINNERS, {"coupon_id": coupon_id, "after": after, "limit": at_a_time}).one()
        if row.last is None:
            return
        yield row.lines
        after = row.last


def recorded_winners(connection: Connection, coupon_id: int, after_sequence: int, limit: int) -> list[RecordedWinner]:
    """Those who have the coupon, in order of their place in line, at most ``limit`` from that place on."""
    table = user_coupons.c
    query = (
        select(table.sequence, table.user_id, table.id, table.status, table.issued_at, table.request_id)
        .where(table.coupon_id == coupon_id, table.sequence > after_sequence)
        .order_by(table.sequence)
        .limit(limit)
    )
    return [RecordedWinner(*row) for row in connection.execute(query)]


def _coupon(row: Mapping[Any, Any]) -> Coupon:
    return Coupon(**row)
