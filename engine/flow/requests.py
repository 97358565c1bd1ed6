"""Where a request stands. The outbox is asked first, the ledger second: an entry leaves only after its commit."""

from __future__ import annotations

import time

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate import outbox
from engine.gate.outbox import Whereabouts, owner_in
from engine.gate.request_ids import RequestId, parse_request_id
from engine.ledger.coupons import issuance_result
from engine.ledger.orders import order_body, order_end
from engine.ledger.progress import quarantined_fields
from engine.outcomes import Refusal, Refused, RequestKind, RequestState, RequestStatus

FIRST_LOOK_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.2

_LOST = Refused(Refusal.TEMPORARY_ERROR)


def request_state(engine: Engine, request_id: str, asked_by: int | None = None) -> RequestState | Refused:
    """The state of a request: PENDING while it waits for its commit, then what the ledger says.

    If ``asked_by`` names a user, somebody else's request is as one that does not exist. Polling a pending request
    touches no Postgres. Raises GateUnavailable or LedgerUnavailable when the answer is not to be had now.
    """
    state = _state(engine, request_id)
    if isinstance(state, Refused) or state.is_seen_by(asked_by):
        return state
    return Refused(Refusal.REQUEST_NOT_FOUND)


def wait_for_request(
    engine: Engine, request_id: str, timeout_seconds: float, asked_by: int | None = None
) -> RequestState | Refused:
    """As :func:`request_state`, but looks again until the state is final or the time is over."""
    deadline = time.monotonic() + timeout_seconds
    pause = FIRST_LOOK_SECONDS
    while True:
        state = request_state(engine, request_id, asked_by)
        remaining = deadline - time.monotonic()
        if isinstance(state, Refused) or state.status is not RequestStatus.PENDING or remaining <= 0:
            return state
        time.sleep(min(pause, remaining))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _state(engine: Engine, request_id: str) -> RequestState | Refused:
    request = parse_request_id(request_id, engine.gate.request_key())
    if request is None:
        return Refused(Refusal.REQUEST_NOT_FOUND)
    found = _look_into_outbox(engine, request)
    if found.fields is not None:
        owner = owner_in(found.fields)
        return RequestState(request_id, request.kind, RequestStatus.PENDING, user_id=owner)
    recorded = _recorded_state(engine, request)
    if recorded is not None:
        return recorded
    if found.epoch is None:
        raise GateUnavailable(f"lane {request.lane} is not ready; whether it holds the request is not known yet")
    if request.epoch < found.epoch:
        # The id is sealed, so we gave it. It is in neither place: Redis forgot it before the drain came.
        return _failed(request, _LOST, owner=None)
    return Refused(Refusal.REQUEST_NOT_FOUND)


def _look_into_outbox(engine: Engine, request: RequestId) -> Whereabouts:
    if request.lane >= engine.gate.lanes:
        # From a time with more lanes; they were drained before their number was changed.
        return Whereabouts(epoch=request.epoch)
    return outbox.find(engine.gate, request)


def _recorded_state(engine: Engine, request: RequestId) -> RequestState | None:
    request_id = str(request)
    with engine.ledger.read() as connection:
        if request.kind is RequestKind.ORDER:
            end = order_end(connection, request.nonce)
            if end is not None and end.failure is not None:
                return _failed(request, Refused(end.failure), end.user_id)
            result = None if end is None or end.order is None else order_body(end.order)
        else:
            result = issuance_result(connection, request_id)
        if result is not None:
            owner = result["userId"]
            return RequestState(request_id, request.kind, RequestStatus.COMPLETED, result=result, user_id=owner)
        quarantined = quarantined_fields(connection, request_id)
    return None if quarantined is None else _failed(request, _LOST, owner_in(quarantined))


def _failed(request: RequestId, error: Refused, owner: int | None) -> RequestState:
    return RequestState(str(request), request.kind, RequestStatus.FAILED, error=error, user_id=owner)
