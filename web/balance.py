"""Balances: charging, asking, looking back."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from apiflask import APIBlueprint
from flask import Response
from typing_extensions import TypedDict

from engine.forms import Charge, Form
from engine.outcomes import Refusal, Refused
from engine.shop import accounts
from web.answers import answer
from web.current import current_engine
from web.documentation import IDEMPOTENCY_KEY, PAGE, Success, answers, reads
from web.fields import idempotency_key
from web.pages import page_of, requested_page
from web.problems import TEMPORARY_ERROR, refused

balance = APIBlueprint("balance", __name__, url_prefix="/api/v1", tag="Balance")


class ChargeBody(Form):
    """How much, in KRW."""

    amount: Charge


class Charged(TypedDict):
    """The charge is booked; amounts in KRW."""

    userId: int
    newBalance: int
    transactionId: int


class BalanceShown(TypedDict):
    """A balance in KRW."""

    userId: int
    balance: int


class TransactionShown(TypedDict):
    """One movement; ``balanceAfter`` is null while it is PENDING."""

    transactionId: int
    type: Literal["CHARGE", "PAYMENT", "REFUND"]
    amount: int
    balanceAfter: int | None
    status: Literal["PENDING", "COMPLETED"]
    createdAt: datetime


class Transactions(TypedDict):
    """A page of movements, newest first; ``nextCursor`` is null on the last one."""

    transactions: list[TransactionShown]
    nextCursor: str | None


@balance.post("/users/<user_id>/balance/charge")
@balance.input(ChargeBody, arg_name="body")
@balance.doc(
    summary="Add money to a balance",
    responses=answers(
        {200: Success("Booked.", Charged)}, Refusal.USER_NOT_FOUND, Refusal.IDEMPOTENCY_KEY_REUSED, TEMPORARY_ERROR
    ),
    extensions=reads(IDEMPOTENCY_KEY),
)
def charge_balance(user_id: int, body: ChargeBody) -> Response:
    outcome = accounts.charge_balance(current_engine(), user_id, body.amount, idempotency_key())
    return refused(outcome) if isinstance(outcome, Refused) else answer(outcome)


@balance.get("/users/<user_id>/balance")
@balance.doc(
    summary="A balance",
    responses=answers({200: Success("The balance.", BalanceShown)}, Refusal.USER_NOT_FOUND, TEMPORARY_ERROR),
)
def show_balance(user_id: int) -> Response:
    account = accounts.balance_of(current_engine(), user_id)
    if isinstance(account, Refused):
        return refused(account)
    return answer({"userId": account.user_id, "balance": account.balance})


@balance.get("/users/<user_id>/balance/transactions")
@balance.doc(
    summary="What moved a balance, newest first",
    responses=answers({200: Success("A page.", Transactions)}, Refusal.USER_NOT_FOUND, TEMPORARY_ERROR),
    extensions=reads(*PAGE),
)
def list_transactions(user_id: int) -> Response:
    page = requested_page()
    found = accounts.transactions_of(current_engine(), user_id, page.before_id, page.limit + 1)
    if isinstance(found, Refused):
        return refused(found)
    shown, next_cursor = page_of(found, page, lambda transaction: transaction.id)
    transactions = [
        {
            "transactionId": transaction.id,
            "type": transaction.type,
            "amount": transaction.amount,
            "balanceAfter": transaction.balance_after,
            "status": transaction.status,
            "createdAt": transaction.created_at,
        }
        for transaction in shown
    ]
    return answer({"transactions": transactions, "nextCursor": next_cursor})
