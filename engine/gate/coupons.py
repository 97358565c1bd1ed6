"""Coupons at the gate: issue, publish, count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from engine.gate import keys
from engine.gate.gate import BELL_SECONDS, Gate, LaneState, Published, unavailability_translated
from engine.gate.request_ids import new_nonce, repeatable_nonce
from engine.gate.scripts import Argument
from engine.gate.turns import TurnLimits, limits_text
from engine.outcomes import IssueStatus, RequestKind

KIND = "coupon"
ASKS_PER_CALL = 64
"""A call of so many keeps the server for well under two milliseconds: nobody else waits long for it."""

_STATUSES = {status.value: status for status in IssueStatus}


class IssueAsk(NamedTuple):
    """One user asks for one coupon; with an idempotency key the same ask gets the same answer.

    ``limits`` are what the ask counts against, unless it was granted before.
    """

    coupon_id: int
    user_id: int
    idempotency_key: str | None = None
    limits: TurnLimits = ()


class IssueDecision(NamedTuple):
    """The script's answer to one ask. ``sequence`` and ``request_id`` are set on ISSUED and REPLAYED, ``wait_ms`` on
    WAIT."""

    status: IssueStatus
    sequence: int = 0
    request_id: str = ""
    wait_ms: int = 0


class IssueRound(NamedTuple):
    """The answers to the asks of one call, in their order; ``ring`` says that the lane's bell has to be rung."""

    decisions: list[IssueDecision]
    ring: bool


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


def issue(gate: Gate, lane: int, asks: Sequence[IssueAsk]) -> IssueRound:
    """Decide asks for coupons of one lane, atomically and in the order given: one round trip for all.

    At most :data:`ASKS_PER_CALL`. Raises GateUnavailable for all of them. After a time-out their outcome is unknown:
    the same ask under its idempotency key gets the first answer; without a key, asking again answers ALREADY_ISSUED if
    it was granted.
    """
    script_keys = [keys.lane(lane), keys.outbox(lane), keys.bell(lane)]
    for ask in asks:
        coupon_key = keys.coupon(lane, ask.coupon_id)
        script_keys += (coupon_key, keys.winners_of(coupon_key))
        script_keys += [keys.turns(lane, who) for who, _ in ask.limits]

    def run(state: LaneState) -> list[Any]:
        arguments: list[Argument] = [lane, state.epoch or 0, BELL_SECONDS * 1000, gate.backlog_limit]
        for ask in asks:
            limits = limits_text(ask.limits, " ") if ask.limits else ""
            arguments += (_nonce(ask, state.request_key), ask.coupon_id, ask.user_id, limits)
        return gate.run("issue_coupon", script_keys, arguments)

    ring, *answers = gate.decide(lane, run)
    return IssueRound([_decision(answer) for answer in answers], ring == 1)


def _nonce(ask: IssueAsk, request_key: str) -> str:
    if ask.idempotency_key is None:
        return new_nonce(request_key, RequestKind.COUPON_ISSUE)
    scope = (ask.coupon_id, ask.user_id, ask.idempotency_key)
    return repeatable_nonce(request_key, RequestKind.COUPON_ISSUE, *scope)


def _decision(answer: Sequence[str]) -> IssueDecision:
    status = _STATUSES[answer[0]]
    if status is IssueStatus.ISSUED or status is IssueStatus.REPLAYED:
        return IssueDecision(status, int(answer[1]), answer[2])
    if status is IssueStatus.WAIT:
        return IssueDecision(status, wait_ms=int(answer[1]))
    return IssueDecision(status)


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
