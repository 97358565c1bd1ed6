"""Issuing a coupon: the gate decides, the bell is rung, the drain records."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engine.context import Engine
from engine.errors import EngineError, GateUnavailable, TooManyAsks
from engine.fault_points import reach
from engine.gate import coupons as gate_coupons
from engine.gate.coupons import IssueAsk, IssueDecision, lane_of_coupon
from engine.gate.turns import TurnLimits
from engine.outcomes import Issued, IssueStatus, Refusal, Refused, RequestKind
from engine.telemetry import metrics

logger = logging.getLogger(__name__)

_REFUSALS = {
    IssueStatus.NOT_FOUND: Refused(Refusal.COUPON_NOT_FOUND),
    IssueStatus.ALREADY_ISSUED: Refused(Refusal.COUPON_ALREADY_ISSUED),
    IssueStatus.INACTIVE: Refused(Refusal.COUPON_CLOSED, {"reason": "INACTIVE"}),
    IssueStatus.NOT_STARTED: Refused(Refusal.COUPON_CLOSED, {"reason": "NOT_STARTED"}),
    IssueStatus.ENDED: Refused(Refusal.COUPON_CLOSED, {"reason": "ENDED"}),
    IssueStatus.SOLD_OUT: Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"}),
}


def issue_coupon(
    engine: Engine, *, coupon_id: int, user_id: int, idempotency_key: str | None, limits: TurnLimits = ()
) -> Issued | Refused:
    """Give the coupon to the user if it is their turn. Final at once; durable when the drain has recorded it.

    Raises TooManyAsks when one of the limits is reached, unless this very ask was granted before. Raises
    GateUnavailable when nothing could be decided, or when the answer did not arrive: then the outcome is unknown, and
    the same call with the same idempotency key gets the first answer.
    """
    lane = lane_of_coupon(engine.gate, coupon_id)
    (outcome,), ring = issue_coupons(engine, lane, [IssueAsk(coupon_id, user_id, idempotency_key, limits)])
    if ring:
        engine.bell.ring(lane)
    if isinstance(outcome, EngineError):
        raise outcome
    return outcome


def issue_coupons(
    engine: Engine, lane: int, asks: Sequence[IssueAsk]
) -> tuple[list[Issued | Refused | EngineError], bool]:
    """As :func:`issue_coupon` for asks of one lane, in their order, in one round trip; and whether to ring its bell.

    Raises GateUnavailable when nothing could be decided for any of them.
    """
    kind = RequestKind.COUPON_ISSUE
    try:
        with metrics.timed_call("issue", len(asks)):
            decisions, ring = gate_coupons.issue(engine.gate, lane, asks)
    except GateUnavailable:
        metrics.count_decisions(kind, [metrics.UNAVAILABLE] * len(asks))
        raise
    metrics.count_decisions(kind, [decision.status for decision in decisions])
    if logger.isEnabledFor(logging.DEBUG):
        request_ids = [decision.request_id for decision in decisions if decision.request_id]
        logger.debug("issued %d coupons in lane %d", len(request_ids), lane, extra={"request_ids": request_ids})
    reach("issue.decided")
    return [_outcome(lane, ask, decision) for ask, decision in zip(asks, decisions, strict=True)], ring


def _outcome(lane: int, ask: IssueAsk, decision: IssueDecision) -> Issued | Refused | EngineError:
    if decision.request_id:
        return Issued(decision.request_id, ask.coupon_id, ask.user_id, decision.sequence)
    if decision.status is IssueStatus.WAIT:
        return TooManyAsks(decision.wait_ms)
    if decision.status is IssueStatus.BACKLOGGED:
        return GateUnavailable(f"the outbox of lane {lane} is over its limit")
    return _REFUSALS[decision.status]
