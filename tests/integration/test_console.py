"""What the console shows, against what is there; and what it costs to look."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable, LedgerUnavailable
from engine.gate import console as gate_console
from engine.gate import keys, refusals
from engine.gate.heartbeat import FORGOTTEN_SECONDS, Pulse
from engine.ledger import console as ledger_console
from engine.upkeep import console
from engine.upkeep.console import Console, look_at
from engine.upkeep.guard import watch_lanes
from tests.conftest import EngineMaker
from tests.integration.offers import offer, win, win_all
from tests.integration.shop import drain_all
from tests.stack.stack_driver import wait_until


@pytest.fixture(params=[1, 4])
def lanes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_a_look_shows_decided_and_recorded_remaining_and_pending(engine: Engine) -> None:
    coupon_id = offer(engine, total=10)
    win_all(engine, coupon_id, range(1, 6))
    drain_all(engine)
    win_all(engine, coupon_id, range(6, 9))
    look = look_at(engine)
    assert (look.decided, look.recorded) == (8, 5)
    assert sum(lane.backlog for lane in look.lanes) == 3
    (coupon,) = look.coupons
    assert (coupon.issued, coupon.remaining, coupon.pending) == (8, 2, 3)
    assert look.ready


def test_the_newest_winners_come_first_and_each_once(engine: Engine) -> None:
    coupon_id = offer(engine)
    win_all(engine, coupon_id, range(1, 4))
    drain_all(engine)
    win_all(engine, coupon_id, range(4, 6))
    seen = [(winner.sequence, winner.user_id, winner.durable) for winner in look_at(engine).winners]
    assert seen == [(5, 5, False), (4, 4, False), (3, 3, True), (2, 2, True), (1, 1, True)]


def test_a_spoilt_entry_is_not_stumbled_over(engine: Engine) -> None:
    coupon_id = offer(engine)
    win(engine, coupon_id, 1)
    engine.gate.client.xadd(keys.outbox(0), {"kind": "coupon_issue", "user_id": "nobody"}, id="9-9")
    assert [winner.user_id for winner in look_at(engine).winners] == [1]


def test_refusals_add_up(engine: Engine) -> None:
    # Reasons of this test's own: the web of an earlier test may tell what it has tallied only now.
    refusals.add_refusals(engine.gate, {"ONE:REASON": 3, "ANOTHER": 1})
    refusals.add_refusals(engine.gate, {"ONE:REASON": 2})
    told = look_at(engine).refusals
    assert (told["ONE:REASON"], told["ANOTHER"]) == (5, 1)


def test_a_process_is_seen_while_its_heart_beats_then_silent_then_forgotten(engine: Engine) -> None:
    pulse = Pulse(engine.gate, "web").start()
    wait_until(lambda: look_at(engine).processes, "the process is seen")
    (process,) = look_at(engine).processes
    assert (process.kind, process.alive) == ("web", True)
    pulse.stop()
    assert look_at(engine).processes == []
    engine.gate.client.zincrby(keys.processes(), 1.0, "drain elsewhere:1")
    assert [seen.alive for seen in look_at(engine).processes] == [False]
    other = Pulse(engine.gate, "web").start()
    wait_until(
        lambda: [seen.kind for seen in look_at(engine).processes] == ["web"], f"gone after {FORGOTTEN_SECONDS} s"
    )
    other.stop()


def test_a_lane_that_is_not_built_is_shown_closed_and_counts_nobody_knows_are_none(make_engine: EngineMaker) -> None:
    look = look_at(make_engine())
    assert not look.ready
    assert look.decided is None
    assert look.recorded == 0


def test_an_outage_is_something_to_see(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    coupon_id = offer(engine, total=10)
    win_all(engine, coupon_id, range(1, 4))
    drain_all(engine)

    def gate_away(*_: object) -> None:
        raise GateUnavailable("away")

    def ledger_away(*_: object) -> None:
        raise LedgerUnavailable("away")

    with monkeypatch.context() as away:
        away.setattr(gate_console, "look", gate_away)
        look = look_at(engine)
        assert (look.gate_answers, look.ready, look.decided, look.recorded) == (False, False, None, 3)
        assert look.coupons[0].issued == 3
    with monkeypatch.context() as away:
        away.setattr(ledger_console, "look", ledger_away)
        look = look_at(engine)
        assert (look.ledger_answers, look.ready, look.decided, look.recorded) == (False, True, 3, None)


def test_however_many_look_the_stores_are_asked_once_per_half_second(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    everybody = threading.Barrier(8)

    def counted(engine: Engine) -> console.Look:
        asked.append(1)
        return look_at(engine)

    monkeypatch.setattr(console, "look_at", counted)
    now = [100.0]
    shared = Console(engine, clock=lambda: now[0])

    def look(_: int) -> console.Look:
        everybody.wait(10)
        return shared.look()

    with ThreadPoolExecutor(8) as crowd:
        list(crowd.map(look, range(8)))
        now[0] += 0.49
        list(crowd.map(look, range(8)))
    assert len(asked) == 1
    now[0] += 0.02
    shared.look()
    assert len(asked) == 2


def test_a_look_at_the_gate_takes_two_round_trips_however_much_there_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        offer(engine)
    watch_lanes(engine)
    look_at(engine)
    pool = engine.gate.client.connection_pool
    calls = []

    def count(name: str) -> None:
        original = getattr(pool, name)

        def counted(*arguments: object, **options: object) -> object:
            calls.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(pool, name, counted)

    # Counted at the client: the server's own count is of everybody who works with it, tests beside this one, too.
    count("get_connection")
    count("make_connection")
    look_at(engine)
    assert calls == ["get_connection"] * 2
