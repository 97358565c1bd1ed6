"""Counting refusals: told in bulk, told again when nobody heard, never lost by the one who counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from engine.errors import GateUnavailable
from engine.outcomes import Refusal, Refused
from engine.shop import issuance
from tests.stack.stack_driver import wait_until
from web.app import create_app
from web.current import EXTENSION
from web.refusal_tally import MOST_NAMES, RefusalTally


class Board:
    """Where counts are told; away for as long as it is told so."""

    def __init__(self, away: int = 0) -> None:
        self.seen: Counter[str] = Counter()
        self.calls = 0
        self._away = away

    def tell(self, counts: Mapping[str, int]) -> None:
        self.calls += 1
        if self.calls <= self._away:
            raise GateUnavailable("away")
        self.seen.update(counts)


def test_many_refusals_are_told_in_few_calls_by_code_and_reason() -> None:
    board = Board()
    tally = RefusalTally(board.tell, flush_seconds=0.05)
    for _ in range(500):
        tally.count("COUPON_CLOSED", {"reason": "SOLD_OUT"})
        tally.count("COUPON_ALREADY_ISSUED")
    tally.close()
    assert board.seen == {"COUPON_CLOSED:SOLD_OUT": 500, "COUPON_ALREADY_ISSUED": 500}
    assert board.calls <= 20


def test_what_nobody_heard_is_told_again() -> None:
    board = Board(away=2)
    tally = RefusalTally(board.tell, flush_seconds=0.01)
    tally.count("BUSY")
    tally.count("BUSY")
    wait_until(lambda: board.seen, "the counts are told", 10)
    assert board.seen == {"BUSY": 2}
    assert board.calls == 3
    tally.close()


def test_names_are_bounded() -> None:
    board = Board()
    tally = RefusalTally(board.tell, flush_seconds=5)
    for number in range(MOST_NAMES + 50):
        tally.count(f"CODE_{number}")
    tally.close()
    assert len(board.seen) == MOST_NAMES


def test_the_views_count_what_they_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    monkeypatch.setattr("web.current.add_refusals", lambda _gate, counts: board.tell(counts))
    sold_out = Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})
    monkeypatch.setattr(issuance, "issue_coupon", lambda *_, **__: sold_out)
    app = create_app(SimpleNamespace(ledger=None, gate=None))  # type: ignore[arg-type]
    assert app.test_client().post("/api/v1/coupons/7/issue", json={"userId": 1}).status_code == 409
    app.extensions[EXTENSION].refusals.close()
    assert board.seen == {"COUPON_CLOSED:SOLD_OUT": 1}
