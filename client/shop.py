"""The shop as its callers see it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from client.answers import (
    Balance,
    Charged,
    HeldCoupon,
    IssuedCoupon,
    OfferedCoupon,
    Order,
    Product,
    Submitted,
    read,
    read_list,
)
from client.errors import Lost, Refused, StillPending, Unanswered, UnexpectedAnswer
from client.exchange import SPREAD, Exchange, TokenSource

PATIENCE_SECONDS = 30.0
TIMEOUT_SECONDS = 15.0
"""Longer than the shop waits for anybody."""
LONGEST_WAIT_SECONDS = 10
"""The shop waits no longer than this with its answer."""
LOST = "TEMPORARY_ERROR"

Ended = TypeVar("Ended", IssuedCoupon, Order)

_KINDS: Mapping[str, type[IssuedCoupon] | type[Order]] = {"coupon_issue": IssuedCoupon, "order": Order}


class Shop:
    """One shop. Thread-safe; every thread has a connection of its own.

    Every call raises Refused for a final no and Unanswered when its patience is over. Where a call takes a ``key``, one
    is made up if none is given; whoever gives one can repeat the call, after a crash of their own as well, and gets the
    first answer.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: TokenSource = None,
        patience_seconds: float = PATIENCE_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        language: str | None = None,
        told_to_wait: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """``patience_seconds`` bounds a whole call with its retries, ``timeout_seconds`` each silence within one.

        ``token`` may be a function, asked for each request, so that tokens can be renewed. ``language`` is that of
        messages ("en"; Korean unless it is given). ``told_to_wait`` hears why something has to be asked again.
        """
        self._patience_seconds = patience_seconds
        self._exchange = Exchange(base_url, token, timeout_seconds, language, told_to_wait)

    def __enter__(self) -> Shop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back."""
        self._exchange.close()

    # -- first come, first served

    def issue_coupon(
        self, coupon_id: int, user_id: int, *, key: str | None = None, patience_seconds: float | None = None
    ) -> IssuedCoupon:
        """Ask for a coupon and wait until it is durable. Also raises Lost, StillPending."""
        deadline = self._deadline(patience_seconds)
        submitted = self._submit(f"/coupons/{coupon_id}/issue", {"userId": user_id}, key, deadline)
        return _as(IssuedCoupon, self._await(submitted.request_id, submitted.key, deadline))

    def place_order(
        self,
        user_id: int,
        quantities: Mapping[int, int],
        *,
        user_coupon_id: int | None = None,
        key: str | None = None,
        patience_seconds: float | None = None,
    ) -> Order:
        """Order so many units by product id, and wait until they are paid. Also raises Lost, StillPending."""
        deadline = self._deadline(patience_seconds)
        submitted = self._submit("/orders", _order(user_id, quantities, user_coupon_id), key, deadline)
        return _as(Order, self._await(submitted.request_id, submitted.key, deadline))

    def submit_coupon(
        self, coupon_id: int, user_id: int, *, key: str | None = None, patience_seconds: float | None = None
    ) -> Submitted:
        """Ask for a coupon; returns when it is granted, not yet durable."""
        path = f"/coupons/{coupon_id}/issue"
        return self._submit(path, {"userId": user_id}, key, self._deadline(patience_seconds))

    def submit_order(
        self,
        user_id: int,
        quantities: Mapping[int, int],
        *,
        user_coupon_id: int | None = None,
        key: str | None = None,
        patience_seconds: float | None = None,
    ) -> Submitted:
        """Order; returns when the units are held, not yet paid."""
        body = _order(user_id, quantities, user_coupon_id)
        return self._submit("/orders", body, key, self._deadline(patience_seconds))

    def wait_for(self, request_id: str, *, patience_seconds: float | None = None) -> IssuedCoupon | Order:
        """What a submitted wish came to, once that is durable. Also raises Lost, StillPending."""
        return self._await(request_id, None, self._deadline(patience_seconds))

    # -- the rest

    def charge(self, user_id: int, amount: int, *, key: str | None = None) -> Charged:
        """Add money to a balance."""
        return read(Charged, self._post(f"/users/{user_id}/balance/charge", {"amount": amount}, key))

    def balance(self, user_id: int) -> Balance:
        """What a user has."""
        return read(Balance, self._get(f"/users/{user_id}/balance"))

    def products(self) -> list[Product]:
        """What is on sale, with the units free to take."""
        return read_list(Product, self._get("/products"), "products")

    def coupons_of(self, user_id: int) -> list[HeldCoupon]:
        """The coupons that a user can still use."""
        return read_list(HeldCoupon, self._get(f"/users/{user_id}/coupons"), "userCoupons")

    def order(self, order_id: int) -> Order:
        """An order."""
        return read(Order, self._get(f"/orders/{order_id}"))

    def cancel_order(self, order_id: int, *, key: str | None = None) -> Order:
        """Take an order back: money, stock and coupon."""
        return read(Order, self._post(f"/orders/{order_id}/cancel", {}, key))

    # -- for administrators

    def offer_coupon(
        self,
        name: str,
        discount_amount: int,
        total_quantity: int,
        *,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        key: str | None = None,
        patience_seconds: float | None = None,
    ) -> OfferedCoupon:
        """Offer a coupon, open for issuing when this returns."""
        body: dict[str, Any] = {"name": name, "discountAmount": discount_amount, "totalQuantity": total_quantity}
        window = {"startsAt": starts_at, "endsAt": ends_at}
        body |= {member: moment.isoformat() for member, moment in window.items() if moment is not None}
        return read(OfferedCoupon, self._post("/admin/coupons", body, key, patience_seconds))

    def offered_coupon(self, coupon_id: int, *, patience_seconds: float | None = None) -> OfferedCoupon:
        """A coupon with its live numbers."""
        return read(OfferedCoupon, self._get(f"/admin/coupons/{coupon_id}", patience_seconds))

    # -- how

    def _deadline(self, patience_seconds: float | None) -> float:
        return time.monotonic() + (self._patience_seconds if patience_seconds is None else patience_seconds)

    def _get(self, path: str, patience_seconds: float | None = None) -> Mapping[str, Any]:
        return self._exchange.until_final("GET", path, deadline=self._deadline(patience_seconds)).body

    def _post(
        self, path: str, body: Mapping[str, Any], key: str | None, patience_seconds: float | None = None
    ) -> Mapping[str, Any]:
        deadline = self._deadline(patience_seconds)
        return self._exchange.until_final("POST", path, deadline=deadline, body=body, key=key or str(uuid4())).body

    def _submit(self, path: str, body: Mapping[str, Any], key: str | None, deadline: float) -> Submitted:
        key = key or str(uuid4())
        told = self._exchange.until_final("POST", path, deadline=deadline, body=body, key=key).body
        try:
            return Submitted(str(told["requestId"]), key, int(told.get("sequence", 0)))
        except (KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"not what a submission is answered with ({error!r})") from error

    def _await(self, request_id: str, key: str | None, deadline: float) -> IssuedCoupon | Order:
        path = f"/requests/{quote(request_id, safe='')}"
        # Most are durable at the first look, which costs the shop the least; then it is asked to wait.
        prefer: str | None = None
        while True:
            try:
                reply = self._exchange.until_final("GET", path, deadline=deadline, prefer=prefer)
            except Unanswered as error:
                raise StillPending(request_id, key) from error
            if reply.body.get("status") != "PENDING":
                return _ended(reply.body)
            seconds_left = deadline - time.monotonic()
            if seconds_left <= 0:
                raise StillPending(request_id, key)
            if prefer is not None and not reply.waited:
                # It has no place for somebody who waits: come again when it says.
                pause = (reply.retry_after_seconds or 1.0) * (1 + SPREAD * random.random())
                time.sleep(min(pause, seconds_left))
            prefer = f"wait={min(LONGEST_WAIT_SECONDS, max(1, int(seconds_left)))}"


def _order(user_id: int, quantities: Mapping[int, int], user_coupon_id: int | None) -> dict[str, Any]:
    lines = [{"productId": product_id, "quantity": quantity} for product_id, quantity in quantities.items()]
    return {"userId": user_id, "orderItems": lines, **({"userCouponId": user_coupon_id} if user_coupon_id else {})}


def _ended(state: Mapping[str, Any]) -> IssuedCoupon | Order:
    """What a request came to. Raises Lost, Refused, UnexpectedAnswer."""
    kind = _KINDS.get(str(state.get("kind")))
    if state.get("status") == "COMPLETED" and kind is not None:
        return read(kind, state.get("result"))
    error = state.get("error")
    if state.get("status") == "FAILED" and isinstance(error, dict):
        code, message = str(error.get("code")), str(error.get("message"))
        raise (Lost if code == LOST else Refused)(0, code, message)
    raise UnexpectedAnswer(f"not what a request looks like: {state.get('status')} {state.get('kind')}")


def _as(kind: type[Ended], answer: IssuedCoupon | Order) -> Ended:
    if not isinstance(answer, kind):
        raise UnexpectedAnswer(f"a request came to a {type(answer).__name__}")
    return answer
