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

from engine.errors import GateUnavailable, LedgerUnavailable, TooManyAsks
from engine.outcomes import Refusal, Refused
from engine.shop.coupon_offers import WindowReversed
from web.answers import current_language, in_words
from web.bounds import MOST_HEADER_CHARACTERS, MOST_URL_CHARACTERS
from web.current import current_outage_log, current_refusals
from web.key_sources import KeysUnavailable
from web.languages import SENTENCES, Language

INVALID_REQUEST = "INVALID_REQUEST"
INVALID_USER_ID = "INVALID_USER_ID"
UNAUTHENTICATED = "UNAUTHENTICATED"
FORBIDDEN = "FORBIDDEN"
TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
BUSY = "BUSY"
TEMPORARY_ERROR = Refusal.TEMPORARY_ERROR.value
PROBLEM_MEDIA_TYPE = "application/problem+json"

REALM = "seonchak"
RETRY_AFTER_SECONDS = 1
ERRORS_SHOWN = 20
FIELD_CHARACTERS_SHOWN = 100
"""Bounds on how much of a wrong request is told back."""


@dataclass(frozen=True)
class Words:
    """How a code is told: the HTTP status, and a title for developers. People read one of the SENTENCES."""

    status: int
    title: str


PROBLEMS: Mapping[str, Words] = {
    INVALID_REQUEST: Words(400, "Invalid request"),
    INVALID_USER_ID: Words(400, "Invalid user id"),
    Refusal.USER_NOT_FOUND: Words(404, "User not found"),
    Refusal.COUPON_NOT_FOUND: Words(404, "Coupon not found"),
    Refusal.COUPON_ALREADY_ISSUED: Words(409, "Coupon already issued"),
    Refusal.COUPON_CLOSED: Words(409, "Coupon closed"),
    Refusal.PRODUCT_NOT_FOUND: Words(404, "Product not found"),
    Refusal.OUT_OF_STOCK: Words(409, "Out of stock"),
    Refusal.INSUFFICIENT_BALANCE: Words(409, "Insufficient balance"),
    Refusal.COUPON_NOT_USABLE: Words(409, "Coupon not usable"),
    Refusal.ORDER_NOT_FOUND: Words(404, "Order not found"),
    Refusal.ORDER_NOT_CANCELLABLE: Words(409, "Order not cancellable"),
    Refusal.REQUEST_NOT_FOUND: Words(404, "Request not found"),
    Refusal.IDEMPOTENCY_KEY_REUSED: Words(422, "Idempotency key reused"),
    Refusal.USER_EXISTS: Words(409, "User exists"),
    UNAUTHENTICATED: Words(401, "Unauthenticated"),
    FORBIDDEN: Words(403, "Forbidden"),
    TOO_MANY_REQUESTS: Words(429, "Too many requests"),
    BUSY: Words(503, "Busy"),
    Refusal.TEMPORARY_ERROR: Words(503, "Temporary error"),
}

_FRAMEWORK_ERRORS: Mapping[int, tuple[str, str]] = {
    404: ("path", "nothing is served under this path"),
    405: ("method", "not allowed for this path; see the Allow header"),
    411: ("Content-Length", "required; a body must come with its length, not in chunks"),
    413: ("body", "larger than allowed"),
    414: ("path", f"longer than {MOST_URL_CHARACTERS} characters, with its query"),
    431: ("headers", f"larger than {MOST_HEADER_CHARACTERS} characters together"),
    415: ("Content-Type", "must be application/json, in UTF-8"),
}


class FieldError(TypedDict):
    """One thing that is wrong with a request: where, and why."""

    field: str
    reason: str


class TooFew(TypedDict):
    """A product of which an order wants more units than there are."""

    productId: int
    requested: int
    available: int


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
    items: NotRequired[list[TooFew]]


class NotAuthenticated(Exception):
    """Nobody that we know. ``reason`` is for developers: what is wrong with the token, None if none was sent."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        super().__init__(reason)


class Forbidden(Exception):
    """The caller is known, and may not do this."""


class TooManyRequests(Exception):
    """The caller has to wait before the next call."""

    def __init__(self, milliseconds: int) -> None:
        self.retry_after_seconds = whole_seconds(milliseconds)
        super().__init__(f"{milliseconds} ms to wait")


def whole_seconds(milliseconds: int) -> int:
    """What Retry-After can say of a wait: never less than it is."""
    return -(-milliseconds // 1000)


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


def error_of(refusal: Refused, language: Language) -> dict[str, str]:
    """The ``error`` of a request that ended FAILED."""
    return {"code": refusal.code.value, "message": SENTENCES[refusal.code.value].said_in(language)}


def not_ready(missing: Sequence[str]) -> Response:
    """The answer of a process that lacks the parts named."""
    return _problem(BUSY, members={"missing": list(missing)})


def busy() -> Response:
    """The answer of a process that does as much of this already as it may."""
    return _problem(BUSY)


def register_problems(app: APIFlask) -> None:
    """Make every error that a view or the framework raises a problem document."""

    @app.errorhandler(InvalidRequest)
    def invalid_request(error: InvalidRequest) -> Response:
        return _problem(error.code, members={"errors": error.errors})

    @app.errorhandler(NotAuthenticated)
    def not_authenticated(error: NotAuthenticated) -> Response:
        return _problem(UNAUTHENTICATED, headers={"WWW-Authenticate": _challenge("invalid_token", error.reason)})

    @app.errorhandler(Forbidden)
    def forbidden(_error: Forbidden) -> Response:
        return _problem(FORBIDDEN)

    @app.errorhandler(KeysUnavailable)
    def keys_unavailable(error: KeysUnavailable) -> Response:
        current_outage_log().warn("keys", error)
        return _problem(TEMPORARY_ERROR, headers={"Retry-After": str(error.retry_after_seconds)})

    @app.errorhandler(TooManyRequests)
    def too_many_requests(error: TooManyRequests) -> Response:
        return _problem(TOO_MANY_REQUESTS, headers={"Retry-After": str(error.retry_after_seconds)})

    @app.errorhandler(TooManyAsks)
    def too_many_asks(error: TooManyAsks) -> Response:
        return _problem(TOO_MANY_REQUESTS, headers={"Retry-After": str(whole_seconds(error.milliseconds))})

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


def _challenge(error: str, reason: str | None) -> str:
    """What RFC 6750 (section 3) has a 401 say: to whoever sent a token, also what is wrong with it."""
    told = "" if reason is None else f', error="{error}", error_description="{reason}"'
    return f'Bearer realm="{REALM}"{told}'


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
    language: Language,
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
        "message": SENTENCES[code].said_in(language),
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
    status, document = problem_document(code, current_language(), status=status, title=title, members=members)
    response = Response(current_app.json.dumps(document), status, headers, content_type=PROBLEM_MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    if status == 503:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return in_words(response)
