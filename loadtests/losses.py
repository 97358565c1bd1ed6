"""What a rush may lose with a server: decisions that it had not passed on, and that nobody was told were durable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from engine.context import Engine
from engine.gate.coupons import lane_of_coupon
from loadtests.verdict import NO_ANSWER, Attempt, Check, Facts, Purpose


def epoch_of(engine: Engine, coupon_id: int) -> int:
    """The epoch under which the coupon's lane is open now."""
    return engine.gate.inspect(lane_of_coupon(engine.gate, coupon_id)).epoch or 0


def forgive_losses(facts: Facts, present_epoch: int) -> tuple[Facts, Check]:
    """The facts without what may have been lost, and the check that it may.

    An acceptance is lost if its request ended FAILED, and forgiven if it is of an epoch before the present one: whoever
    was accepted since the last reopening keeps it. To a forgiven one nobody may have said COMPLETED.
    """
    lost = {
        attempt.request_id
        for attempt in facts.issues
        if attempt.accepted and _ended_failed(facts, attempt) and _epoch(attempt.request_id) < present_epoch
    }
    broken = [each for each in facts.attempts if each.request_id in lost and _was_told_completed(each)]
    users = {attempt.user_id for attempt in facts.issues if attempt.request_id in lost}
    rows = {row.user_id for row in facts.rows}
    attempts = tuple(
        replace(each, status=NO_ANSWER, code="", request_id="", sequence=0, state="")
        if each.request_id in lost
        or _speaks_of_a_loss(each)
        or (_is_refused_as_holder(each) and each.user_id in users - rows)
        else each
        for each in facts.attempts
    )
    shown = {request_id: state for request_id, state in facts.shown.items() if request_id not in lost}
    detail = f"{len(lost)} of {_accepted(facts.issues)} accepted were lost, {len(broken)} times after COMPLETED"
    forgiven = replace(facts, attempts=attempts, shown=shown, chaos=True)
    return forgiven, Check("nothing confirmed was lost", not broken, detail)


def _ended_failed(facts: Facts, attempt: Attempt) -> bool:
    shown = facts.shown.get(attempt.request_id)
    return shown is not None and shown.status == "FAILED"


def _speaks_of_a_loss(attempt: Attempt) -> bool:
    """Whether somebody waited for their request and was told that it was lost."""
    return (attempt.status, attempt.code) == (503, "TEMPORARY_ERROR")


def _is_refused_as_holder(attempt: Attempt) -> bool:
    return attempt.code == "COUPON_ALREADY_ISSUED"


def _was_told_completed(attempt: Attempt) -> bool:
    return attempt.status == 201 or (attempt.purpose is Purpose.POLL and attempt.state == "COMPLETED")


def _accepted(issues: Iterable[Attempt]) -> int:
    return sum(attempt.accepted for attempt in issues)


def _epoch(request_id: str) -> int:
    return int(request_id.split(".")[1])
