"""What happened to orders, told once for the history and for the data platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, DateTime, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.types import BigInteger, Text

from engine.ledger.shop_tables import order_history_events


class OrderEventName(StrEnum):
    """What can happen to an order that others have to hear of."""

    ORDER_COMPLETED = "ORDER_COMPLETED"
    ORDER_CANCELLED = "ORDER_CANCELLED"


@dataclass(frozen=True)
class OrderEvent:
    """One event. ``payload``: event, orderId, userId, orderItems, amounts in KRW, occurredAt (RFC 3339 in UTC)."""

    order_id: int
    name: OrderEventName
    payload: Mapping[str, Any]

    @property
    def event_id(self) -> str:
        """The same for every delivery of this event, and for no other event: ``order-7-completed``."""
        return f"order-{self.order_id}-{self.name.removeprefix('ORDER_').lower()}"


# The order as it was when the event happened: a completion that is told late does not know of a cancellation yet.
_EVENTS = text("""
    SELECT orders.id AS order_id,
           CAST(:event AS text) AS event,
           jsonb_build_object(
               'event', CAST(:event AS text),
               'orderId', orders.id,
               'userId', orders.user_id,
               'orderItems', (
                   SELECT jsonb_agg(jsonb_build_object(
                       'productId', items.product_id, 'name', items.name,
                       'unitPrice', items.unit_price, 'quantity', items.quantity) ORDER BY items.product_id)
                   FROM order_items AS items WHERE items.order_id = orders.id),
               'totalAmount', orders.total_amount,
               'discountAmount', orders.discount_amount,
               'paidAmount', orders.paid_amount,
               'userCouponId', orders.user_coupon_id,
               'occurredAt', to_char(moment.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
           ) AS payload,
           moment.occurred_at
    FROM orders
    CROSS JOIN LATERAL (
        SELECT CASE CAST(:event AS text) WHEN 'ORDER_CANCELLED' THEN orders.cancelled_at ELSE orders.ordered_at END
    ) AS moment (occurred_at)
    WHERE orders.id = ANY(:order_ids)
    ORDER BY orders.id
""").columns(order_id=BigInteger, event=Text, payload=JSONB, occurred_at=DateTime(timezone=True))

_RECORD = (
    insert(order_history_events)
    .from_select(["order_id", "event", "payload", "occurred_at"], _EVENTS)
    .on_conflict_do_nothing(index_elements=["order_id", "event"])
)


def record_events(connection: Connection, name: OrderEventName, order_ids: Sequence[int]) -> None:
    """Write the event of each order into the history, within the caller's transaction. Repeating changes nothing.

    Raises IntegrityError for an order that was not cancelled and is said to be.
    """
    connection.execute(_RECORD, {"event": name.value, "order_ids": list(order_ids)})


def read_events(connection: Connection, name: OrderEventName, order_ids: Sequence[int]) -> dict[int, OrderEvent]:
    """The event of each order, by order id."""
    rows = connection.execute(_EVENTS, {"event": name.value, "order_ids": list(order_ids)})
    return {row.order_id: OrderEvent(row.order_id, name, row.payload) for row in rows}
