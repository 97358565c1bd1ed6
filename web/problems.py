"""What goes wrong, in the words of the contract: the one table from codes to answers.

An error of the framework (unknown path, wrong method, wrong media type …) has no code of its own in the contract. It
keeps its HTTP status and gets the nearest code: INVALID_REQUEST for what the client did, TEMPORARY_ERROR for a crash
of ours. Its ``type`` is then ``about:blank``, which by RFC 9457 means "nothing more than the status says".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired

from apiflask import APIFlask, HTTPError
from flask import Response, current_app
from typing_extensions import TypedDict
from werkzeug.datastructures import Headers
from werkzeug.http import HTTP_STATUS_CODES

from engine.errors import GateUnavailable, LedgerUnavailable
from engine.outcomes import Refusal, Refused
from engine.shop.coupon_offers import WindowReversed
from web.current import current_outage_log, current_refusals

INVALID_REQUEST = "INVALID_REQUEST"
INVALID_USER_ID = "INVALID_USER_ID"
BUSY = "BUSY"
TEMPORARY_ERROR = Refusal.TEMPORARY_ERROR.value
PROBLEM_MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_SECONDS = 1
ERRORS_SHOWN = 20
FIELD_CHARACTERS_SHOWN = 100
"""Bounds on how much of a wrong request is told back."""


@dataclass(frozen=True)
class Words:
    """How a code is told: the HTTP status, a title for developers, the sentence for people."""

    status: int
    title: str
    message: str


PROBLEMS: Mapping[str, Words] = {
    INVALID_REQUEST: Words(400, "Invalid request", "유효하지 않은 요청"),
    INVALID_USER_ID: Words(400, "Invalid user id", "유효하지 않은 사용자 ID"),
    Refusal.USER_NOT_FOUND: Words(404, "User not found", "사용자를 찾을 수 없습니다"),
    Refusal.COUPON_NOT_FOUND: Words(404, "Coupon not found", "존재하지 않는 쿠폰입니다"),
    Refusal.COUPON_ALREADY_ISSUED: Words(409, "Coupon already issued", "이미 발급받은 쿠폰입니다"),
    Refusal.COUPON_CLOSED: Words(409, "Coupon closed", "쿠폰 발급이 마감되었습니다"),
    Refusal.PRODUCT_NOT_FOUND: Words(404, "Product not found", "존재하지 않는 상품입니다"),
    Refusal.OUT_OF_STOCK: Words(409, "Out of stock", "재고가 부족합니다"),
    Refusal.INSUFFICIENT_BALANCE: Words(409, "Insufficient balance", "잔액이 부족합니다"),
    Refusal.COUPON_NOT_USABLE: Words(409, "Coupon not usable", "사용할 수 없는 쿠폰입니다"),
    Refusal.ORDER_NOT_FOUND: Words(404, "Order not found", "존재하지 않는 주문입니다"),
    Refusal.ORDER_NOT_CANCELLABLE: Words(409, "Order not cancellable", "취소할 수 없는 주문입니다"),
    Refusal.REQUEST_NOT_FOUND: Words(404, "Request not found", "존재하지 않는 요청입니다"),
    Refusal.IDEMPOTENCY_KEY_REUSED: Words(422, "Idempotency key reused", "같은 멱등키로 다른 요청을 보낼 수 없습니다"),
    BUSY: Words(503, "Busy", "잠시 후 다시 시도해주세요"),
    Refusal.TEMPORARY_ERROR: Words(503, "Temporary error", "일시적인 오류가 발생했습니다"),
}

_FRAMEWORK_ERRORS: Mapping[int, tuple[str, str]] = {
    404: ("path", "nothing is served under this path"),
    405: ("method", "not allowed for this path; see the Allow header"),
    411: ("Content-Length", "required; a body must come with its length, not in chunks"),
    413: ("body", "larger than allowed"),
    415: ("Content-Type", "must be application/json, in UTF-8"),
}


class FieldError(TypedDict):
    """One thing that is wrong with a request: where, and why."""

    field: str
    reason: str


class Problem(TypedDict):
    """A problem document (RFC 9457). Branch on ``code``; show ``message``."""

    type: str
    title: str
    status: int
    code: str
    message: str
    errors: NotRequired[list[FieldError]]
    reason: NotRequired[str]
    missing: NotRequired[list[str]]


class InvalidRequest(Exception):
    """The request is malformed: ``errors`` says where and why."""

    def __init__(self, field: str, reason: str, *, code: str = INVALID_REQUEST) -> None:
        self.errors: list[FieldError] = [{"field": field, "reason": reason}]
        self.code = code
        super().__init__(f"{field}: {reason}")


def refused(refusal: Refused) -> Response:
    """The answer to a request that the engine refused."""
    current_refusals().count(refusal.code.value, refusal.detail)
    return _problem(refusal.code.value, members=refusal.detail)


def error_of(refusal: Refused) -> dict[str, str]:
    """The ``error`` of a request that ended FAILED."""
    return {"code": refusal.code.value, "message": PROBLEMS[refusal.code].message}


def not_ready(missing: Sequence[str]) -> Response:
    """The answer of a process that lacks the parts named."""
    return _problem(BUSY, members={"missing": list(missing)})


def busy() -> Response:
    """Come again in a moment."""
    return _problem(BUSY)


def register_problems(app: APIFlask) -> None:
    """Make every error that a view or the framework raises a problem document."""

    @app.errorhandler(InvalidRequest)
    def invalid_request(error: InvalidRequest) -> Response:
        return _problem(error.code, members={"errors": error.errors})

    @app.errorhandler(WindowReversed)
    def window_reversed(_error: WindowReversed) -> Response:
        return _problem(INVALID_REQUEST, members={"errors": [{"field": "endsAt", "reason": "must be after startsAt"}]})

    @app.errorhandler(GateUnavailable)
    def gate_unavailable(error: GateUnavailable) -> Response:
        current_outage_log().warn("gate", error)
        current_refusals().count(BUSY)
        return _problem(BUSY, headers={"Retry-After": str(error.retry_after_seconds)})

    @app.errorhandler(LedgerUnavailable)
    def ledger_unavailable(error: LedgerUnavailable) -> Response:
        current_outage_log().warn("ledger", error)
        current_refusals().count(TEMPORARY_ERROR)
        return _problem(TEMPORARY_ERROR, headers={"Retry-After": str(error.retry_after_seconds)})

    @app.error_processor
    def framework_error(error: HTTPError) -> Response:
        # A validation error names its fields in `detail`; no other 400 of the framework says more than its status.
        if error.status_code == 400 and error.detail:
            return _problem(INVALID_REQUEST, members={"errors": _field_errors(error.detail)})
        return _framework_problem(error.status_code, Headers(error.headers))


def _field_errors(detail: Mapping[str, Mapping[str, Sequence[str]]]) -> list[FieldError]:
    """APIFlask's ``{location: {field: [reason]}}`` as a list."""
    errors: list[FieldError] = [
        {"field": "body" if field == "_schema" else field[:FIELD_CHARACTERS_SHOWN], "reason": reason}
        for fields in detail.values()
        for field, reasons in fields.items()
        for reason in reasons
    ]
    return errors[:ERRORS_SHOWN]


def _framework_problem(status: int, headers: Headers) -> Response:
    phrase = HTTP_STATUS_CODES.get(status, "Error")
    if status >= 500:
        return _problem(TEMPORARY_ERROR, status=status, title=phrase, headers=headers)
    field, reason = _FRAMEWORK_ERRORS.get(status, ("request", phrase))
    members = {"errors": [{"field": field, "reason": reason}]}
    return _problem(INVALID_REQUEST, status=status, title=phrase, members=members, headers=headers)


def problem_document(
    code: str,
    *,
    status: int | None = None,
    title: str | None = None,
    members: Mapping[str, Any] | None = None,
) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the document of a problem; ``title`` is set for what has no code of its own."""
    words = PROBLEMS[code]
    status = words.status if status is None else status
    return status, {
        "type": f"/docs#{code}" if title is None else "about:blank",
        "title": words.title if title is None else title,
        "status": status,
        "code": code,
        "message": words.message,
        **(members or {}),
    }


def _problem(
    code: str,
    *,
    status: int | None = None,
    title: str | None = None,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | Headers | None = None,
) -> Response:
    status, document = problem_document(code, status=status, title=title, members=members)
    response = Response(current_app.json.dumps(document), status, headers, content_type=PROBLEM_MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    if status == 503:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return response
