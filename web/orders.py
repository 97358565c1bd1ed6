"""Orders: placing, looking at, cancelling."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Literal

from apiflask import APIBlueprint
from flask import Response, request
from pydantic import Field, ValidationError
from typing_extensions import TypedDict

from engine.forms import Form, Id
from engine.gate.turns import TurnLimits
from engine.ledger import orders as ledger_orders
from engine.ledger.orders import order_body
from engine.outcomes import Refusal, Refused, RequestKind, RequestStatus, Submitted
from engine.shop import cancellation
from engine.shop import orders as engine_orders
from engine.shop.orders import OrderAsk
from web.answers import answer
from web.auth import act_for, current_caller, limits_of_submission
from web.current import current_engine
from web.documentation import IDEMPOTENCY_KEY, PAGE, PREFER, Success, answers, reads
from web.fields import idempotency_key
from web.pages import page_of, requested_page
from web.problems import TEMPORARY_ERROR, InvalidRequest, refused
from web.submissions import answer_submission

MOST_LINES = 50
MOST_UNITS = 1_000

orders = APIBlueprint("orders", __name__, url_prefix="/api/v1", tag="Orders")


class OrderLine(Form):
    """Units of one product; several lines of one product are added up."""

    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=MOST_UNITS)]


class OrderBody(Form):
    """Who orders what, and which of their coupons they redeem."""

    user_id: Id
    order_items: Annotated[list[OrderLine], Field(min_length=1, max_length=MOST_LINES)]
    user_coupon_id: Id | None = None


class CancelBody(Form):
    """Whose order it is; if given, nobody else's is cancelled."""

    user_id: Id | None = None


class OrderSubmitted(TypedDict):
    """The stock is held; coupon and payment are settled next."""

    requestId: str
    kind: Literal["order"]
    status: Literal["PENDING"]
    userId: int


class OrderItemShown(TypedDict):
    """One product of an order, at the price it was reserved at (KRW per unit)."""

    productId: int
    name: str
    unitPrice: int
    quantity: int


class OrderShown(TypedDict):
    """An order; amounts in KRW."""

    orderId: int
    userId: int
    status: Literal["COMPLETED", "CANCELLED"]
    orderItems: list[OrderItemShown]
    totalAmount: int
    discountAmount: int
    paidAmount: int
    orderedAt: datetime


class OrdersOfUser(TypedDict):
    """A page of orders, newest first; ``nextCursor`` is null on the last one."""

    orders: list[OrderShown]
    nextCursor: str | None


@orders.post("/orders")
@orders.input(OrderBody, arg_name="body")
@orders.doc(
    summary="Place an order, first come, first served",
    responses=answers(
        {
            202: Success(
                "Stock is held; ask under Location how the order ended.",
                OrderSubmitted,
                ("Location", "Retry-After", "Preference-Applied"),
            ),
            201: Success("Paid and complete (after a wait).", OrderShown, ("Location", "Preference-Applied")),
        },
        Refusal.PRODUCT_NOT_FOUND,
        Refusal.OUT_OF_STOCK,
        Refusal.USER_NOT_FOUND,
        Refusal.INSUFFICIENT_BALANCE,
        Refusal.COUPON_NOT_USABLE,
        Refusal.IDEMPOTENCY_KEY_REUSED,
        TEMPORARY_ERROR,
    ),
    extensions=reads(IDEMPOTENCY_KEY, PREFER),
)
def place_order(body: OrderBody) -> Response:
    act_for(body.user_id)
    outcome = engine_orders.place_order(current_engine(), order_asked(body, idempotency_key(), limits_of_submission()))
    if isinstance(outcome, Refused):
        return refused(outcome)
    return answer_submission(outcome.request_id, order_submitted(outcome))


def order_asked(body: OrderBody, key: str | None, limits: TurnLimits) -> OrderAsk:
    """What a body asks for: lines of one product are added up."""
    quantities: Counter[int] = Counter()
    for line in body.order_items:
        quantities[line.product_id] += line.quantity
    return OrderAsk(body.user_id, tuple(sorted(quantities.items())), body.user_coupon_id, key, limits)


def order_submitted(submitted: Submitted) -> OrderSubmitted:
    """What is told of an order that is accepted and not yet settled."""
    return {
        "requestId": submitted.request_id,
        "kind": RequestKind.ORDER.value,
        "status": RequestStatus.PENDING.value,
        "userId": submitted.user_id,
    }


@orders.get("/orders/<order_id>")
@orders.doc(
    summary="An order",
    responses=answers({200: Success("The order.", OrderShown)}, Refusal.ORDER_NOT_FOUND, TEMPORARY_ERROR),
)
def show_order(order_id: int) -> Response:
    with current_engine().ledger.read() as connection:
        order = ledger_orders.order_by_id(connection, order_id)
    if order is None or not current_caller().may_act_for(order.user_id):
        return refused(Refused(Refusal.ORDER_NOT_FOUND))
    return answer(order_body(order))


@orders.get("/users/<user_id>/orders")
@orders.doc(
    summary="A user's orders, newest first",
    responses=answers({200: Success("A page of orders.", OrdersOfUser)}, TEMPORARY_ERROR),
    extensions=reads(*PAGE),
)
def orders_of_user(user_id: int) -> Response:
    page = requested_page()
    with current_engine().ledger.read() as connection:
        found = ledger_orders.orders_of_user(connection, user_id, page.before_id, page.limit + 1)
    shown, next_cursor = page_of(found, page, lambda order: order.id)
    return answer({"orders": [order_body(order) for order in shown], "nextCursor": next_cursor})


@orders.post("/orders/<order_id>/cancel")
@orders.doc(
    summary="Take an order back: money, stock, coupon and statistics",
    description="A body is optional: `{userId}` makes sure that nobody else's order is cancelled.",
    responses=answers(
        {200: Success("The order, cancelled.", OrderShown)},
        Refusal.ORDER_NOT_FOUND,
        Refusal.ORDER_NOT_CANCELLABLE,
        Refusal.IDEMPOTENCY_KEY_REUSED,
        TEMPORARY_ERROR,
    ),
    extensions=reads(IDEMPOTENCY_KEY),
)
def cancel_order(order_id: int) -> Response:
    body = _cancel_body()
    if body.user_id is not None:
        act_for(body.user_id)
    owner = current_caller().only_sees if body.user_id is None else body.user_id
    outcome = cancellation.cancel_order(current_engine(), order_id, user_id=owner, idempotency_key=idempotency_key())
    return refused(outcome) if isinstance(outcome, Refused) else answer(outcome)


def _cancel_body() -> CancelBody:
    """The body, or an empty one when none was sent."""
    if not request.content_length and "HTTP_TRANSFER_ENCODING" not in request.environ:
        return CancelBody()
    try:
        return CancelBody.model_validate(request.get_json())
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(".".join(str(part) for part in first["loc"]), first["msg"]) from error
