"""Where requests stand. The outbox is asked first, the ledger second: an entry leaves only after its commit. Whether it
was there at all, an outbox can say that Redis has kept; of one that came back, the ledger is asked as well."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.context import Engine
from engine.errors import EngineError, GateUnavailable, LedgerUnavailable
from engine.gate import outbox
from engine.gate.outbox import Whereabouts, owner_in
from engine.gate.request_ids import RequestId, parse_request_id
from engine.ledger.coupons import issuance_results
from engine.ledger.orders import order_body, order_ends
from engine.ledger.progress import progress_of_lane, quarantined_among
from engine.outcomes import Refusal, Refused, RequestKind, RequestState, RequestStatus
from engine.telemetry import metrics

FIRST_LOOK_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.2

_LOST = Refused(Refusal.TEMPORARY_ERROR)
_NOT_FOUND = Refused(Refusal.REQUEST_NOT_FOUND)

StateOutcome = RequestState | Refused | EngineError


def request_state(engine: Engine, request_id: str, asked_by: int | None = None) -> RequestState | Refused:
    """The state of a request: PENDING while it waits for its commit, then what the ledger says.

    If ``asked_by`` names a user, somebody else's request is as one that does not exist. Polling a pending request
    touches no Postgres, but where Redis came back a moment ago. Raises GateUnavailable or LedgerUnavailable when the
    answer is not to be had now.
    """
    state = _state(engine, request_id)
    if isinstance(state, Refused) or state.is_seen_by(asked_by):
        return state
    return _NOT_FOUND


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
        return _NOT_FOUND
    (outcome,) = request_states(engine, request.lane, [request])
    if isinstance(outcome, EngineError):
        raise outcome
    return outcome


def request_states(engine: Engine, lane: int, requests: Sequence[RequestId]) -> list[StateOutcome]:
    """As :func:`request_state` for requests of one lane, in their order: one look into the outbox for all of them, and
    a few queries for all that are not there."""
    with metrics.timed_call("look", len(requests)):
        found = _look_into_outbox(engine, lane, requests)
        recorded = _recorded_among(engine, requests, found)
    return [
        recorded.get(str(each)) or _unrecorded_state(engine, each, where)
        for each, where in zip(requests, found, strict=True)
    ]


def _recorded_among(
    engine: Engine, requests: Sequence[RequestId], found: Sequence[Whereabouts]
) -> dict[str, RequestState]:
    """What the ledger knows of those that are in no outbox, or in one that may have come back with what had left it:
    final states stay final. Without the ledger the latter are PENDING; of the others then nothing can be said."""
    gone, returned = [], []
    for request, where in zip(requests, found, strict=True):
        if not where.waits:
            gone.append(request)
        elif where.epoch is None or request.epoch < where.epoch:
            returned.append(request)
    if not gone and not returned:
        return {}
    try:
        return _recorded_states(engine, [*gone, *returned])
    except LedgerUnavailable:
        if gone:
            raise
        return {}


def _look_into_outbox(engine: Engine, lane: int, requests: Sequence[RequestId]) -> list[Whereabouts]:
    if lane >= engine.gate.lanes:
        # From a time with more lanes; they were drained before their number was changed.
        return [Whereabouts(False, request.epoch) for request in requests]
    return outbox.find(engine.gate, lane, requests)


def _unrecorded_state(engine: Engine, request: RequestId, where: Whereabouts) -> StateOutcome:
    """What to say of a request of which the ledger knows nothing."""
    if where.waits:
        return RequestState(str(request), request.kind, RequestStatus.PENDING, user_id=where.user_id)
    if where.epoch is None:
        return GateUnavailable(f"lane {request.lane} is not ready; whether it holds the request is not known yet")
    if request.epoch < where.epoch:
        return _forgotten(request)
    if not _has_newer_epoch(engine, request.lane, where.epoch):
        return _NOT_FOUND
    if request.lane >= engine.gate.lanes:
        return _forgotten(request)  # before the number of lanes was changed
    return GateUnavailable(f"another server has lane {request.lane} now than the one that answered")


def _forgotten(request: RequestId) -> RequestState:
    """The id is sealed, so we gave it. It is in neither place: Redis forgot it before the drain came."""
    return RequestState(str(request), request.kind, RequestStatus.FAILED, error=_LOST)


def _has_newer_epoch(engine: Engine, lane: int, epoch: int) -> bool:
    """Whether the lane went on under a newer epoch, on another server perhaps than the one that says this, which was
    replaced and has not heard of it."""
    with engine.ledger.read() as connection:
        recorded = progress_of_lane(connection, lane)
    return recorded is not None and recorded.epoch > epoch


def _recorded_states(engine: Engine, requests: Sequence[RequestId]) -> dict[str, RequestState]:
    """What the ledger knows of them, by request id."""
    issuances = [str(request) for request in requests if request.kind is RequestKind.COUPON_ISSUE]
    orders = {str(request): request.nonce for request in requests if request.kind is RequestKind.ORDER}
    states: dict[str, RequestState] = {}
    with engine.ledger.read() as connection:
        results = issuance_results(connection, issuances) if issuances else {}
        ends = order_ends(connection, orders) if orders else {}
        for request_id, result in results.items():
            states[request_id] = _completed(request_id, RequestKind.COUPON_ISSUE, result, result["userId"])
        for request_id, end in ends.items():
            if end.order is not None:
                states[request_id] = _completed(request_id, RequestKind.ORDER, order_body(end.order), end.user_id)
            elif end.failure is not None:
                states[request_id] = _failed(request_id, RequestKind.ORDER, Refused(end.failure), end.user_id)
        unknown = {str(request): request.kind for request in requests if str(request) not in states}
        quarantined = quarantined_among(connection, list(unknown)) if unknown else {}
    for request_id, fields in quarantined.items():
        states[request_id] = _failed(request_id, unknown[request_id], _LOST, owner_in(fields))
    return states


def _completed(request_id: str, kind: RequestKind, result: dict[str, object], user_id: int | None) -> RequestState:
    return RequestState(request_id, kind, RequestStatus.COMPLETED, result=result, user_id=user_id)


def _failed(request_id: str, kind: RequestKind, error: Refused, user_id: int | None) -> RequestState:
    return RequestState(request_id, kind, RequestStatus.FAILED, error=error, user_id=user_id)
