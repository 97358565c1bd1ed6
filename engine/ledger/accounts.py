"""Accounts and their transactions. An account row is what makes a user exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from engine.ledger.shop_tables import LARGEST_AMOUNT, accounts, balance_transactions

STEP_OVER_CHOSEN_IDS = text("""
    SELECT setval(sequence, greatest(
        currval(sequence), (SELECT max(user_id) FROM accounts WHERE user_id < :half)))
    FROM pg_get_serial_sequence('accounts', 'user_id') AS sequence
""").bindparams(half=2**52)
"""Past every id in the lower half of what JSON can hold, in one look at the index. Not past those in the upper half:
2**53 - 1 may have been chosen, and no client could tell the ids after it from their neighbours."""


@dataclass(frozen=True)
class Account:
    """A user and their balance in KRW."""

    user_id: int
    name: str | None
    balance: int


@dataclass(frozen=True)
class Charge:
    """A charge that is booked."""

    transaction_id: int
    balance: int


@dataclass(frozen=True)
class BalanceTransaction:
    """One movement of a balance, amounts in KRW; ``balance_after`` is None while PENDING."""

    id: int
    type: str
    amount: int
    balance_after: int | None
    status: str
    created_at: datetime


def account_by_id(connection: Connection, user_id: int, *, for_update: bool = False) -> Account | None:
    """The account, or None; ``for_update`` makes others who want to change it wait."""
    query = select(accounts.c.user_id, accounts.c.name, accounts.c.balance).where(accounts.c.user_id == user_id)
    row = connection.execute(query.with_for_update(key_share=True) if for_update else query).one_or_none()
    return None if row is None else Account(row.user_id, row.name, row.balance)


def open_account(connection: Connection, user_id: int | None, name: str | None) -> Account | None:
    """A new account with nothing on it; None when the id is taken. Without an id it gets the next free one."""
    values: dict[str, int | str | None] = {"name": name}
    if user_id is not None:
        values["user_id"] = user_id
    statement = (
        postgres_insert(accounts)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["user_id"])
        .returning(accounts.c.user_id, accounts.c.name, accounts.c.balance)
    )
    while True:
        row = connection.execute(statement).one_or_none()
        if row is not None:
            return Account(row.user_id, row.name, row.balance)
        if user_id is not None:
            return None
        # Somebody chose the id that was next, and maybe a million after it: too many to try one by one. If this puts
        # the sequence behind a caller whose account we do not see yet, it costs another round, no more.
        connection.execute(STEP_OVER_CHOSEN_IDS)


def charge(connection: Connection, account: Account, amount: int) -> Charge | None:
    """Add money to a locked account; None, with nothing changed, when it could not hold that much.

    The record comes first, as PENDING, and is COMPLETED once the balance has moved: whatever part of this a reader
    could ever see would be true.
    """
    balance = account.balance + amount
    if balance > LARGEST_AMOUNT:
        return None
    transaction_id = connection.execute(
        insert(balance_transactions)
        # now() is when the transaction began, which may be before the one that we waited for was booked.
        .values(
            user_id=account.user_id, type="CHARGE", amount=amount, status="PENDING", created_at=func.clock_timestamp()
        )
        .returning(balance_transactions.c.id)
    ).scalar_one()
    connection.execute(update(accounts).where(accounts.c.user_id == account.user_id).values(balance=balance))
    connection.execute(
        update(balance_transactions)
        .where(balance_transactions.c.id == transaction_id)
        .values(status="COMPLETED", balance_after=balance)
    )
    return Charge(transaction_id, balance)


def transactions_of(
    connection: Connection, user_id: int, before_id: int | None, limit: int
) -> Sequence[BalanceTransaction]:
    """Movements of a balance, newest first, at most ``limit``, older than ``before_id`` if that is given."""
    table = balance_transactions
    query = select(
        table.c.id, table.c.type, table.c.amount, table.c.balance_after, table.c.status, table.c.created_at
    ).where(table.c.user_id == user_id)
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit))
    return [BalanceTransaction(*row) for row in rows]
