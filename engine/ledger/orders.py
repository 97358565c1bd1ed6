"""Orders in the ledger: what was submitted, what became of it, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, and_, select, text

from engine.ledger.progress import built_epochs
from engine.ledger.shop_tables import order_followups, order_items, order_repetitions, orders
from engine.outcomes import Refusal


@dataclass(frozen=True)
class SubmittedLine:
    """Units of one product at the price fixed when they were reserved (KRW per unit)."""

    product_id: int
    quantity: int
    unit_price: int
    name: str


class Held(NamedTuple):
    """Stock that a lane held for an order: since which build of the lane, and until when (milliseconds since 1970).

    The deadline tells a hold from one that a repetition of the request took anew; 0 if it is not known.
    """

    lane: int
    built_epoch: int
    deadline_ms: int = 0

    def may_be(self, other: Held) -> bool:
        """Whether the two are one hold, as far as their deadlines are known."""
        return self[:2] == other[:2] and (self.deadline_ms == other.deadline_ms or 0 in (self[2], other[2]))


@dataclass(frozen=True)
class SubmittedOrder:
    """An order as the gate accepted it, counting on what the lanes had ``held`` for it."""

    request_id: str
    nonce: str
    user_id: int
    user_coupon_id: int | None
    decided_at_ms: int
    lines: tuple[SubmittedLine, ...]
    held: tuple[Held, ...]

    @property
    def total_amount(self) -> int:
        return sum(line.unit_price * line.quantity for line in self.lines)


@dataclass
class Decided:
    """What became of an order. ``failure`` is None for a completed one; amounts in KRW."""

    order: SubmittedOrder
    failure: Refusal | None = None
    discount_amount: int = 0
    balance_after: int = 0
    user_coupon_id: int | None = None

    @property
    def paid_amount(self) -> int:
        return self.order.total_amount - self.discount_amount


@dataclass(frozen=True)
class OrderItem:
    """One line of an order, at the price it was reserved at (KRW per unit)."""

    product_id: int
    name: str
    unit_price: int
    quantity: int


@dataclass(frozen=True)
class Order:
    """An order that was completed, whether or not it was cancelled later. Amounts in KRW."""

    id: int
    nonce: str
    user_id: int
    status: str
    total_amount: int
    discount_amount: int
    paid_amount: int
    user_coupon_id: int | None
    ordered_at: datetime
    items: tuple[OrderItem, ...]


@dataclass(frozen=True)
class OrderEnd:
    """How a submitted order ended: an order, or the refusal. ``user_id`` is None for a hold that expired."""

    order: Order | None = None
    failure: Refusal | None = None
    user_id: int | None = None


def order_body(order: Order) -> dict[str, Any]:
    """The order as clients see it, its time as a datetime."""
    return {
        "orderId": order.id,
        "userId": order.user_id,
        "status": order.status,
        "orderItems": [
            {
                "productId": item.product_id,
                "name": item.name,
                "unitPrice": item.unit_price,
                "quantity": item.quantity,
            }
            for item in order.items
        ],
        "totalAmount": order.total_amount,
        "discountAmount": order.discount_amount,
        "paidAmount": order.paid_amount,
        "orderedAt": order.ordered_at,
    }


class Ending(NamedTuple):
    """How the row of a nonce stands; ``request_id`` is None for an expired hold. ``held`` is as in the table."""

    status: str
    request_id: str | None
    held: str | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it is an order, cancelled or not."""
        return self.status in _SHOWN

    def has_sold(self, hold: Held, request_id: str = "") -> bool:
        """Whether the units of a hold under this nonce are the order's.

        When Redis forgot an order that is in the ledger, a repetition of its request takes units again, and only the
        rebuild in between and the deadline tell the two apart: in lanes before an order's last one a hold knows no
        request id ('').
        """
        if not self.is_shown or request_id not in ("", self.request_id):
            return False
        return self.held is None or any(hold.may_be(each) for each in holds_from_text(self.held))


_SHOWN = ("COMPLETED", "CANCELLED")


def holds_as_text(held: Sequence[Held]) -> str:
    """Holds in the form of the table's column and of the outbox: ``<lane>:<built epoch>:<deadline>,…``."""
    return ",".join(":".join(map(str, each)) for each in held)


def holds_from_text(text: str) -> tuple[Held, ...]:
    """The reverse of :func:`holds_as_text`; deadlines may be missing. Raises ValueError for a text of another form."""
    holds = [[int(number) for number in part.split(":")] for part in text.split(",")]
    if any(len(numbers) not in (2, 3) for numbers in holds):
        raise ValueError(f"these are no holds: {text!r}")
    return tuple(Held(*numbers) for numbers in holds)


def order_by_id(connection: Connection, order_id: int, *, for_update: bool = False) -> Order | None:
    """A completed or cancelled order; None for anything else. ``for_update`` locks its row."""
    query = select(orders).where(orders.c.id == order_id, orders.c.status.in_(_SHOWN))
    row = connection.execute(query.with_for_update() if for_update else query).mappings().one_or_none()
    return None if row is None else _with_items(connection, [row])[0]


def request_ids_of(connection: Connection, order_ids: Sequence[int]) -> dict[int, str]:
    """The requests that these orders were submitted with, by the order's id."""
    query = select(orders.c.id, orders.c.request_id).where(orders.c.id.in_(order_ids))
    return {row.id: row.request_id or "" for row in connection.execute(query)}


def orders_of_user(connection: Connection, user_id: int, before_id: int | None, limit: int) -> list[Order]:
    """A user's orders, newest first, at most ``limit``, older than ``before_id`` if that is given."""
    query = select(orders).where(orders.c.user_id == user_id, orders.c.status.in_(_SHOWN))
    if before_id is not None:
        query = query.where(orders.c.id < before_id)
    rows = connection.execute(query.order_by(orders.c.id.desc()).limit(limit)).mappings().all()
    return _with_items(connection, rows)


def order_ends(connection: Connection, requests: Mapping[str, str]) -> dict[str, OrderEnd]:
    """How the orders with these request ids (and their nonces) ended; no entry while no row says so.

    Requests under one idempotency key have one nonce. If Redis forgot one of them before the ledger had it, and the key
    was used again, the order that came of that is not the forgotten one's: that one has failed, and stays so. A row
    without a request id is a hold that expired, and nothing under its nonce ever becomes an order.
    """
    rows = connection.execute(select(orders).where(orders.c.nonce.in_(set(requests.values())))).mappings().all()
    by_nonce = {row["nonce"]: row for row in rows}
    ended = {
        request_id: by_nonce[nonce]
        for request_id, nonce in requests.items()
        if nonce in by_nonce and by_nonce[nonce]["request_id"] in (None, request_id)
    }
    others = {each: nonce for each, nonce in requests.items() if nonce in by_nonce and each not in ended}
    if others:
        query = select(order_repetitions.c.request_id).where(order_repetitions.c.request_id.in_(others))
        ended |= {each: by_nonce[others[each]] for each in connection.execute(query).scalars()}
    completed = {row["nonce"]: row for row in ended.values() if row["failure"] is None}
    by_id = {order.id: order for order in _with_items(connection, list(completed.values()))}
    return {
        request_id: OrderEnd(by_id.get(row["id"]), row["failure"] and Refusal(row["failure"]), row["user_id"])
        for request_id, row in ended.items()
    }


def nonces_with_stock_to_return(connection: Connection) -> list[str]:
    """Cancelled orders whose units are back in the ledger but not yet at the gate."""
    query = (
        select(orders.c.nonce)
        .join(order_followups, order_followups.c.order_id == orders.c.id)
        .where(and_(order_followups.c.kind == "RETURN_STOCK", order_followups.c.status != "DONE"))
    )
    return list(connection.execute(query).scalars())


def end_overdue(
    connection: Connection, lane: int, built_epoch: int, *, submitted: Sequence[str], unsubmitted: Sequence[str] = ()
) -> dict[str, Ending]:
    """Close the books on overdue holds: how the order of each nonce stands then.

    One that was ``submitted`` is recorded as EXPIRED unless the drain was first. With the others no order was submitted
    where they are; if one was elsewhere, it has its row by now, and without a row they have expired for nothing.

    Empty when the lane was rebuilt since ``built_epoch``: the holds are gone, and an order may have been accepted anew
    under the nonce of one of them.
    """
    if built_epochs(connection).get(lane) != built_epoch:
        return {}
    connection.execute(
        text("""
            INSERT INTO orders (nonce, status, failure)
            SELECT nonce, 'EXPIRED', :failure FROM unnest(CAST(:nonces AS text[])) AS overdue (nonce) ORDER BY nonce
            ON CONFLICT (nonce) DO NOTHING
        """),
        {"nonces": list(submitted), "failure": Refusal.TEMPORARY_ERROR},
    )
    return dict.fromkeys(unsubmitted, Ending("EXPIRED", None)) | endings(connection, [*submitted, *unsubmitted])


def endings(connection: Connection, nonces: Sequence[str]) -> dict[str, Ending]:
    """How the requests with these nonces ended, those that did."""
    if not nonces:
        return {}
    query = select(orders.c.nonce, orders.c.status, orders.c.request_id, orders.c.held)
    found = connection.execute(query.where(orders.c.nonce.in_(nonces)))
    return {row.nonce: Ending(row.status, row.request_id, row.held) for row in found}


def _with_items(connection: Connection, rows: Sequence[RowMapping]) -> list[Order]:
    if not rows:
        return []
    query = select(order_items).where(order_items.c.order_id.in_([row["id"] for row in rows]))
    items: dict[int, list[OrderItem]] = {}
    for item in connection.execute(query.order_by(order_items.c.order_id, order_items.c.product_id)):
        line = OrderItem(item.product_id, item.name, item.unit_price, item.quantity)
        items.setdefault(item.order_id, []).append(line)
    shown = ("id", "nonce", "user_id", "status", "total_amount", "discount_amount", "paid_amount")
    return [
        Order(
            **{name: row[name] for name in shown},
            user_coupon_id=row["user_coupon_id"],
            ordered_at=row["ordered_at"],
            items=tuple(items.get(row["id"], ())),
        )
        for row in rows
    ]
