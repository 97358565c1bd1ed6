"""Coupons at the gate: issue, publish, count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from engine.errors import GateUnavailable
from engine.gate import keys
from engine.gate.gate import BELL_SECONDS, Gate, LaneState, Published, unavailability_translated
from engine.gate.request_ids import new_nonce, repeatable_nonce
from engine.outcomes import IssueStatus, RequestKind

KIND = "coupon"


@dataclass(frozen=True)
class IssueDecision:
    """The script's answer. ``sequence`` and ``request_id`` are set on ISSUED and REPLAYED."""

    status: IssueStatus
    lane: int
    sequence: int = 0
    request_id: str = ""
    ring: bool = False


@dataclass(frozen=True)
class CouponTerms:
    """What the gate has to know to decide about a coupon; ``version`` grows with every change in the ledger."""

    coupon_id: int
    version: int
    status: str
    total_quantity: int
    starts_at: datetime | None
    ends_at: datetime | None

    def fields(self) -> dict[str, str]:
        """The terms as the texts that the coupon's hash holds."""
        return {
            "version": str(self.version),
            "status": self.status,
            "total": str(self.total_quantity),
            "starts_at_ms": _milliseconds(self.starts_at),
            "ends_at_ms": _milliseconds(self.ends_at),
        }


def lane_of_coupon(gate: Gate, coupon_id: int) -> int:
    """The lane this coupon lives in."""
    return keys.lane_of(KIND, coupon_id, gate.lanes)


def issue(gate: Gate, coupon_id: int, user_id: int, idempotency_key: str | None) -> IssueDecision:
    """Decide one issuance, atomically and in order of arrival.

    With an idempotency key the same call gets the same answer; without one a time-out (GateUnavailable) leaves the
    outcome unknown, and asking again answers ALREADY_ISSUED if it was granted.
    """
    lane = lane_of_coupon(gate, coupon_id)

    def ask(state: LaneState) -> list[str]:
        if idempotency_key is None:
            nonce = new_nonce(state.request_key, RequestKind.COUPON_ISSUE)
        else:
            nonce = repeatable_nonce(state.request_key, RequestKind.COUPON_ISSUE, coupon_id, user_id, idempotency_key)
        return gate.run(
            "issue_coupon",
            [
                keys.lane(lane),
                keys.outbox(lane),
                keys.bell(lane),
                keys.coupon(lane, coupon_id),
                keys.winners(lane, coupon_id),
            ],
            [lane, state.epoch or 0, nonce, coupon_id, user_id, BELL_SECONDS * 1000, gate.backlog_limit],
        )

    reply = gate.decide(lane, ask)
    status = IssueStatus(reply[0])
    if status is IssueStatus.BACKLOGGED:
        raise GateUnavailable(f"the outbox of lane {lane} is over its limit")
    if status is IssueStatus.ISSUED:
        return IssueDecision(status, lane, int(reply[1]), reply[2], ring=reply[3] == 1)
    if status is IssueStatus.REPLAYED:
        return IssueDecision(status, lane, int(reply[1]), reply[2])
    return IssueDecision(status, lane)


def publish(gate: Gate, terms: CouponTerms) -> Published:
    """Make these terms the ones decided by, unless the gate knows newer ones; where it knows them. Safe to repeat."""
    lane = lane_of_coupon(gate, terms.coupon_id)
    fields = terms.fields()
    reply = gate.decide(
        lane,
        lambda state: gate.run(
            "publish_coupon",
            [keys.lane(lane), keys.coupon(lane, terms.coupon_id)],
            [
                state.epoch or 0,
                fields["version"],
                fields["status"],
                fields["total"],
                fields["starts_at_ms"],
                fields["ends_at_ms"],
            ],
        ),
    )
    return Published(lane, epoch=int(reply[2]))


def issued_count(gate: Gate, coupon_id: int) -> int | None:
    """How many were given so far, the ones on their way to the ledger included; None if the gate has no such coupon."""
    lane = lane_of_coupon(gate, coupon_id)
    with unavailability_translated():
        count = gate.client.hget(keys.coupon(lane, coupon_id), "issued")
    return None if count is None else int(str(count))


def _milliseconds(moment: datetime | None) -> str:
    return "" if moment is None else str(round(moment.timestamp() * 1000))
