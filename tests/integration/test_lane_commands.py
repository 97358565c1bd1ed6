"""``python -m ops drain``, ``rebuild`` and ``relane``: lanes emptied, built anew, renumbered; whoever sleeps loses."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import LaneCountMismatch
from engine.flow.followups import work_off
from engine.flow.holds import sweep_holds
from engine.gate import keys, outbox, stock
from engine.gate.building import LaneBuild, Superseded
from engine.gate.gate import Gate
from engine.gate.heartbeat import Pulse
from engine.gate.lanes import close_lane
from engine.ledger import progress
from engine.ledger.followups import FollowupKind
from engine.outcomes import Refused, RequestStatus
from engine.shop.cancellation import cancel_order
from engine.upkeep import relane as relane_module
from engine.upkeep.guard import Verdict, watch_lanes
from engine.upkeep.relane import relane
from tests.conftest import EngineMaker
from tests.integration.command_line import done, ops, refused
from tests.integration.offers import assert_recorded_once, lane_of, offer, state, waiting, win, win_all
from tests.integration.placed_orders import execute, rows, without_redis
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
from tests.integration.sleeping import sleeps_before
from tests.stack.stack_driver import wait_until


@pytest.fixture
def lanes() -> int:
    return 2


# -- drain


def test_the_outboxes_are_emptied_into_the_ledger(engine: Engine) -> None:
    coupons = [offer(engine) for _ in range(4)]
    wins = {coupon: win_all(engine, coupon, range(1, 11)) for coupon in coupons}
    assert sum(waiting(engine, lane) for lane in range(2)) == 40
    assert done(ops(engine, "drain")) == "40 waited, 40 were recorded here, 0 are left\n"
    for coupon in coupons:
        assert_recorded_once(engine, coupon, wins[coupon])
    assert json.loads(done(ops(engine, "drain", "--json"))) == {
        "recorded": 0, "quarantined": 0, "forgotten": 0, "left": 0, "unavailable": {}
    }  # fmt: skip


def test_what_a_worker_is_at_is_waited_for_and_left_when_the_patience_is_over(engine: Engine) -> None:
    coupon = offer(engine)
    wins = win_all(engine, coupon, range(1, 4))
    lease = outbox.Lease(engine.gate, lane_of(engine, coupon))
    assert lease.take()
    result = ops(engine, "drain", "--patience", "0.2")
    assert (result.exit_code, result.stdout) == (1, "3 waited, 0 were recorded here, 3 are left\n")
    lease.release()
    # On a slow machine the first command's thread, which outlives it in this process alone, may be the one to record.
    assert done(ops(engine, "drain")).endswith(", 0 are left\n")
    assert_recorded_once(engine, coupon, wins)


def test_what_goes_into_quarantine_is_told(engine: Engine) -> None:
    coupon = offer(engine, total=1)
    lane = lane_of(engine, coupon)
    engine.gate.client.hset(keys.coupon(lane, coupon), "total", "2")
    win_all(engine, coupon, [1, 2])
    result = ops(engine, "drain")
    assert (result.exit_code, result.stdout) == (
        1, "2 waited, 1 were recorded here, 0 are left, 1 went into quarantine\n"
    )  # fmt: skip


def test_a_gate_that_is_away_is_told(engine: Engine) -> None:
    away = without_redis(engine)
    assert "gate unavailable" in refused(ops(away, "drain"))
    away.close()


# -- rebuild


def test_lanes_are_built_anew_and_go_on_where_they_were(engine: Engine) -> None:
    coupons = [offer(engine) for _ in range(4)]
    wins = {coupon: win_all(engine, coupon, [1, 2]) for coupon in coupons}
    for coupon in coupons:
        engine.gate.client.delete(keys.winners(lane_of(engine, coupon), coupon))
    assert done(ops(engine, "rebuild", "--yes")) == "2 of 2 lanes were built and opened\n"
    for coupon in coupons:
        wins[coupon].append(win(engine, coupon, 3))
    drain_all(engine)
    for coupon in coupons:
        assert_recorded_once(engine, coupon, wins[coupon])
    assert set(watch_lanes(engine).values()) == {Verdict.READY}


def test_only_the_lane_that_is_named_is_built(engine: Engine) -> None:
    before = [engine.gate.inspect(lane).epoch for lane in range(2)]
    assert json.loads(done(ops(engine, "rebuild", "--lane", 1, "--yes", "--json"))) == {"built": [1], "failed": {}}
    after = [engine.gate.inspect(lane).epoch for lane in range(2)]
    assert before[0] == after[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_without_a_yes_nothing_is_rebuilt(engine: Engine, answer: str) -> None:
    before = engine.gate.inspect_all()
    assert "nothing was changed" in refused(ops(engine, "rebuild", stdin=answer))
    assert engine.gate.inspect_all() == before


@pytest.mark.parametrize("lane", ["2", "-1", "x"])
def test_a_lane_that_is_none_is_told(engine: Engine, lane: str) -> None:
    before = engine.gate.inspect_all()
    assert "--lane" in refused(ops(engine, "rebuild", "--yes", "--lane", lane))
    assert engine.gate.inspect_all() == before


def test_a_rebuild_that_was_overtaken_is_told_and_the_others_are_done(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = progress.begin_epoch
    monkeypatch.setattr(
        progress, "begin_epoch", lambda connection, lane, **named: (lane and begin(connection, lane, **named)) or None
    )
    result = ops(engine, "rebuild", "--yes")
    assert (result.exit_code, result.stdout) == (1, "1 of 2 lanes were built and opened\n")
    assert "lane 0 was not built" in result.stderr
    monkeypatch.undo()
    assert watch_lanes(engine) == {0: Verdict.REBUILD, 1: Verdict.READY}


# -- relane


def test_the_number_of_lanes_is_changed_and_everything_kept(engine: Engine, make_engine: EngineMaker) -> None:
    add_user(engine, 1, 100_000)
    coupon = offer(engine)
    products = [add_product(engine, 1_000, 10) for _ in range(4)]
    wins = win_all(engine, coupon, range(1, 6))
    bought = order(engine, 1, dict.fromkeys(products, 2))
    assert done(ops(engine, "relane", 5)) == "2 lanes became 5. Start everything with LANES=5\n"
    assert waiting(engine, 0) + waiting(engine, 1) == 0
    assert rows(engine, "SELECT value FROM engine_settings WHERE name = 'lanes'") == [("5",)]
    other = make_engine(lanes=5)
    assert set(watch_lanes(other).values()) == {Verdict.REBUILD}
    wins.append(win(other, coupon, 6))
    drain_all(other)
    assert_recorded_once(other, coupon, wins)
    assert state_of(other, bought).status is RequestStatus.COMPLETED
    assert [available(other, product) for product in products] == [8] * 4
    assert_conserved(other)
    assert done(ops(other, "relane", 5)) == "5 lanes became 5. Start everything with LANES=5\n"


def test_while_somebody_is_at_work_it_is_refused(engine: Engine) -> None:
    pulse = Pulse(engine.gate, "web").start()
    wait_until(lambda: engine.gate.client.zcard(keys.processes()), "the process is heard")
    before = engine.gate.inspect_all()
    try:
        complaint = refused(ops(engine, "relane", 5))
    finally:
        pulse.stop()
    assert "nothing was changed: these are at work" in complaint
    assert "web" in complaint
    assert engine.gate.inspect_all() == before
    assert rows(engine, "SELECT value FROM engine_settings WHERE name = 'lanes'") == [("2",)]


def test_a_process_that_fell_silent_long_ago_does_not_count(engine: Engine) -> None:
    engine.gate.client.zadd(keys.processes(), {"web gone:1": time.time() - 30})
    done(ops(engine, "relane", 3))


def relaned(engine: Engine, make_engine: EngineMaker, number: int) -> Engine:
    """An engine of the new number of lanes, which are open; the other one did not hear of it."""
    done(ops(engine, "relane", number))
    other = make_engine(lanes=number)
    watch_lanes(other)
    return other


def test_a_worker_that_slept_through_it_returns_no_units_to_where_they_were(
    engine: Engine, make_engine: EngineMaker
) -> None:
    add_user(engine, 1, 50_000)
    products = [add_product(engine, 1_000, 10) for _ in range(8)]
    bought = order(engine, 1, dict.fromkeys(products, 2))
    drain_all(engine)
    other = relaned(engine, make_engine, 5)
    result = state_of(other, bought).result
    assert result is not None
    assert not isinstance(cancel_order(other, result["orderId"], user_id=1, idempotency_key=None), Refused)
    assert FollowupKind.RETURN_STOCK not in work_off(engine).done
    known = {f"sc:{{{stock.lane_of_product(other.gate, product)}}}:sku:{product}" for product in products}
    assert {str(key) for key in other.gate.client.scan_iter("sc:*:sku:*")} == known
    execute(other, "UPDATE order_followups SET due_at = now() WHERE status = 'PENDING'")
    assert work_off(other).done[FollowupKind.RETURN_STOCK] == 1
    assert [available(other, product) for product in products] == [10] * 8
    assert_conserved(other)


def test_a_guard_of_fewer_lanes_says_so_although_those_it_knows_are_well(
    engine: Engine, make_engine: EngineMaker
) -> None:
    relaned(engine, make_engine, 5)
    with pytest.raises(LaneCountMismatch, match="5"):
        watch_lanes(engine)


def test_a_sweeper_of_fewer_lanes_ends_no_hold_of_an_order_that_waits_in_a_lane_it_does_not_know(
    engine: Engine, make_engine: EngineMaker
) -> None:
    other = relaned(engine, make_engine, 5)
    user, products = add_user(other, 1, 50_000), [add_product(other, 1_000, 10) for _ in range(8)]
    placed = order(other, user, dict.fromkeys(products, 2))
    overdue(other)
    for lane in range(2):
        with pytest.raises(LaneCountMismatch):
            sweep_holds(engine, lane)
    drain_all(other)
    assert state_of(other, placed).status is RequestStatus.COMPLETED
    assert [available(other, product) for product in products] == [8] * 8
    assert_conserved(other)


def test_what_was_forgotten_in_a_lane_that_is_no_more_stays_failed(engine: Engine, make_engine: EngineMaker) -> None:
    coupon = next(each for each in (offer(engine) for _ in range(20)) if lane_of(engine, each) == 1)
    won = win(engine, coupon, 1)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    told = state(engine, won.request_id)
    assert told.status is RequestStatus.FAILED
    assert state(relaned(engine, make_engine, 1), won.request_id) == told


@pytest.mark.parametrize("number", ["0", "-1", "1025", "many", "1.0"])
def test_a_number_that_is_none_is_told(engine: Engine, number: str) -> None:
    refused(ops(engine, "relane", "--", number))
    assert rows(engine, "SELECT value FROM engine_settings WHERE name = 'lanes'") == [("2",)]


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (relane_module, "close_lane"),
        (relane_module, "drain_batch"),
        (relane_module, "_take"),
        (progress, "begin_epoch"),
        (LaneBuild, "begin"),
        (LaneBuild, "forget_holds"),
        (LaneBuild, "forget_entities"),
        (relane_module, "_change_number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_relane_that_slept_while_the_lanes_went_on_takes_nothing_from_them(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    """The guard of a process that should have been stopped opens the lanes again, and people win."""
    coupon = offer(engine, total=10)
    wins = win_all(engine, coupon, [1, 2, 3])
    wanted = make_engine(lanes=5)

    def meanwhile() -> None:
        watch_lanes(engine)
        wins.append(win(engine, coupon, 4))

    slept = sleeps_before(monkeypatch, where, name, meanwhile)
    try:
        relane(wanted, 2)
        changed = True
    except Superseded:
        changed = False
    assert slept()
    monkeypatch.undo()
    holder = wanted if changed else engine
    watch_lanes(holder)
    wins.append(win(holder, coupon, 5))
    drain_all(holder)
    assert_recorded_once(holder, coupon, wins)
    assert [each.sequence for each in wins] == list(range(1, len(wins) + 1))


def test_without_the_token_a_relane_that_slept_would_have_a_coupon_given_twice(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: keys are dropped whoever has opened the lane since."""
    coupon = offer(engine, total=10)
    win_all(engine, coupon, [1, 2, 3])

    def drop(build: LaneBuild, entity_keys: list[str]) -> None:
        watch_lanes(engine)
        for key in entity_keys:
            engine.gate.client.delete(key)

    monkeypatch.setattr(LaneBuild, "forget_entities", drop)
    with pytest.raises(Superseded):
        relane(make_engine(lanes=5), 2)
    assert engine.gate.inspect(lane_of(engine, coupon)).open
    assert not engine.gate.client.exists(keys.coupon(lane_of(engine, coupon), coupon))


def test_a_closed_lane_of_before_is_taken_on_as_well(engine: Engine, make_engine: EngineMaker) -> None:
    close_lane(engine.gate, engine.gate.inspect(1))
    relane(make_engine(lanes=3), 2)
    old = Gate(engine.gate.client, 2, 10)
    assert [old.inspect(lane).open for lane in range(2)] == [False, False]
