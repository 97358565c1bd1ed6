"""Requests: asking what became of a submission."""

from __future__ import annotations

from typing import Any, Literal

from apiflask import APIBlueprint
from flask import Response, request
from typing_extensions import TypedDict

from engine.flow import requests as engine_requests
from engine.outcomes import Refusal, Refused, RequestState, RequestStatus
from web.answers import answer, current_language, in_words
from web.auth import current_caller
from web.coupons import IssueResult
from web.current import current_engine, current_waiting_room
from web.documentation import PREFER, Success, answers, reads
from web.languages import Language
from web.orders import OrderShown
from web.problems import BUSY, RETRY_AFTER_SECONDS, TEMPORARY_ERROR, error_of, refused

requests = APIBlueprint("requests", __name__, url_prefix="/api/v1", tag="Requests")


class RequestError(TypedDict):
    """Why a request failed; final."""

    code: str
    message: str


class RequestShown(TypedDict):
    """Where a request stands: ``result`` is there when it is COMPLETED, ``error`` when it FAILED."""

    requestId: str
    kind: Literal["coupon_issue", "order"]
    status: Literal["PENDING", "COMPLETED", "FAILED"]
    result: IssueResult | OrderShown | None
    error: RequestError | None


@requests.get("/requests/<request_id>")
@requests.doc(
    summary="Where a request stands",
    responses=answers(
        {
            200: Success(
                "The state; final unless PENDING.",
                RequestShown,
                ("Retry-After", "Preference-Applied", "Content-Language"),
            )
        },
        Refusal.REQUEST_NOT_FOUND,
        BUSY,
        TEMPORARY_ERROR,
    ),
    extensions=reads(PREFER),
)
def show_request(request_id: str) -> Response:
    headers = {}
    asked_by = current_caller().only_sees
    with current_waiting_room().granted(request.environ.get("HTTP_PREFER")) as seconds:
        if seconds:
            headers["Preference-Applied"] = f"wait={seconds}"
            state = engine_requests.wait_for_request(current_engine(), request_id, seconds, asked_by)
        else:
            state = engine_requests.request_state(current_engine(), request_id, asked_by)
    if isinstance(state, Refused):
        return refused(state)
    if state.status is RequestStatus.PENDING:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    shown = request_shown(state, current_language())
    return in_words(answer(shown, headers=headers), has_words=state.error is not None)


def request_shown(state: RequestState, language: Language) -> dict[str, Any]:
    """A request as clients see it."""
    return {
        "requestId": state.request_id,
        "kind": state.kind.value,
        "status": state.status.value,
        "result": state.result,
        "error": None if state.error is None else error_of(state.error, language),
    }
