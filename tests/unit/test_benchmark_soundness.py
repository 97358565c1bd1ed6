"""Every check of the benchmark notices what it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.benchmark.loads import Load
from loadtests.benchmark.overload import arrivals_of, judge_overload
from loadtests.benchmark.senders import Volley
from loadtests.benchmark.soundness import CouponCounts, Tally, judge_answers, judge_coupon, judge_persistence
from loadtests.verdict import Check

SOUND = CouponCounts(quantity=1000, counted=102, rows=102, users=102, last_sequence=102, gate_issued=102)
TOLD = Tally(accepted=100, most_unheard=4)
LOAD = Load(2.0, {202: 300, 503: 100}, 1.0, 2.0, 3.0, 0.1)
VOLLEY = Volley(
    LOAD, sent=400, good_in_time=290, good_within_limit=295, busy_told_well=100, good_p99_ms=2.0, others_p99_ms=1.0,
    bodies=(),
)  # fmt: skip


def failed(checks: list[Check]) -> set[str]:
    return {check.name.removeprefix("issue: ") for check in checks if not check.ok}


def test_a_coupon_in_order_passes_every_check() -> None:
    assert failed(judge_coupon("issue", SOUND, TOLD)) == set()


@pytest.mark.parametrize(
    ("name", "counts", "tally"),
    [
        ("every acceptance is persisted, and nothing else", SOUND, replace(TOLD, accepted=103)),
        ("every acceptance is persisted, and nothing else", SOUND, replace(TOLD, accepted=97)),
        ("never more than there are", replace(SOUND, quantity=101), TOLD),
        ("nobody has it twice", replace(SOUND, users=101), TOLD),
        ("places have no gap", replace(SOUND, last_sequence=103), TOLD),
        ("gate and ledger agree", replace(SOUND, gate_issued=103), TOLD),
        ("gate and ledger agree", replace(SOUND, counted=101), TOLD),
    ],
)
def test_each_fault_of_a_coupon_fails_its_check(name: str, counts: CouponCounts, tally: Tally) -> None:
    assert failed(judge_coupon("issue", counts, tally)) == {name}


def test_where_the_gate_had_no_part_only_the_ledger_is_asked() -> None:
    assert failed(judge_coupon("lock", replace(SOUND, gate_issued=None), TOLD)) == set()


def test_a_tally_counts_what_was_accepted_and_what_may_not_have_been_heard() -> None:
    tally = Tally()
    tally.add(replace(LOAD, broken=2, unanswered=3), 202, connections=64)
    tally.add(LOAD, 202, connections=64)
    assert tally == Tally(accepted=600, most_unheard=64 + 5 + 64)


@pytest.mark.parametrize(
    ("accepted", "persisted", "unheard", "ok"),
    [
        (["a", "b"], ["b", "a"], 0, True),
        (["a"], ["a", "b"], 1, True),
        (["a"], ["a", "b"], 0, False),  # somebody got what nobody was told of
        (["a", "b"], ["a"], 5, False),  # somebody was told what is not kept
        (["a", "a"], ["a"], 0, False),  # two were told the same
        ([], [], 0, False),  # nothing was measured
    ],
)
def test_persisted_is_what_was_accepted(accepted: list[str], persisted: list[str], unheard: int, ok: bool) -> None:
    assert judge_persistence("lag", accepted, persisted, unheard).ok is ok


@pytest.mark.parametrize(
    "load",
    [
        replace(LOAD, answers={}),
        replace(LOAD, answers={202: 300, 500: 1}),
        replace(LOAD, answers={202: 300}, broken=1),
        replace(LOAD, answers={202: 300}, unanswered=1),
    ],
)
def test_other_answers_than_the_expected_fail_a_slice(load: Load) -> None:
    assert not judge_answers("issue", load, 202).ok


def test_the_expected_answers_pass() -> None:
    assert judge_answers("issue", LOAD, 202, 503).ok


@pytest.mark.parametrize(
    ("volley", "ok"),
    [
        (VOLLEY, True),
        (replace(VOLLEY, busy_told_well=99), False),  # a 503 without Retry-After
        (replace(VOLLEY, load=replace(LOAD, answers={202: 300, 500: 1})), False),
    ],
)
def test_under_overload_everybody_is_accepted_or_told_properly_to_come_again(volley: Volley, ok: bool) -> None:
    assert judge_overload("2×", volley).ok is ok


def test_late_acceptances_are_no_goodput() -> None:
    arrivals = arrivals_of("2×", [replace(VOLLEY, load=replace(LOAD, unanswered=10))])
    assert VOLLEY.goodput == 145.0
    assert (arrivals.in_time, arrivals.late, arrivals.refused, arrivals.unanswered) == (145.0, 5.0, 50.0, 5.0)
