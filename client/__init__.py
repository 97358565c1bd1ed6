"""A client of Seonchak, with nothing but the standard library::

    from client import Shop

    with Shop("http://localhost:8000") as shop:
        won = shop.issue_coupon(coupon_id=1, user_id=7)
        order = shop.place_order(7, {1: 2}, user_coupon_id=won.user_coupon_id)
        print(won.sequence, order.paid_amount)

Whatever it submits, it submits under an idempotency key: one for each wish, made once and kept over all retries, so
that an answer that got lost on its way costs time and nothing else. It knows the HTTP API and none of the other
packages here, so it can be taken along into another project as it is.
"""

from __future__ import annotations

from client.answers import (
    Balance,
    Charged,
    HeldCoupon,
    IssuedCoupon,
    OfferedCoupon,
    Order,
    OrderItem,
    Product,
    Submitted,
)
from client.errors import Lost, Refused, ShopError, StillPending, Unanswered, UnexpectedAnswer
from client.shop import Shop

__all__ = [
    "Balance",
    "Charged",
    "HeldCoupon",
    "IssuedCoupon",
    "Lost",
    "OfferedCoupon",
    "Order",
    "OrderItem",
    "Product",
    "Refused",
    "Shop",
    "ShopError",
    "StillPending",
    "Submitted",
    "Unanswered",
    "UnexpectedAnswer",
]
