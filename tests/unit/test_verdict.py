"""The verdict of a rush: every check notices what it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.verdict import CHECKS, NO_ANSWER, Attempt, Facts, Purpose, Row, Shown, judge


def request_id(number: int, epoch: int = 1) -> str:
    return f"0.{epoch}.{number}.c00ff"


def accepted(user_id: int, sequence: int) -> Attempt:
    return Attempt(Purpose.ISSUE, user_id, 202, request_id=request_id(sequence), sequence=sequence)


def refused(user_id: int, code: str = "COUPON_CLOSED") -> Attempt:
    return Attempt(Purpose.ISSUE, user_id, 409, code)


def poll(user_id: int, state: str, status: int = 200) -> Attempt:
    return Attempt(Purpose.POLL, user_id, status, state=state)


BUSY = Attempt(Purpose.ISSUE, 9, 503, "BUSY")
UNANSWERED = Attempt(Purpose.ISSUE, 9, NO_ANSWER)

SOUND = Facts(
    planned=7,
    quantity=3,
    attempts=(
        accepted(1, 1),
        replace(accepted(2, 2), status=201),
        refused(1, "COUPON_ALREADY_ISSUED"),
        accepted(3, 3),
        refused(4),
        poll(1, "PENDING"),
        poll(1, "COMPLETED"),
        Attempt(Purpose.UNKNOWN_COUPON, 1, 404, "COUPON_NOT_FOUND"),
        Attempt(Purpose.BAD_INPUT, 1, 400, "INVALID_REQUEST"),
    ),
    rows=tuple(Row(user, user, request_id(user)) for user in (1, 2, 3)),
    shown={request_id(user): Shown("COMPLETED", user, user) for user in (1, 2, 3)},
    gate_issued=3,
    ledger_issued=3,
)


def changed(**values: object) -> Facts:
    """The sound facts with a few of them replaced; as many attempts are planned as there are, unless said otherwise."""
    facts = replace(SOUND, **values)  # type: ignore[arg-type]
    if "planned" in values:
        return facts
    return replace(facts, planned=sum(attempt.purpose is not Purpose.POLL for attempt in facts.attempts))


def with_attempts(*more: Attempt, chaos: bool = False) -> Facts:
    return changed(attempts=(*SOUND.attempts, *more), chaos=chaos)


def with_rows(*rows: Row) -> Facts:
    return changed(rows=rows)


def failing(facts: Facts) -> set[str]:
    return {check.name for check in judge(facts) if not check.ok}


ROW_1, ROW_2, ROW_3 = SOUND.rows

BREACHES: list[tuple[str, Facts]] = [
    ("every attempt is on record", changed(planned=8)),
    ("every attempt is on record", changed(planned=6)),
    ("every attempt is on record", changed(attempts=(), planned=7)),
    ("somebody was answered", changed(attempts=(UNANSWERED, BUSY), rows=(), shown={}, chaos=True)),
    ("somebody was answered", changed(attempts=(Attempt(Purpose.BAD_INPUT, 1, 400, "INVALID_REQUEST"),))),
    ("who is told to have it has it", with_attempts(refused(4, "COUPON_ALREADY_ISSUED"))),
    ("as many rows as coupons, or as users", with_rows(ROW_1, ROW_2)),
    ("as many rows as coupons, or as users", with_rows(*SOUND.rows, Row(5, 4, request_id(4)))),
    ("not more given than there are", with_attempts(accepted(5, 4))),
    ("not more given than there are", changed(gate_issued=4)),
    ("not more given than there are", changed(ledger_issued=4)),
    ("every acceptance has its row", with_rows(ROW_1, ROW_2, replace(ROW_3, user_id=5))),
    ("every acceptance has its row", with_rows(ROW_1, ROW_2, replace(ROW_3, request_id=request_id(4)))),
    ("every acceptance has its row", with_rows(*SOUND.rows, ROW_3)),
    ("every acceptance has its row", with_attempts(replace(accepted(5, 4), status=201))),
    ("every accepted request is COMPLETED", changed(shown={**SOUND.shown, request_id(2): Shown("PENDING")})),
    ("every accepted request is COMPLETED", changed(shown={**SOUND.shown, request_id(2): Shown("COMPLETED", 2, 9)})),
    ("every accepted request is COMPLETED", changed(shown={})),
    ("every accepted request is COMPLETED", with_attempts(poll(1, "FAILED"))),
    ("every accepted request is COMPLETED", with_attempts(poll(1, "", 404))),
    ("the refused have nothing", with_rows(ROW_1, ROW_2, Row(4, 3, request_id(3)))),
    ("at most one for each user", with_rows(ROW_1, ROW_2, Row(1, 3, request_id(3)))),
    ("at most one for each user", with_attempts(accepted(1, 3))),
    ("sequences without a gap", with_rows(ROW_1, ROW_2, replace(ROW_3, sequence=4))),
    ("sequences without a gap", with_rows(ROW_1, ROW_2, replace(ROW_3, sequence=2))),
    ("sequences without a gap", with_rows(replace(ROW_1, sequence=0), ROW_2, ROW_3)),
    ("sequences in the order of the outbox", with_rows(replace(ROW_1, sequence=2), replace(ROW_2, sequence=1), ROW_3)),
    (
        "sequences in the order of the outbox",
        with_rows(replace(ROW_1, request_id=request_id(1, epoch=2)), ROW_2, ROW_3),
    ),
    ("sequences in the order of the outbox", with_rows(ROW_1, replace(ROW_2, request_id=ROW_1.request_id), ROW_3)),
    ("the outbox is empty", changed(backlog=1)),
    ("gate, ledger and rows agree", changed(gate_issued=2)),
    ("gate, ledger and rows agree", changed(ledger_issued=2)),
    ("gate, ledger and rows agree", with_rows(ROW_1, ROW_2)),
    ("nothing in quarantine", changed(quarantined=1)),
    ("nonsense is refused", with_attempts(Attempt(Purpose.BAD_INPUT, 1, 202))),
    ("nonsense is refused", with_attempts(Attempt(Purpose.BAD_INPUT, 1, 409, "COUPON_CLOSED"))),
    ("nonsense is refused", with_attempts(Attempt(Purpose.UNKNOWN_COUPON, 1, 202))),
    ("nonsense is refused", with_attempts(Attempt(Purpose.UNKNOWN_COUPON, 1, 404, "INVALID_REQUEST"))),
    ("proper attempts are understood", with_attempts(Attempt(Purpose.ISSUE, 1, 400, "INVALID_REQUEST"))),
    ("proper attempts are understood", with_attempts(Attempt(Purpose.ISSUE, 1, 200))),
    ("no error but declared ones", with_attempts(BUSY)),
    ("no error but declared ones", with_attempts(UNANSWERED)),
    ("no error but declared ones", with_attempts(replace(BUSY, status=500, code="TEMPORARY_ERROR"), chaos=True)),
    ("no error but declared ones", with_attempts(replace(BUSY, code="TEMPORARY_ERROR"), chaos=True)),
    ("no error but declared ones", with_attempts(replace(poll(1, ""), status=500), chaos=True)),
]


def test_sound_facts_pass_every_check() -> None:
    assert failing(SOUND) == set()


@pytest.mark.parametrize(("name", "facts"), BREACHES)
def test_a_breach_is_noticed_by_its_check(name: str, facts: Facts) -> None:
    assert name in failing(facts)


def test_every_check_has_a_breach_that_it_notices() -> None:
    assert {name for name, _ in BREACHES} == set(CHECKS)


@pytest.mark.parametrize("unknown", [BUSY, UNANSWERED])
def test_an_unknown_outcome_may_have_a_row_or_none(unknown: Attempt) -> None:
    """Two coupons are left for somebody whose answer never came."""
    without = changed(quantity=5, attempts=(*SOUND.attempts[:4], unknown), chaos=True)
    with_row = replace(without, rows=(*SOUND.rows, Row(9, 4, request_id(4))), gate_issued=4, ledger_issued=4)
    assert failing(without) == set()
    assert failing(with_row) == set()


def test_a_user_who_was_refused_after_an_unknown_attempt_may_have_a_row() -> None:
    facts = changed(
        quantity=4,
        attempts=(*SOUND.attempts, replace(UNANSWERED, user_id=4)),
        rows=(*SOUND.rows, Row(4, 4, request_id(4))),
        gate_issued=4,
        ledger_issued=4,
        chaos=True,
    )
    assert failing(facts) == set()


def test_a_crowd_that_recorded_nothing_proves_nothing() -> None:
    nothing = changed(attempts=(), planned=20_000, rows=(), shown={}, gate_issued=0, ledger_issued=0)
    assert failing(nothing) == {"every attempt is on record", "somebody was answered"}


def test_chaos_in_which_nobody_is_answered_is_no_success() -> None:
    nobody = changed(attempts=(UNANSWERED,) * 5, rows=(), shown={}, gate_issued=0, ledger_issued=0, chaos=True)
    assert failing(nobody) == {"somebody was answered"}


def test_polls_are_not_counted_as_attempts() -> None:
    assert failing(with_attempts(poll(1, "PENDING"), poll(2, "COMPLETED"))) == set()


def test_fewer_users_than_coupons_all_get_one() -> None:
    enough = changed(quantity=10, attempts=SOUND.attempts[:4])
    assert failing(enough) == set()
    assert "as many rows as coupons, or as users" in failing(replace(enough, attempts=(*enough.attempts, refused(4))))


def test_numbers_are_compared_as_numbers_and_epochs_come_first() -> None:
    rows = (
        Row(1, 1, request_id(9)),
        Row(2, 2, request_id(10)),
        Row(3, 3, request_id(2, epoch=2)),
    )
    assert "sequences in the order of the outbox" not in failing(with_rows(*rows))
