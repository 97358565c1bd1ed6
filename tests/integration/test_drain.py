"""The drain: decisions reach the ledger once, in order, and no decision falls between the last look and the bell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from statistics import median

import pytest

from engine.context import Engine
from engine.flow import drain as drain_module
from engine.flow.drain import DrainReport, drain, drain_batch
from engine.gate import keys, outbox
from engine.gate.gate import Gate
from engine.outcomes import RequestStatus
from tests.integration.offers import (
    assert_recorded_once,
    forget_rings,
    lane_of,
    last_recorded_number,
    offer,
    recorded,
    rings,
    state,
    waiting,
    win,
    win_all,
)
from tests.stack.stack_driver import wait_until


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "BATCH_LIMIT", 10)


def test_what_was_decided_is_recorded_and_leaves_the_outbox(engine: Engine) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 26))
    assert state(engine, wins[0].request_id).status is RequestStatus.PENDING
    report = drain(engine, 0, linger_seconds=0)
    assert (report.recorded, report.quarantined, report.more, report.leased_elsewhere) == (25, 0, False, False)
    assert_recorded_once(engine, coupon, wins)
    assert waiting(engine) == 0
    assert last_recorded_number(engine) == 25
    assert {state(engine, each.request_id).status for each in wins} == {RequestStatus.COMPLETED}
    assert not engine.gate.client.exists(keys.bell(0), keys.lease(0))


def test_an_empty_outbox_is_left_as_it_is(engine: Engine) -> None:
    report = drain(engine, 0, linger_seconds=0)
    assert (report.recorded, report.batches, report.more) == (0, 0, False)
    assert last_recorded_number(engine) == 0


def test_a_long_outbox_is_drained_in_bounded_batches(engine: Engine, small_batches: None) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 36))
    report = drain(engine, 0, linger_seconds=0.05)
    assert (report.recorded, report.batches) == (35, 4)
    assert_recorded_once(engine, coupon, wins)


@pytest.mark.parametrize("lanes", [16])
def test_each_lane_is_drained_by_itself(engine: Engine) -> None:
    coupons = [offer(engine) for _ in range(8)]
    wins = {coupon: win_all(engine, coupon, range(1, 4)) for coupon in coupons}
    busy = {lane_of(engine, coupon) for coupon in coupons}
    assert len(busy) > 1
    for lane in sorted(busy):
        mine = [coupon for coupon in coupons if lane_of(engine, coupon) == lane]
        assert drain(engine, lane, linger_seconds=0).recorded == 3 * len(mine)
        assert last_recorded_number(engine, lane) == 3 * len(mine)
        for coupon in mine:
            assert_recorded_once(engine, coupon, wins[coupon])
    assert sum(waiting(engine, lane) for lane in range(16)) == 0


def test_a_drain_goes_away_while_another_has_the_lease(engine: Engine) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, [1])
    other = outbox.Lease(engine.gate, 0)
    assert other.take()
    report = drain(engine, 0, linger_seconds=0)
    assert report.leased_elsewhere
    assert recorded(engine, coupon) == []
    assert outbox.is_leased(engine.gate, 0)
    other.release()
    assert drain(engine, 0, linger_seconds=0).recorded == 1
    assert_recorded_once(engine, coupon, wins)


def test_a_lease_lost_in_the_middle_costs_nothing(
    engine: Engine, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 26))
    other = outbox.Lease(engine.gate, 0)
    read_head = outbox.read_head

    def lose_the_lease(gate: Gate, lane: int, limit: int) -> list[outbox.Entry]:
        if not recorded(engine, coupon):
            gate.client.delete(keys.lease(lane))  # as if this drain had been stopped for longer than the lease
            assert other.take()
        return read_head(gate, lane, limit)

    monkeypatch.setattr(outbox, "read_head", lose_the_lease)
    report = drain(engine, 0, linger_seconds=0.05)
    assert report.recorded == 10
    assert outbox.is_leased(engine.gate, 0)  # the other's was not given up
    assert waiting(engine) == 15
    other.release()
    assert drain(engine, 0, linger_seconds=0.05).recorded == 15
    assert_recorded_once(engine, coupon, wins)


@pytest.mark.parametrize("reason", ["leave early", "slice over"])
def test_a_drain_that_has_to_leave_looks_once_more_and_says_what_it_leaves(
    engine: Engine, small_batches: None, reason: str
) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 36))
    forget_rings(engine)
    slice_seconds = 0 if reason == "slice over" else 20
    report = drain(engine, 0, slice_seconds=slice_seconds, leave_early=lambda: reason == "leave early")
    assert (report.recorded, report.more) == (20, True)
    assert waiting(engine) == 15
    assert not engine.gate.client.exists(keys.bell(0), keys.lease(0))
    wins.append(win(engine, coupon, 36))
    assert len(rings(engine)) == 1  # the bell is free for the next decision
    assert drain(engine, 0, linger_seconds=0.05).recorded == 16
    assert_recorded_once(engine, coupon, wins)


def test_a_drain_that_leaves_early_with_nothing_left_says_so(engine: Engine) -> None:
    wins = win_all(engine, coupon := offer(engine), [1, 2])
    report = drain(engine, 0, leave_early=lambda: True)
    assert (report.recorded, report.more) == (2, False)
    assert_recorded_once(engine, coupon, wins)


def test_a_drain_that_lingers_takes_what_comes_without_a_ring(engine: Engine) -> None:
    coupon = offer(engine)
    wins = [win(engine, coupon, 1)]
    forget_rings(engine)
    leave = threading.Event()
    reports: list[DrainReport] = []
    lingering = threading.Thread(
        target=lambda: reports.append(drain(engine, 0, linger_seconds=60, leave_early=leave.is_set))
    )
    lingering.start()
    try:
        for user_id in range(2, 6):
            wait_until(lambda: waiting(engine) == 0, "the drain took what was there")
            wins.append(win(engine, coupon, user_id))
        wait_until(lambda: len(recorded(engine, coupon)) == 5, "the drain took the last one")
        assert rings(engine) == []
    finally:
        leave.set()
        lingering.join(10)
    assert reports[0].recorded == 5
    assert_recorded_once(engine, coupon, wins)


def test_a_decision_is_in_the_ledger_within_a_second_while_a_drain_lingers(engine: Engine) -> None:
    """The lag that is usual, of eleven: a machine that stops for a moment is no fault of the drain."""
    coupon = offer(engine)
    leave = threading.Event()
    lingering = threading.Thread(target=lambda: drain(engine, 0, linger_seconds=60, leave_early=leave.is_set))
    lingering.start()
    lags = []
    try:
        for user_id in range(1, 12):
            won = win(engine, coupon, user_id)
            decided = time.monotonic()
            wait_until(lambda won=won: len(recorded(engine, coupon)) == won.sequence, "the win was recorded")
            lags.append(time.monotonic() - decided)
    finally:
        leave.set()
        lingering.join(10)
    assert median(lags) < 1, lags


def test_a_decision_around_the_last_look_rings_or_is_seen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions just before and just after the bell is disarmed, the only moments in question."""
    coupon = offer(engine)
    wins = [win(engine, coupon, 1)]
    forget_rings(engine)
    heard: list[int] = []
    disarm_bell: Callable[[Gate, Iterable[int]], None] = outbox.disarm_bell

    def decide_around(gate: Gate, lanes: Iterable[int]) -> None:
        if len(wins) == 1:
            wins.append(win(engine, coupon, 2))
            heard.append(len(rings(engine)))
            disarm_bell(gate, lanes)
            wins.append(win(engine, coupon, 3))
            heard.append(len(rings(engine)))
        else:
            disarm_bell(gate, lanes)

    monkeypatch.setattr(outbox, "disarm_bell", decide_around)
    report = drain(engine, 0, linger_seconds=0)
    assert heard == [0, 1]  # before it nobody is told, so the last look has to see it; after it somebody is
    assert report.recorded == 3
    assert_recorded_once(engine, coupon, wins)


def test_a_decision_after_the_last_look_rings(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    coupon = offer(engine)
    win(engine, coupon, 1)
    forget_rings(engine)
    read_head = outbox.read_head

    def decide_after(gate: Gate, lane: int, limit: int) -> list[outbox.Entry]:
        entries = read_head(gate, lane, limit)
        if not entries:
            win(engine, coupon, 2)
        return entries

    monkeypatch.setattr(outbox, "read_head", decide_after)
    assert drain(engine, 0, linger_seconds=0).recorded == 1
    assert waiting(engine) == 1
    assert len(rings(engine)) == 1


def test_looking_before_disarming_would_leave_a_decision_that_nobody_was_told_of(engine: Engine) -> None:
    """The wrong order, step by step: this is what the two tests above would notice."""
    coupon = offer(engine)
    outbox.arm_bell(engine.gate, 0)
    assert drain_batch(engine, DrainReport(0)) == 0
    win(engine, coupon, 1)
    outbox.disarm_bell(engine.gate, [0])
    assert waiting(engine) == 1
    assert rings(engine) == []
