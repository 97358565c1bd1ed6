"""Coupons as their makers see them: offering, changing, watching."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apiflask import APIBlueprint
from flask import Response
from pydantic import Field
from typing_extensions import TypedDict

from engine.forms import Change, CouponForm, Name, Quantity, Status, Window, not_sent
from engine.outcomes import Refusal, Refused
from engine.shop import coupon_offers
from engine.shop.coupon_offers import CouponChange, CouponOverview, NewCoupon
from web.answers import answer
from web.current import current_engine
from web.documentation import IDEMPOTENCY_KEY, Success, answers, reads
from web.fields import idempotency_key
from web.problems import TEMPORARY_ERROR, refused

admin_coupons = APIBlueprint("admin_coupons", __name__, url_prefix="/api/v1/admin", tag="Administration")


class NewCouponBody(CouponForm):
    """The coupon to offer."""


class CouponChangeBody(Change, Window):
    """What to change; at least one member. Quantity is only ever added."""

    name: Name = Field(default="", json_schema_extra=not_sent)
    status: Status = Field(default="ACTIVE", json_schema_extra=not_sent)
    add_quantity: Quantity = Field(default=0, json_schema_extra=not_sent)


class CouponShown(TypedDict):
    """A coupon with its live numbers: of those ``issued``, ``pending`` are not yet durable."""

    id: int
    name: str
    discountAmount: int
    totalQuantity: int
    issued: int
    remaining: int
    pending: int
    status: Status
    startsAt: datetime | None
    endsAt: datetime | None
    createdAt: datetime


@admin_coupons.post("/coupons")
@admin_coupons.input(NewCouponBody, arg_name="body")
@admin_coupons.doc(
    summary="Offer a coupon, open for issuing at once",
    responses=answers(
        {201: Success("Offered.", CouponShown, ("Location",))}, Refusal.IDEMPOTENCY_KEY_REUSED, TEMPORARY_ERROR
    ),
    extensions=reads(IDEMPOTENCY_KEY),
)
def create_coupon(body: NewCouponBody) -> Response:
    overview = coupon_offers.create_coupon(current_engine(), NewCoupon(**body.model_dump()), idempotency_key())
    if isinstance(overview, Refused):
        return refused(overview)
    return answer(_shown(overview), 201, {"Location": f"/api/v1/admin/coupons/{overview.id}"})


@admin_coupons.patch("/coupons/<coupon_id>")
@admin_coupons.input(CouponChangeBody, arg_name="body")
@admin_coupons.doc(
    summary="Change a coupon, live at once",
    responses=answers({200: Success("Changed.", CouponShown)}, Refusal.COUPON_NOT_FOUND, TEMPORARY_ERROR),
)
def change_coupon(coupon_id: int, body: CouponChangeBody) -> Response:
    change = CouponChange(**body.model_dump(exclude_unset=True))
    return _answer_to(coupon_offers.change_coupon(current_engine(), coupon_id, change))


@admin_coupons.get("/coupons/<coupon_id>")
@admin_coupons.doc(
    summary="A coupon and its live numbers",
    responses=answers({200: Success("The coupon.", CouponShown)}, Refusal.COUPON_NOT_FOUND, TEMPORARY_ERROR),
)
def show_coupon(coupon_id: int) -> Response:
    return _answer_to(coupon_offers.coupon_overview(current_engine(), coupon_id))


def _answer_to(outcome: CouponOverview | Refused) -> Response:
    return refused(outcome) if isinstance(outcome, Refused) else answer(_shown(outcome))


def _shown(overview: CouponOverview) -> dict[str, Any]:
    return {
        "id": overview.id,
        "name": overview.name,
        "discountAmount": overview.discount_amount,
        "totalQuantity": overview.total_quantity,
        "issued": overview.issued,
        "remaining": overview.remaining,
        "pending": overview.pending,
        "status": overview.status,
        "startsAt": overview.starts_at,
        "endsAt": overview.ends_at,
        "createdAt": overview.created_at,
    }
