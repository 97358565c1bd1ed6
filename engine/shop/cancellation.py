"""Cancelling an order: one ledger transaction, and follow-ups for what lies outside the ledger."""

from __future__ import annotations

from datetime import UTC

from sqlalchemy import Connection

from engine.context import Engine
from engine.fault_points import reach
from engine.ledger.cancellation import cancel
from engine.ledger.idempotency import Answer, Claim, answer_once
from engine.ledger.orders import order_body, order_by_id
from engine.outcomes import Refused


def cancel_order(engine: Engine, order_id: int, *, user_id: int | None, idempotency_key: str | None) -> Answer:
    """Take an order back: its body, cancelled. Money and coupon are back when this returns, the units moments later.

    Raises LedgerUnavailable; whether it was cancelled is then unknown, and asking again tells.
    """

    def work(connection: Connection) -> Answer:
        claim = _claim(connection, order_id, user_id, idempotency_key)
        return answer_once(connection, claim, lambda: _cancel(connection, order_id, user_id))

    outcome = engine.ledger.run(work)
    reach("cancel.committed")
    engine.bell.ring_for_followups()
    return outcome


def _claim(connection: Connection, order_id: int, user_id: int | None, idempotency_key: str | None) -> Claim | None:
    """A key belongs to whoever calls; where nobody says so, that is the order's owner."""
    if idempotency_key is None:
        return None
    order = order_by_id(connection, order_id)
    owner = user_id if user_id is not None else 0 if order is None else order.user_id
    return Claim(owner, "cancel", idempotency_key, {"orderId": order_id, "userId": user_id})


def _cancel(connection: Connection, order_id: int, user_id: int | None) -> Answer:
    outcome = cancel(connection, order_id, user_id)
    if isinstance(outcome, Refused):
        return outcome
    body = order_body(outcome)
    # The answer may be kept as JSON and given again, so it has to be JSON the first time, too.
    return {**body, "orderedAt": outcome.ordered_at.astimezone(UTC).isoformat().replace("+00:00", "Z")}
