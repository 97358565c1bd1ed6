"""Answering a submission: 202 with a place to ask, or, if the client prefers to wait, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, request

from engine.errors import EngineError
from engine.flow import requests
from engine.outcomes import Refused, RequestState, RequestStatus
from web.answers import answer
from web.current import current_engine, current_waiting_room
from web.problems import RETRY_AFTER_SECONDS, refused


def answer_submission(request_id: str, pending_body: Mapping[str, Any]) -> Response:
    """202 with ``pending_body``; after a wait that saw the end, 201 with the success body or the failure's 4xx."""
    headers = {"Location": f"/api/v1/requests/{request_id}"}
    with current_waiting_room().granted(request.environ.get("HTTP_PREFER")) as seconds:
        if seconds:
            headers["Preference-Applied"] = f"wait={seconds}"
            state = _state_after_waiting(request_id, seconds)
            if state is not None and state.status is RequestStatus.COMPLETED:
                return answer(state.result or {}, 201, headers)
            if state is not None and state.error is not None:
                return refused(state.error)
    return answer(pending_body, 202, {**headers, "Retry-After": str(RETRY_AFTER_SECONDS)})


def _state_after_waiting(request_id: str, seconds: int) -> RequestState | None:
    """The state at the end of the wait; None when it cannot be had.

    The submission is accepted already. A store that goes away while we wait must not hide that behind an error: the
    client gets its request id and asks later.
    """
    try:
        state = requests.wait_for_request(current_engine(), request_id, seconds)
    except EngineError:
        return None
    return None if isinstance(state, Refused) else state
