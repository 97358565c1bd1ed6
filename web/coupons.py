"""Coupons as their users see them: asking for one, looking at one's own."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired

from apiflask import APIBlueprint
from flask import Response
from typing_extensions import TypedDict

from engine.forms import Form, Id
from engine.ledger import coupons as ledger_coupons
from engine.outcomes import Issued, Refusal, Refused, RequestKind, RequestStatus
from engine.shop import issuance
from web.answers import answer, in_words, sentence
from web.auth import act_for, limits_of_submission
from web.current import current_engine
from web.documentation import IDEMPOTENCY_KEY, PREFER, Success, answers, reads
from web.fields import idempotency_key
from web.problems import TEMPORARY_ERROR, refused
from web.submissions import answer_submission

coupons = APIBlueprint("coupons", __name__, url_prefix="/api/v1", tag="Coupons")


class IssueBody(Form):
    """Who wants the coupon."""

    user_id: Id


class IssueSubmitted(TypedDict):
    """The coupon is granted, but not yet durable."""

    requestId: str
    kind: Literal["coupon_issue"]
    status: Literal["PENDING"]
    couponId: int
    userId: int
    sequence: int


class IssueResult(TypedDict):
    """The coupon is granted for good."""

    userCouponId: int
    couponId: int
    userId: int
    sequence: int
    issuedAt: datetime


class UserCouponShown(TypedDict):
    """A coupon somebody holds and has not used."""

    id: int
    couponId: int
    name: str
    discountAmount: int
    issuedAt: datetime


class UserCoupons(TypedDict):
    """What a user holds, oldest first; ``message`` is there when that is nothing."""

    userCoupons: list[UserCouponShown]
    message: NotRequired[str]


@coupons.post("/coupons/<coupon_id>/issue")
@coupons.input(IssueBody, arg_name="body")
@coupons.doc(
    summary="Ask for a coupon, first come, first served",
    responses=answers(
        {
            202: Success(
                "Granted; ask under Location whether it is durable.",
                IssueSubmitted,
                ("Location", "Retry-After", "Preference-Applied"),
            ),
            201: Success("Granted and durable (after a wait).", IssueResult, ("Location", "Preference-Applied")),
        },
        Refusal.COUPON_NOT_FOUND,
        Refusal.COUPON_ALREADY_ISSUED,
        Refusal.COUPON_CLOSED,
        TEMPORARY_ERROR,
    ),
    extensions=reads(IDEMPOTENCY_KEY, PREFER),
)
def issue_coupon(coupon_id: int, body: IssueBody) -> Response:
    act_for(body.user_id)
    outcome = issuance.issue_coupon(
        current_engine(),
        coupon_id=coupon_id,
        user_id=body.user_id,
        idempotency_key=idempotency_key(),
        limits=limits_of_submission(),
    )
    if isinstance(outcome, Refused):
        return refused(outcome)
    return answer_submission(outcome.request_id, issue_submitted(outcome))


def issue_submitted(issued: Issued) -> IssueSubmitted:
    """What is told of a coupon that is granted and not yet durable."""
    return {
        "requestId": issued.request_id,
        "kind": RequestKind.COUPON_ISSUE.value,
        "status": RequestStatus.PENDING.value,
        "couponId": issued.coupon_id,
        "userId": issued.user_id,
        "sequence": issued.sequence,
    }


@coupons.get("/users/<user_id>/coupons")
@coupons.doc(
    summary="The coupons a user can still use",
    responses=answers(
        {200: Success("What the user holds, oldest first.", UserCoupons, ("Content-Language",))}, TEMPORARY_ERROR
    ),
)
def coupons_of_user(user_id: int) -> Response:
    held = ledger_coupons.available_coupons_of_user(current_engine().ledger, user_id)
    body: UserCoupons = {
        "userCoupons": [
            {
                "id": coupon.id,
                "couponId": coupon.coupon_id,
                "name": coupon.name,
                "discountAmount": coupon.discount_amount,
                "issuedAt": coupon.issued_at,
            }
            for coupon in held
        ]
    }
    if not held:
        body["message"] = sentence("NO_COUPONS")
    return in_words(answer(body), has_words=not held)
