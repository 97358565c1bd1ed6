"""Cancelling in the ledger: money, coupon and stock go back in one transaction, once."""

from __future__ import annotations

from sqlalchemy import Connection, text

from engine.ledger.followups import FollowupKind, plan
from engine.ledger.orders import Order, order_by_id
from engine.ledger.shop_tables import LARGEST_AMOUNT
from engine.outcomes import Refusal, Refused

CANCEL_FOLLOWUPS = (
    FollowupKind.CANCEL_HISTORY,
    FollowupKind.CANCEL_DATA_PLATFORM,
    FollowupKind.CANCEL_STATISTICS,
    FollowupKind.RETURN_STOCK,
)

_NOT_CANCELLABLE = Refused(Refusal.ORDER_NOT_CANCELLABLE)


def cancel(connection: Connection, order_id: int, user_id: int | None) -> Order | Refused:
    """Take a completed order back, within the caller's transaction; the order as it stands then.

    ``user_id``, if given, has to be the order's. The row lock on the order makes concurrent cancels wait for each
    other; the first one wins and the others find it cancelled.
    """
    order = order_by_id(connection, order_id, for_update=True)
    if order is None or user_id not in (None, order.user_id):
        return Refused(Refusal.ORDER_NOT_FOUND)
    if order.status != "COMPLETED" or not _refund(connection, order):
        return _NOT_CANCELLABLE
    if order.user_coupon_id is not None:
        _give_coupon_back(connection, order.user_coupon_id)
    _take_stock_back(connection, order)
    connection.execute(
        text("UPDATE orders SET status = 'CANCELLED', cancelled_at = now() WHERE id = :id"), {"id": order.id}
    )
    plan(connection, [order.id], CANCEL_FOLLOWUPS)
    cancelled = order_by_id(connection, order_id)
    return cancelled if cancelled is not None else _NOT_CANCELLABLE


def _refund(connection: Connection, order: Order) -> bool:
    """Pay the money back; False, with nothing changed, when the account could not hold it."""
    balance_after = connection.execute(
        text("""
            UPDATE accounts SET balance = balance + :amount
            WHERE user_id = :user_id AND balance <= :largest - :amount RETURNING balance
        """),
        {"user_id": order.user_id, "amount": order.paid_amount, "largest": LARGEST_AMOUNT},
    ).scalar_one_or_none()
    if balance_after is None:
        return False
    connection.execute(
        text("""
            INSERT INTO balance_transactions (user_id, type, amount, balance_after, status, order_id)
            VALUES (:user_id, 'REFUND', :amount, :balance_after, 'COMPLETED', :order_id)
        """),
        {
            "user_id": order.user_id,
            "amount": order.paid_amount,
            "balance_after": balance_after,
            "order_id": order.id,
        },
    )
    return True


def _give_coupon_back(connection: Connection, user_coupon_id: int) -> None:
    """Make the coupon usable again, unless its time is over."""
    connection.execute(
        text("""
            UPDATE user_coupons SET status = 'AVAILABLE' FROM coupons
            WHERE user_coupons.id = :id AND user_coupons.status = 'USED' AND coupons.id = user_coupons.coupon_id
              AND (coupons.ends_at IS NULL OR now() < coupons.ends_at)
        """),
        {"id": user_coupon_id},
    )


def _take_stock_back(connection: Connection, order: Order) -> None:
    connection.execute(
        text("""
            WITH returned AS (
                SELECT * FROM unnest(CAST(:product_ids AS bigint[]), CAST(:quantities AS bigint[])) AS l (id, quantity)
            ), locked AS (
                SELECT id FROM products WHERE id IN (SELECT id FROM returned) ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE products SET stock = stock + returned.quantity
            FROM returned JOIN locked ON locked.id = returned.id
            WHERE products.id = returned.id
        """),
        {
            "product_ids": [item.product_id for item in order.items],
            "quantities": [item.quantity for item in order.items],
        },
    )
