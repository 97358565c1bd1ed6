"""What the shop answers, typed. Amounts are in KRW, moments are aware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from client.errors import UnexpectedAnswer

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Submitted:
    """A wish that was granted and may not yet be durable. ``sequence`` is the place in line for a coupon, 0 for an
    order; the same call with the same ``key`` gets the same answer."""

    request_id: str
    key: str
    sequence: int = 0


@dataclass(frozen=True)
class IssuedCoupon:
    """A coupon that somebody has for good; ``sequence`` is their place in line, from 1."""

    user_coupon_id: int
    coupon_id: int
    user_id: int
    sequence: int
    issued_at: datetime


@dataclass(frozen=True)
class OrderItem:
    """Units of one product at the price they were reserved at."""

    product_id: int
    name: str
    unit_price: int
    quantity: int


@dataclass(frozen=True)
class Order:
    """An order that is paid; ``status`` is COMPLETED or CANCELLED."""

    order_id: int
    user_id: int
    status: str
    total_amount: int
    discount_amount: int
    paid_amount: int
    ordered_at: datetime
    order_items: Sequence[OrderItem]


@dataclass(frozen=True)
class Balance:
    """What a user has."""

    user_id: int
    balance: int


@dataclass(frozen=True)
class Charged:
    """A charge that is booked."""

    user_id: int
    new_balance: int
    transaction_id: int


@dataclass(frozen=True)
class Product:
    """A product on sale; ``stock`` are the units free to take."""

    id: int
    name: str
    price: int
    stock: int
    status: str


@dataclass(frozen=True)
class HeldCoupon:
    """A coupon that a user has and has not used; ``id`` is what an order redeems."""

    id: int
    coupon_id: int
    name: str
    discount_amount: int
    issued_at: datetime


@dataclass(frozen=True)
class OfferedCoupon:
    """A coupon as its makers see it: of those ``issued``, ``pending`` are not yet durable."""

    id: int
    name: str
    discount_amount: int
    total_quantity: int
    issued: int
    remaining: int
    pending: int
    status: str


def read(kind: type[Answer], body: Any) -> Answer:
    """The answer in a JSON object; members that it does not know are left alone. Raises UnexpectedAnswer."""
    try:
        values = {field.name: _value(str(field.type), body[_camel(field.name)]) for field in fields(kind)}  # type: ignore[arg-type]
        return kind(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"not what a {kind.__name__} looks like ({error!r})") from error


def read_list(kind: type[Answer], body: Mapping[str, Any], name: str) -> list[Answer]:
    """The answers in a member that is a list. Raises UnexpectedAnswer."""
    found = body.get(name)
    if not isinstance(found, list):
        raise UnexpectedAnswer(f"there is no list of {name}")
    return [read(kind, each) for each in found]


def _value(kind: str, value: Any) -> Any:
    if kind == "datetime":
        return datetime.fromisoformat(value)
    if kind == "Sequence[OrderItem]":
        return tuple(read(OrderItem, each) for each in value)
    return value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
