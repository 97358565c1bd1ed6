"""Balances: charged, asked for, listed. Everything happens in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from engine.context import Engine
from engine.fault_points import reach
from engine.ledger import accounts as ledger_accounts
from engine.ledger.accounts import Account, BalanceTransaction
from engine.ledger.idempotency import Answer, Claim, administration_claim, answer_once
from engine.outcomes import Refusal, Refused

_NO_SUCH_USER = Refused(Refusal.USER_NOT_FOUND)
_BALANCE_TOO_LARGE = Refused(
    Refusal.INVALID_REQUEST,
    {"errors": [{"field": "amount", "reason": "the balance would become larger than can be kept"}]},
)


def charge_balance(engine: Engine, user_id: int, amount: int, idempotency_key: str | None) -> Answer:
    """Add money to a balance: ``{userId, newBalance, transactionId}``.

    Refused when the balance would pass what every JSON client can represent exactly. Raises LedgerUnavailable; if that
    happened at the commit the outcome is unknown, and the same call with the same idempotency key gets it.
    """
    claim = None
    if idempotency_key is not None:
        claim = Claim(user_id, "charge", idempotency_key, {"amount": amount})

    def work(connection: Connection) -> Answer:
        return answer_once(connection, claim, lambda: _charge(connection, user_id, amount))

    answer = engine.ledger.run(work)
    reach("charge.committed")
    return answer


def balance_of(engine: Engine, user_id: int) -> Account | Refused:
    """The account of a user. Raises LedgerUnavailable."""
    with engine.ledger.read() as connection:
        return ledger_accounts.account_by_id(connection, user_id) or _NO_SUCH_USER


def transactions_of(
    engine: Engine, user_id: int, before_id: int | None, limit: int
) -> Sequence[BalanceTransaction] | Refused:
    """A page of a user's transactions, newest first. Raises LedgerUnavailable."""
    with engine.ledger.read() as connection:
        if ledger_accounts.account_by_id(connection, user_id) is None:
            return _NO_SUCH_USER
        return ledger_accounts.transactions_of(connection, user_id, before_id, limit)


def open_account(engine: Engine, user_id: int | None, name: str | None, idempotency_key: str | None) -> Answer:
    """A new account: ``{userId, name, balance}``; refused when there is one with this id. Raises LedgerUnavailable."""
    claim = administration_claim("open_account", idempotency_key, {"userId": user_id, "name": name})

    def work(connection: Connection) -> Answer:
        return answer_once(connection, claim, lambda: _open(connection, user_id, name))

    return engine.ledger.run(work)


def _open(connection: Connection, user_id: int | None, name: str | None) -> Answer:
    account = ledger_accounts.open_account(connection, user_id, name)
    if account is None:
        return Refused(Refusal.USER_EXISTS)
    return {"userId": account.user_id, "name": account.name, "balance": account.balance}


def _charge(connection: Connection, user_id: int, amount: int) -> Answer:
    account = ledger_accounts.account_by_id(connection, user_id, for_update=True)
    if account is None:
        return _NO_SUCH_USER
    charge = ledger_accounts.charge(connection, account, amount)
    if charge is None:
        return _BALANCE_TOO_LARGE
    return {"userId": user_id, "newBalance": charge.balance, "transactionId": charge.transaction_id}
