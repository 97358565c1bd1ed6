"""``python -m ops quarantine``: what the ledger refused is looked at, recorded after all, or given up; each once."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine.context import Engine
from engine.flow import quarantine
from engine.flow.drain import DrainReport, Recorded, drain, drain_batch, record_batch
from engine.flow.holds import sweep_holds
from engine.flow.quarantine import QuarantineAnswer, retry_quarantined
from engine.gate import keys, outbox, stock
from engine.ledger.settlement import Settlement
from engine.outcomes import Issued, Refusal, RequestStatus
from engine.upkeep import console
from engine.upkeep.auditing.findings import CheckName
from engine.upkeep.guard import watch_lanes
from engine.upkeep.rebuild import rebuild_now
from tests.audit.audited_shop import found_off
from tests.integration.command_line import done, ops, refused
from tests.integration.offers import assert_recorded_once, offer, quarantined, recorded, state, win, win_all
from tests.integration.placed_orders import execute, rows
from tests.integration.shop import (
    add_product,
    add_user,
    assert_conserved,
    available,
    drain_all,
    order,
    overdue,
    state_of,
)


def given_over_the_limit(engine: Engine) -> tuple[int, list[Issued]]:
    """A coupon of 5 of which the gate gave 8: three of them are in quarantine."""
    coupon = offer(engine, total=5)
    engine.gate.client.hset(keys.coupon(0, coupon), "total", "8")
    wins = win_all(engine, coupon, range(1, 9))
    drain(engine, 0, linger_seconds=0)
    assert len(quarantined(engine)) == 3
    return coupon, wins


def order_in_quarantine(engine: Engine) -> tuple[Any, int]:
    """An order that the ledger could not take, because its user's account was locked away; and its product."""
    product = add_product(engine, 1_000, 10)
    add_user(engine, 1, 50_000)
    placed = order(engine, 1, {product: 2})
    # A row that no ledger of ours would write keeps the order out, until somebody mends it.
    execute(engine, "ALTER TABLE order_items ADD CONSTRAINT broken CHECK (quantity <> 2)")
    try:
        drain(engine, 0, linger_seconds=0)
    finally:
        execute(engine, "ALTER TABLE order_items DROP CONSTRAINT broken")
    assert len(quarantined(engine)) == 1
    return placed, product


def test_what_waits_is_listed_with_its_cause(engine: Engine) -> None:
    assert done(ops(engine, "quarantine", "list")) == "nothing is in quarantine\n"
    _, wins = given_over_the_limit(engine)
    lines = done(ops(engine, "quarantine", "list")).splitlines()
    assert len(lines) == 4
    assert wins[5].request_id in lines[1]
    assert "issued_within_quantity" in lines[1]
    listed = json.loads(done(ops(engine, "quarantine", "list", "--json")))
    assert [each["requestId"] for each in listed] == [each.request_id for each in wins[5:]]
    assert listed[0]["fields"]["user_id"] == "6"
    assert listed[0]["endedAt"] is None


def test_it_is_recorded_once_the_cause_is_mended_and_only_once(engine: Engine) -> None:
    coupon, wins = given_over_the_limit(engine)
    ids = [row.id for row in quarantined(engine)]
    result = ops(engine, "quarantine", "retry", *ids)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("the database still refuses it: ") == 3
    assert "issued_within_quantity" in result.stderr
    assert_recorded_once(engine, coupon, wins[:5])

    done(ops(engine, "coupon", "add", coupon, 3))
    answers = json.loads(done(ops(engine, "quarantine", "retry", "--json", *ids)))
    assert [each["answer"] for each in answers] == ["recorded"] * 3
    assert_recorded_once(engine, coupon, wins)
    assert {state(engine, each.request_id).status for each in wins} == {RequestStatus.COMPLETED}
    assert "1 had come to its end before: RECORDED" in done(ops(engine, "quarantine", "retry", ids[0]))
    assert_recorded_once(engine, coupon, wins)
    assert done(ops(engine, "quarantine", "list")) == "nothing is in quarantine\n"
    assert len(json.loads(done(ops(engine, "quarantine", "list", "--all", "--json")))) == 3
    assert found_off(engine) == {}


def test_an_order_is_settled_as_if_it_came_just_now(engine: Engine) -> None:
    placed, product = order_in_quarantine(engine)
    assert state_of(engine, placed).status is RequestStatus.FAILED
    (row,) = quarantined(engine)
    done(ops(engine, "quarantine", "retry", row.id))
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert available(engine, product) == 8
    assert engine.bell.followups_waiting() == 1
    assert_conserved(engine)


def test_an_order_whose_hold_has_expired_meanwhile_is_not_revived(engine: Engine) -> None:
    placed, product = order_in_quarantine(engine)
    overdue(engine)
    assert sweep_holds(engine, 0) == 1
    assert available(engine, product) == 10
    (row,) = quarantined(engine)
    done(ops(engine, "quarantine", "retry", row.id))
    assert state_of(engine, placed).status is RequestStatus.FAILED
    assert available(engine, product) == 10
    assert rows(engine, "SELECT status FROM orders") == [("EXPIRED",)]
    assert_conserved(engine)


def test_what_a_rebuilt_lane_does_not_stand_on_stays_out(engine: Engine) -> None:
    coupon, wins = given_over_the_limit(engine)
    rebuild_now(engine, 0)
    done(ops(engine, "coupon", "add", coupon, 3))
    newer = win(engine, coupon, 99)  # has the place in line of the first one in quarantine
    assert newer.sequence == wins[5].sequence
    drain_all(engine)
    (first, *_) = quarantined(engine)
    result = ops(engine, "quarantine", "retry", first.id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it can only be dropped" in result.stderr
    assert_recorded_once(engine, coupon, [*wins[:5], newer])
    assert state(engine, newer.request_id).status is RequestStatus.COMPLETED


def test_after_a_rebuild_nobody_is_given_a_place_behind_an_empty_one_that_somebody_has(engine: Engine) -> None:
    """Counting winners would give the last place once more, and the ledger would take it back."""
    coupon = offer(engine, total=10)
    wins = win_all(engine, coupon, range(1, 6))
    execute(engine, "ALTER TABLE user_coupons ADD CONSTRAINT broken CHECK (user_id <> 3)")
    drain(engine, 0, linger_seconds=0)
    execute(engine, "ALTER TABLE user_coupons DROP CONSTRAINT broken")
    (row,) = quarantined(engine)
    done(ops(engine, "quarantine", "drop", row.id, "--because", "an experiment"))
    rebuild_now(engine, 0)
    newer = win_all(engine, coupon, [98, 99])
    drain(engine, 0, linger_seconds=0)
    assert [each.sequence for each in newer] == [6, 7]
    assert len(quarantined(engine)) == 1
    assert_recorded_once(engine, coupon, [*wins[:2], *wins[3:], *newer])


@pytest.mark.parametrize("lanes", [4])
def test_an_order_that_the_sweeper_gave_up_in_one_lane_is_not_revived(engine: Engine) -> None:
    """Its other holds are not overdue yet: a web process slept between the lanes."""
    add_user(engine, 1, 50_000)
    products = [add_product(engine, 1_000, 10) for _ in range(8)]
    placed = order(engine, 1, dict.fromkeys(products, 2))
    execute(engine, "ALTER TABLE order_items ADD CONSTRAINT broken CHECK (quantity <> 2)")
    drain_all(engine)
    execute(engine, "ALTER TABLE order_items DROP CONSTRAINT broken")
    first, *_ = sorted({stock.lane_of_product(engine.gate, product) for product in products})
    for nonce in engine.gate.client.zrange(keys.holds(first), 0, -1):
        engine.gate.client.zadd(keys.holds(first), {str(nonce): 1})
    assert sweep_holds(engine, first) == 1
    (row,) = quarantined(engine)
    done(ops(engine, "quarantine", "retry", row.id))
    assert state_of(engine, placed).status is RequestStatus.FAILED
    assert [available(engine, product) for product in products] == [10] * 8
    assert_conserved(engine)


def test_who_sleeps_before_recording_is_stopped_by_the_fence_and_without_it_would_not_be(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the same retry, with the look at the lane's epochs left out, takes a place in line that
    the rebuilt lane is about to give to somebody else."""
    coupon, wins = given_over_the_limit(engine)
    execute(engine, "UPDATE coupons SET total_quantity = 8")
    (first, *_) = quarantined(engine)

    def asleep(connection: Any, lane: int, entries: Any) -> Recorded:
        rebuild_now(engine, 0)
        return record_batch(connection, lane, entries)

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "record_batch", asleep)
        assert retry_quarantined(engine, first.id).answer is QuarantineAnswer.FORGOTTEN
    assert_recorded_once(engine, coupon, wins[:5])
    with monkeypatch.context() as patch:
        patch.setattr("engine.ledger.progress.fence", lambda *_: type("Open", (), {"admits": lambda *_: True})())
        assert retry_quarantined(engine, first.id).answer is QuarantineAnswer.RECORDED
    newer = win(engine, coupon, 99)
    assert newer.sequence == wins[5].sequence
    drain_all(engine)
    assert state(engine, newer.request_id).status is RequestStatus.FAILED


def test_a_dropped_entry_is_kept_with_the_reason_and_told_in_the_log(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    _, wins = given_over_the_limit(engine)
    (first, *_) = quarantined(engine)
    with caplog.at_level(logging.WARNING, "engine.flow.quarantine"):
        told = done(ops(engine, "quarantine", "drop", first.id, "--because", "an experiment"))
    assert told == f"{first.id} was dropped\n"
    (line,) = [record.getMessage() for record in caplog.records if record.name == "engine.flow.quarantine"]
    assert "an experiment" in line
    assert wins[5].request_id in line
    assert "'user_id': '6'" in line
    (kept, *_) = json.loads(done(ops(engine, "quarantine", "list", "--all", "--json")))
    assert (kept["endedAs"], kept["endedBecause"]) == ("DROPPED", "an experiment")
    failed = state(engine, wins[5].request_id)
    assert failed.status is RequestStatus.FAILED
    assert failed.error is not None
    assert failed.error.code is Refusal.TEMPORARY_ERROR
    again = done(ops(engine, "quarantine", "drop", first.id, "--because", "once more"))
    assert "had come to its end before: DROPPED: an experiment" in again
    assert "had come to its end before" in done(ops(engine, "quarantine", "retry", first.id))


def test_a_drain_that_meets_a_dropped_entry_again_leaves_it_dropped(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon = offer(engine, total=1)
    engine.gate.client.hset(keys.coupon(0, coupon), "total", "2")
    win_all(engine, coupon, [1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "remove", lambda *_: None)
        drain_batch(engine, DrainReport(0))
    (row,) = quarantined(engine)
    done(ops(engine, "quarantine", "drop", row.id, "--because", "an experiment"))
    drain(engine, 0, linger_seconds=0)
    assert [each.ended_as for each in quarantined(engine)] == ["DROPPED"]


def test_console_and_audit_count_what_waits_and_nothing_else(engine: Engine) -> None:
    given_over_the_limit(engine)
    assert console.look_at(engine).quarantined == 3
    assert CheckName.QUARANTINE in found_off(engine)
    ids = [row.id for row in quarantined(engine)]
    done(ops(engine, "quarantine", "drop", *ids, "--because", "an experiment"))
    assert console.look_at(engine).quarantined == 0
    watch_lanes(engine)
    assert CheckName.QUARANTINE not in found_off(engine)


def test_two_who_retry_at_once_record_once(engine: Engine) -> None:
    coupon, wins = given_over_the_limit(engine)
    execute(engine, "UPDATE coupons SET total_quantity = 8")
    (first, *_) = quarantined(engine)
    with ThreadPoolExecutor(4) as pool:
        answers = [decided.answer for decided in pool.map(lambda _: retry_quarantined(engine, first.id), range(4))]
    assert sorted(answers) == sorted([QuarantineAnswer.RECORDED, *[QuarantineAnswer.ENDED_BEFORE] * 3])
    assert_recorded_once(engine, coupon, wins[:6])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["retry"], "Missing argument"),
        (["retry", "0"], "is no id"),
        (["retry", "1.5"], "is no id"),
        (["retry", "--all"], "No such option"),
        (["drop", "1"], "--because"),
        (["drop", "1", "--because", "  "], "say why"),
        (["drop", "x", "--because", "an experiment"], "is no id"),
        (["forget"], "No such command"),
    ],
)
def test_a_wrong_call_is_told_and_changes_nothing(engine: Engine, words: list[str], complaint: str) -> None:
    given_over_the_limit(engine)
    assert complaint in refused(ops(engine, "quarantine", *words))
    assert [row.ended_as for row in quarantined(engine)] == [None] * 3


def test_an_id_that_never_was_there_is_told(engine: Engine) -> None:
    assert "77 is not in quarantine" in refused(ops(engine, "quarantine", "retry", 77))
    assert "77 is not in quarantine" in refused(ops(engine, "quarantine", "drop", 77, "--because", "an experiment"))


def test_settlement_is_told_to_the_gate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the order above: without it, the sold units would come back on sale."""
    placed, product = order_in_quarantine(engine)
    (row,) = quarantined(engine)
    told: list[Settlement] = []
    monkeypatch.setattr(quarantine, "end_holds", lambda _engine, settlement: told.append(settlement))
    retry_quarantined(engine, row.id)
    assert [len(settlement.sold) for settlement in told] == [1]
    # The hold is still there: the sweeper ends it as the ledger says.
    overdue(engine)
    assert sweep_holds(engine, 0) == 1
    assert available(engine, product) == 8
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert recorded(engine, 1) == []
