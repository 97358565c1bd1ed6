"""Writing many rows of one kind at once, in a fixed number of statements for each set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime, Text

from engine.ledger.accounts import STEP_OVER_CHOSEN_IDS
from engine.ledger.shop_tables import accounts

_NEXT_IDS = text("""
    SELECT nextval(sequence) AS id
    FROM pg_get_serial_sequence('accounts', 'user_id') AS sequence, generate_series(1, :count)
""")

_INSERT_ACCOUNTS = text("""
    INSERT INTO accounts (user_id, name, balance)
    SELECT user_id, name, balance
    FROM unnest(CAST(:user_ids AS bigint[]), :names, CAST(:balances AS bigint[])) AS added (user_id, name, balance)
    ORDER BY user_id
    ON CONFLICT (user_id) DO NOTHING
    RETURNING user_id
""").bindparams(bindparam("names", type_=ARRAY(Text)))

_INSERT_CHARGES = text("""
    INSERT INTO balance_transactions (user_id, type, amount, balance_after, status)
    SELECT user_id, 'CHARGE', amount, amount, 'COMPLETED'
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[])) AS charged (user_id, amount)
""")

_INSERT_PRODUCTS = text("""
    INSERT INTO products (name, price, stock, supplied, status)
    SELECT name, price, stock, stock, status
    FROM unnest(CAST(:names AS text[]), CAST(:prices AS bigint[]), CAST(:stocks AS bigint[]),
                CAST(:statuses AS text[])) WITH ORDINALITY AS added (name, price, stock, status, place)
    ORDER BY place
""")

_INSERT_COUPONS = text("""
    INSERT INTO coupons (name, discount_amount, total_quantity, starts_at, ends_at, status)
    SELECT name, discount_amount, total_quantity, starts_at, ends_at, status
    FROM unnest(CAST(:names AS text[]), CAST(:discounts AS bigint[]), CAST(:quantities AS bigint[]),
                :starts, :ends, CAST(:statuses AS text[])) WITH ORDINALITY
         AS added (name, discount_amount, total_quantity, starts_at, ends_at, status, place)
    ORDER BY place
""").bindparams(
    bindparam("starts", type_=ARRAY(DateTime(timezone=True))), bindparam("ends", type_=ARRAY(DateTime(timezone=True)))
)


def free_user_ids(connection: Connection, count: int) -> list[int]:
    """So many ids that no account has, from the sequence that gives them to users who do not choose."""
    found: list[int] = []
    while len(found) < count:
        drawn = list(connection.execute(_NEXT_IDS, {"count": count - len(found)}).scalars())
        taken = set(connection.execute(select(accounts.c.user_id).where(accounts.c.user_id.in_(drawn))).scalars())
        if taken:
            connection.execute(STEP_OVER_CHOSEN_IDS)
        found += [user_id for user_id in drawn if user_id not in taken]
    return found


def insert_accounts(
    connection: Connection, user_ids: Sequence[int], names: Sequence[str | None], balances: Sequence[int]
) -> set[int]:
    """New accounts with these balances, each booked as its first charge; the ids that were not taken.

    An id that is given twice is written once.
    """
    values = {"user_ids": list(user_ids), "names": list(names), "balances": list(balances)}
    added = set(connection.execute(_INSERT_ACCOUNTS, values).scalars())
    charges = {
        user_id: balance for user_id, balance in zip(user_ids, balances, strict=True) if balance and user_id in added
    }
    if charges:
        connection.execute(_INSERT_CHARGES, {"user_ids": list(charges), "amounts": list(charges.values())})
    return added


def insert_products(
    connection: Connection,
    names: Sequence[str],
    prices: Sequence[int],
    stocks: Sequence[int],
    statuses: Sequence[str],
) -> None:
    """New products, not yet published, with ids in this order."""
    values = {"names": list(names), "prices": list(prices), "stocks": list(stocks), "statuses": list(statuses)}
    connection.execute(_INSERT_PRODUCTS, values)


def insert_coupons(
    connection: Connection,
    names: Sequence[str],
    discounts: Sequence[int],
    quantities: Sequence[int],
    windows: Sequence[tuple[datetime | None, datetime | None]],
    statuses: Sequence[str],
) -> None:
    """New coupons, not yet published, with ids in this order; a window is when one begins and ends."""
    values = {
        "names": list(names),
        "discounts": list(discounts),
        "quantities": list(quantities),
        "starts": [starts_at for starts_at, _ in windows],
        "ends": [ends_at for _, ends_at in windows],
        "statuses": list(statuses),
    }
    connection.execute(_INSERT_COUPONS, values)
