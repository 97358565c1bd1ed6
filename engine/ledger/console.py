"""What the console shows of the ledger: a few queries, each on an index or a small table, each bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from engine.ledger.coupons import Coupon
from engine.ledger.products import Product
from engine.ledger.quarantine import quarantined_count
from engine.ledger.session import Ledger
from engine.ledger.shop_tables import products
from engine.ledger.tables import coupons, user_coupons

COUPONS_SHOWN = 20
PRODUCTS_SHOWN = 50
PARKED_COUNTED = 1_000


@dataclass(frozen=True)
class WinnerRecorded:
    """Somebody who has a coupon for good."""

    request_id: str
    coupon_id: int
    user_id: int
    sequence: int


@dataclass(frozen=True)
class Parked:
    """Follow-ups of one kind that wait for a person (counted up to a limit), and why the last of them failed."""

    kind: str
    count: int
    last_error: str | None


@dataclass(frozen=True)
class LedgerLook:
    """The ledger as it was found."""

    coupons: Sequence[Coupon]
    """The newest ones, newest first."""
    products: Sequence[Product]
    """The first ones by id."""
    recorded: int
    """Decisions recorded since the beginning, all lanes together."""
    winners: Sequence[WinnerRecorded]
    """The newest ones, newest first."""
    quarantined: int
    parked: Sequence[Parked]


_RECORDED = text("SELECT CAST(coalesce(sum(last_number), 0) AS bigint) FROM lane_progress")
_PARKED = text(f"""
    SELECT kind, count(*) AS waiting, (array_agg(last_error ORDER BY id DESC))[1] AS last_error
    FROM (
        SELECT id, kind, last_error FROM order_followups WHERE status = 'PARKED' ORDER BY kind, id
        LIMIT {PARKED_COUNTED}
    ) AS parked
    GROUP BY kind ORDER BY kind
""")  # noqa: S608 - the limit is ours


def look(ledger: Ledger, winners: int) -> LedgerLook:
    """Look at the ledger; ``winners`` is how many of the newest to read. Raises LedgerUnavailable."""
    with ledger.read() as connection:
        return LedgerLook(
            coupons=_newest_coupons(connection),
            products=_first_products(connection),
            recorded=int(connection.execute(_RECORDED).scalar_one()),
            winners=_newest_winners(connection, winners),
            quarantined=quarantined_count(connection),
            parked=[Parked(row.kind, row.waiting, row.last_error) for row in connection.execute(_PARKED)],
        )


def _newest_coupons(connection: Connection) -> list[Coupon]:
    query = select(coupons).order_by(coupons.c.id.desc()).limit(COUPONS_SHOWN)
    return [Coupon(**row) for row in connection.execute(query).mappings()]


def _first_products(connection: Connection) -> list[Product]:
    query = select(products).order_by(products.c.id).limit(PRODUCTS_SHOWN)
    return [Product(**row) for row in connection.execute(query).mappings()]


def _newest_winners(connection: Connection, limit: int) -> list[WinnerRecorded]:
    columns = (
        user_coupons.c.request_id,
        user_coupons.c.coupon_id,
        user_coupons.c.user_id,
        user_coupons.c.sequence,
    )
    # By id: recorded last comes first, and the primary key has that order.
    query = select(*columns).order_by(user_coupons.c.id.desc()).limit(limit)
    return [WinnerRecorded(*row) for row in connection.execute(query)]
