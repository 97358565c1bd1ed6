"""What a rush may lose with a server, and what it may not."""

from __future__ import annotations

from dataclasses import replace

from loadtests.losses import forgive_losses
from loadtests.verdict import Attempt, Facts, Purpose, Row, Shown, judge

PRESENT_EPOCH = 2


def request_id(number: int, epoch: int) -> str:
    return f"0.{epoch}.{number}.c00ff"


def accepted(user_id: int, sequence: int, epoch: int, status: int = 202) -> Attempt:
    return Attempt(Purpose.ISSUE, user_id, status, request_id=request_id(sequence, epoch), sequence=sequence)


def poll(attempt: Attempt, state: str) -> Attempt:
    return replace(attempt, purpose=Purpose.POLL, status=200, state=state)


LOST = accepted(2, 2, epoch=1)
"""Promised by a server that took it with it; its place went to user 3 afterwards."""

FACTS = Facts(
    planned=4,
    quantity=2,
    attempts=(
        accepted(1, 1, epoch=1),
        LOST,
        Attempt(Purpose.ISSUE, 2, 409, "COUPON_ALREADY_ISSUED"),
        poll(LOST, "PENDING"),
        poll(LOST, "FAILED"),
        accepted(3, 2, epoch=2),
    ),
    rows=(Row(1, 1, request_id(1, 1)), Row(3, 2, request_id(2, 2))),
    shown={
        request_id(1, 1): Shown("COMPLETED", 1, 1),
        LOST.request_id: Shown("FAILED"),
        request_id(2, 2): Shown("COMPLETED", 3, 2),
    },
    gate_issued=2,
    ledger_issued=2,
)


def failed(facts: Facts) -> set[str]:
    """The checks that do not hold once losses are forgiven."""
    forgiven, check = forgive_losses(facts, PRESENT_EPOCH)
    return {each.name for each in [*judge(forgiven), check] if not each.ok}


def with_more(*attempts: Attempt) -> Facts:
    issues = sum(attempt.purpose is Purpose.ISSUE for attempt in attempts)
    return replace(FACTS, attempts=FACTS.attempts + attempts, planned=FACTS.planned + issues)


def test_without_forgiveness_a_loss_is_a_fault() -> None:
    names = {each.name for each in judge(FACTS) if not each.ok}
    assert {"every acceptance has its row", "every accepted request is COMPLETED"} <= names


def test_what_an_earlier_epoch_promised_and_lost_is_forgiven() -> None:
    assert failed(FACTS) == set()


def test_who_lost_a_coupon_and_asks_again_may_win_again() -> None:
    rows = (FACTS.rows[0], Row(2, 2, request_id(2, 2)))
    shown = {**FACTS.shown, request_id(2, 2): Shown("COMPLETED", 2, 2)}
    attempts = (*FACTS.attempts[:-1], accepted(2, 2, epoch=2))
    assert failed(replace(FACTS, rows=rows, shown=shown, attempts=attempts)) == set()


def test_who_waited_for_what_was_lost_may_be_told_so() -> None:
    assert failed(with_more(Attempt(Purpose.ISSUE, 2, 503, "TEMPORARY_ERROR"))) == set()


def test_what_the_present_epoch_promised_is_not_forgiven() -> None:
    taken_back = accepted(4, 3, epoch=PRESENT_EPOCH)
    facts = with_more(taken_back)
    facts = replace(facts, shown={**facts.shown, taken_back.request_id: Shown("FAILED")})
    assert "every acceptance has its row" in failed(facts)


def test_what_somebody_was_told_to_be_durable_is_not_forgiven() -> None:
    assert failed(with_more(poll(LOST, "COMPLETED"))) == {"nothing confirmed was lost"}
    attempts = tuple(replace(each, status=201) if each is LOST else each for each in FACTS.attempts)
    assert failed(replace(FACTS, attempts=attempts)) == {"nothing confirmed was lost"}


def test_a_request_that_is_neither_completed_nor_failed_is_not_forgiven() -> None:
    for status in ("PENDING", "404", "503"):
        facts = replace(FACTS, shown={**FACTS.shown, LOST.request_id: Shown(status)})
        assert "every accepted request is COMPLETED" in failed(facts)
