"""What an audit remembers of what it finds, and for how long."""

from __future__ import annotations

from engine.upkeep.auditing.findings import (
    BOOKS,
    DETAIL_CHARACTERS,
    EXAMPLES_SHOWN,
    CheckName,
    Findings,
    Suspicion,
    Watch,
)

STOCK, HOLDS = CheckName.STOCK, CheckName.HOLDS
HEAD = (CheckName.DRAINED, "lane 0")


def test_what_was_looked_at_and_is_right_is_counted() -> None:
    findings = Findings()
    findings.looked_at(STOCK, 1000)
    findings.looked_at(STOCK, 234)
    findings.looked_at(HOLDS, 1)
    checks = findings.checks([STOCK, HOLDS, CheckName.QUARANTINE])
    assert [(check.ok, check.detail) for check in checks] == [
        (True, "1,234 products looked at"),
        (True, "1 lane looked at"),
        (True, "none"),
    ]


def test_some_of_what_is_off_is_named_and_the_rest_is_counted() -> None:
    findings = Findings()
    for number in range(EXAMPLES_SHOWN + 40):
        findings.off(STOCK, f"product {number}")
    (check,) = findings.checks([STOCK])
    assert not check.ok
    assert check.detail == "43 off: product 0; product 1; product 2; and 40 more"


def test_a_detail_is_bounded() -> None:
    findings = Findings()
    findings.off(STOCK, "x" * 10_000)
    findings.unseen(STOCK, "y" * 10_000)
    (check,) = findings.checks([STOCK])
    assert len(check.detail) == DETAIL_CHARACTERS
    assert check.detail.endswith("…")


def test_what_could_not_be_seen_is_said_and_is_not_off() -> None:
    findings = Findings()
    assert not findings.anything_unseen
    findings.unseen(STOCK, "product 7: lane 0 is not open")
    (check,) = findings.checks([STOCK])
    assert (check.ok, check.detail) == (True, "0 products looked at (not compared: product 7: lane 0 is not open)")
    assert findings.anything_unseen


def test_a_suspicion_counts_when_it_stood_for_long_enough() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    for now[0], lasting in ((0.0, False), (14.9, False), (15.0, True), (16.0, True)):
        assert bool(watch.lasting({HEAD: Suspicion("1-1", "stuck")}, 15.0)) is lasting


def test_progress_begins_the_time_anew() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    for now[0], token, lasting in (
        (0.0, "1-1", False),
        (14.0, "1-2", False),
        (28.0, "1-2", False),
        (29.0, "1-2", True),
    ):
        assert bool(watch.lasting({HEAD: Suspicion(token, "stuck")}, 15.0)) is lasting


def test_a_suspicion_that_was_gone_in_between_is_a_new_one() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    suspicion = {HEAD: Suspicion("1-1", "stuck")}
    assert watch.lasting(suspicion, 15.0) == {}
    assert watch.lasting({}, 15.0) == {}
    now[0] = 20.0
    assert watch.lasting(suspicion, 15.0) == {}


def test_a_token_of_none_is_a_token() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    assert watch.lasting({HEAD: Suspicion(None, "stuck")}, 15.0) == {}
    now[0] = 20.0
    assert watch.lasting({HEAD: Suspicion(None, "stuck")}, 15.0) != {}


def test_books_are_checks() -> None:
    assert len(set(BOOKS)) == len(BOOKS)
    assert set(BOOKS) < set(CheckName)
