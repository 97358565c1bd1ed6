"""Issuing a coupon: the gate decides, the bell is rung, the drain records."""

from __future__ import annotations

from engine.context import Engine
from engine.fault_points import reach
from engine.gate import coupons as gate_coupons
from engine.outcomes import Issued, IssueStatus, Refusal, Refused

_REFUSALS = {
    IssueStatus.NOT_FOUND: Refused(Refusal.COUPON_NOT_FOUND),
    IssueStatus.ALREADY_ISSUED: Refused(Refusal.COUPON_ALREADY_ISSUED),
    IssueStatus.INACTIVE: Refused(Refusal.COUPON_CLOSED, {"reason": "INACTIVE"}),
    IssueStatus.NOT_STARTED: Refused(Refusal.COUPON_CLOSED, {"reason": "NOT_STARTED"}),
    IssueStatus.ENDED: Refused(Refusal.COUPON_CLOSED, {"reason": "ENDED"}),
    IssueStatus.SOLD_OUT: Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"}),
}


def issue_coupon(engine: Engine, *, coupon_id: int, user_id: int, idempotency_key: str | None) -> Issued | Refused:
    """Give the coupon to the user if it is their turn. Final at once; durable when the drain has recorded it.

    Raises GateUnavailable when nothing could be decided, or when the answer did not arrive: then the outcome is
    unknown, and the same call with the same idempotency key gets the first answer.
    """
    decision = gate_coupons.issue(engine.gate, coupon_id, user_id, idempotency_key)
    reach("issue.decided")
    if decision.ring:
        engine.bell.ring(decision.lane)
    if decision.status in (IssueStatus.ISSUED, IssueStatus.REPLAYED):
        return Issued(decision.request_id, coupon_id, user_id, decision.sequence)
    return _REFUSALS[decision.status]
