"""Everybody may sleep for a minute at any line while all others go on: who wakes changes nothing that is newer.

Each test stops somebody between two steps, lets the world go on, and wakes them. What was promised after the reopening
stays; what was only in the memory that Redis lost ends FAILED.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.flow import drain as drain_module
from engine.flow import followups
from engine.flow import holds as holds_module
from engine.flow.drain import DrainReport
from engine.flow.requests import request_state
from engine.gate import keys, outbox, stock
from engine.gate.building import LaneBuild, Superseded
from engine.gate.gate import Gate
from engine.gate.lanes import close_lane
from engine.ledger import coupons as ledger_coupons
from engine.ledger import progress
from engine.outcomes import Refusal, RequestState, RequestStatus, Submitted
from engine.shop import coupon_offers
from engine.shop.cancellation import cancel_order
from engine.shop.coupon_offers import CouponChange
from engine.upkeep import guard, rebuild
from engine.upkeep.guard import Verdict, watch_lanes
from tests.conftest import EngineMaker
from tests.integration.copies import forget_all_since, raw_copy
from tests.integration.offers import offer, quarantined, recorded, win, win_all
from tests.integration.shop import (
    add_product,
    add_user,
    assert_conserved,
    available,
    drain_all,
    holds,
    order,
    overdue,
    state_of,
)
from tests.integration.sleeping import sleeps_before


def status(engine: Engine, request_id: str) -> RequestStatus:
    state = request_state(engine, request_id)
    assert isinstance(state, RequestState), state
    return state.status


def record_late(engine: Engine, entries: list[outbox.Entry], lane: int = 0) -> DrainReport:
    """What a drain does that has read these entries, slept, and wakes now."""
    report = DrainReport(lane)
    drain_module._record(engine, report, entries)
    outbox.remove(engine.gate, lane, entries)
    return report


# -- a drain that sleeps


def test_a_drain_that_slept_through_a_rebuild_records_nothing_of_what_was_forgotten(engine: Engine) -> None:
    coupon = offer(engine, total=5)
    before = win_all(engine, coupon, range(1, 6))
    entries = outbox.read_head(engine.gate, 0, 100)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    after = win_all(engine, coupon, range(11, 16))
    report = record_late(engine, entries)
    assert (report.recorded, report.forgotten, report.quarantined) == (0, 5, 0)
    drain_all(engine)
    assert [row[0] for row in recorded(engine, coupon)] == [11, 12, 13, 14, 15]
    assert {status(engine, each.request_id) for each in after} == {RequestStatus.COMPLETED}
    assert {status(engine, each.request_id) for each in before} == {RequestStatus.FAILED}
    assert quarantined(engine) == []


def test_without_the_fence_the_newer_promise_would_be_taken_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: constraints alone punish whoever comes second, and that is the newer one."""
    monkeypatch.setattr(progress, "fence", lambda *_: progress.Fence())
    coupon = offer(engine, total=1)
    win(engine, coupon, 1)
    entries = outbox.read_head(engine.gate, 0, 100)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    newer = win(engine, coupon, 11)
    record_late(engine, entries)
    drain_all(engine)
    assert status(engine, newer.request_id) is RequestStatus.FAILED
    assert len(quarantined(engine)) == 1


def test_a_drain_that_slept_through_an_approval_records_what_the_server_still_had_and_no_more(
    engine: Engine, redis_url: str
) -> None:
    coupon = offer(engine, total=5)
    kept = win_all(engine, coupon, (1, 2, 3))
    copy = raw_copy(redis_url)
    lost = win_all(engine, coupon, (4, 5))
    entries = outbox.read_head(engine.gate, 0, 100)
    forget_all_since(redis_url, copy)
    assert watch_lanes(engine) == {0: Verdict.APPROVE}
    after = win_all(engine, coupon, (14, 15))
    report = record_late(engine, entries)
    assert (report.recorded, report.forgotten, report.quarantined) == (3, 2, 0)
    drain_all(engine)
    assert [row[0] for row in recorded(engine, coupon)] == [1, 2, 3, 14, 15]
    assert {status(engine, each.request_id) for each in (*kept, *after)} == {RequestStatus.COMPLETED}
    assert {status(engine, each.request_id) for each in lost} == {RequestStatus.FAILED}
    assert watch_lanes(engine) == {0: Verdict.READY}


def test_an_order_repeated_after_a_rebuild_is_not_failed_by_a_drain_that_slept(engine: Engine) -> None:
    """Both have one nonce: a row for the forgotten one, failed or not, would take the place of the newer one."""
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    first = order(engine, user, {product: 2}, key="k")
    entries = outbox.read_head(engine.gate, 0, 100)
    engine.gate.client.flushdb()
    watch_lanes(engine)
    again = order(engine, user, {product: 2}, key="k")
    assert isinstance(first, Submitted)
    assert isinstance(again, Submitted)
    assert again.request_id != first.request_id
    assert record_late(engine, entries).forgotten == 1
    drain_all(engine)
    assert state_of(engine, again).status is RequestStatus.COMPLETED
    assert (available(engine, product), holds(engine)) == (3, 0)
    assert_conserved(engine)


def test_a_forgotten_entry_that_would_be_a_fault_is_not_put_into_quarantine(engine: Engine) -> None:
    coupon = offer(engine, total=5)
    win(engine, coupon, 1)
    (entry,) = outbox.read_head(engine.gate, 0, 100)
    spoilt = replace(entry, fields={**entry.fields, "user_id": "-1"})
    engine.gate.client.flushdb()
    watch_lanes(engine)
    report = DrainReport(0)
    drain_module._quarantine(engine, report, spoilt, ValueError("spoilt"))
    assert (report.quarantined, report.forgotten, quarantined(engine)) == (0, 1, [])
    assert watch_lanes(engine) == {0: Verdict.READY}  # the ledger did not run ahead of the gate either


def test_a_settlement_that_slept_through_a_rebuild_ends_no_hold_of_the_lanes_next_life(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    first = order(engine, user, {product: 2}, key="k")
    assert isinstance(first, Submitted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drain_module, "end_holds", lambda *_: None)  # it sleeps between its commit and this
        drain_all(engine)
    nonce = first.request_id.rsplit(".", 1)[1]
    engine.gate.client.flushdb()
    watch_lanes(engine)
    order(engine, user, {product: 2}, key="k")  # repeated: held anew under the same nonce, to be given back
    stock.settle(engine.gate, 0, 1, [nonce])
    assert not stock.release(engine.gate, 0, 1, nonce, [product], deadline_ms=0)
    assert holds(engine) == 1
    drain_all(engine)
    assert (available(engine, product), holds(engine)) == (3, 0)
    assert_conserved(engine)


@pytest.mark.parametrize("lanes", [4])
def test_a_sweeper_does_not_believe_a_lane_that_came_back_empty_and_that_nobody_has_looked_at(engine: Engine) -> None:
    """It knows of no order; a drain that sleeps does, and nothing is in its way yet."""
    user, products = add_user(engine, 1, 10_000), [add_product(engine, 10, 5) for _ in range(8)]
    placed = order(engine, user, dict.fromkeys(products, 1))
    *others, last = sorted({stock.lane_of_product(engine.gate, product) for product in products})
    entries = outbox.read_head(engine.gate, last, 100)
    client: Any = engine.gate.client
    client.delete(*client.keys(f"sc:{{{last}}}:*"))
    overdue(engine)
    assert [holds_module.sweep_holds(engine, lane) for lane in others] == [0] * len(others)
    record_late(engine, entries, last)
    watch_lanes(engine)
    for lane in others:
        holds_module.sweep_holds(engine, lane)
    assert state_of(engine, placed).status is RequestStatus.COMPLETED
    assert [available(engine, product) for product in products] == [4] * 8
    assert_conserved(engine)


# -- a rebuild that sleeps


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (rebuild, "close_lane"),
        (rebuild, "_drain_outbox"),
        (progress, "begin_epoch"),
        (LaneBuild, "begin"),
        (LaneBuild, "forget_holds"),
        (LaneBuild, "add_coupon"),
        (LaneBuild, "add_winners"),
        (LaneBuild, "add_product"),
        (LaneBuild, "mark_returned"),
        (LaneBuild, "open"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rebuild_that_slept_anywhere_writes_nothing_into_a_lane_that_sells(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    coupon, user = offer(engine, total=6), add_user(engine, 1, 1_000)
    product = add_product(engine, 100, 5)
    win_all(engine, coupon, (1, 2, 3))
    drain_all(engine)
    other, promised = make_engine(), []
    behind = {"last_number": "0"}  # so that the guard wants to rebuild a lane that is open
    engine.gate.client.hset(keys.lane(0), mapping=behind)

    def meanwhile() -> None:
        watch_lanes(other)
        promised.extend(win_all(other, coupon, (4, 5)))
        placed = order(other, user, {product: 2})
        assert isinstance(placed, Submitted)
        promised.append(placed)

    slept = sleeps_before(monkeypatch, where, name, meanwhile)
    with pytest.raises(GateUnavailable):
        watch_lanes(engine)
    assert slept()
    assert watch_lanes(other) == {0: Verdict.READY}
    promised.append(win(other, coupon, 6))
    assert available(other, product) == 3
    drain_all(other)
    assert {status(other, each.request_id) for each in promised} == {RequestStatus.COMPLETED}
    assert quarantined(other) == []
    assert_conserved(other)
    assert holds(other) == 0


def test_without_the_token_a_rebuild_that_slept_would_sell_again_what_is_sold(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the same sleep with a gate that does not look for the token."""
    run = Gate.run

    def run_without_token(gate: Gate, name: str, script_keys: Any, arguments: Any) -> Any:
        if name in ("build_coupon", "build_winners", "build_product"):
            gate.client.hset(script_keys[0], "building", arguments[0])
        return run(gate, name, script_keys, arguments)

    coupon = offer(engine, total=6)
    win_all(engine, coupon, (1, 2, 3))
    drain_all(engine)
    other = make_engine()
    engine.gate.client.flushdb()

    def meanwhile() -> None:
        watch_lanes(other)
        win_all(other, coupon, (4, 5, 6))

    sleeps_before(monkeypatch, LaneBuild, "add_coupon", meanwhile)
    monkeypatch.setattr(Gate, "run", run_without_token)
    watch_lanes(engine)
    monkeypatch.setattr(Gate, "run", run)
    assert engine.gate.client.hget(keys.coupon(0, coupon), "issued") == "3", "sold out, and yet three are left"
    assert not engine.gate.client.hexists(keys.winners(0, coupon), "4"), "this winner could win once more"


@pytest.mark.parametrize("name", ["begin_epoch", "approve_lane"])
def test_an_approval_that_slept_opens_no_lane_that_is_being_rebuilt(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    coupon = offer(engine, total=5)
    win_all(engine, coupon, (1, 2))
    drain_all(engine)
    other = make_engine()
    engine.gate.client.hset(keys.lane(0), "replid", "0" * 40)
    half_built: list[LaneBuild] = []

    def meanwhile() -> None:
        other.gate.client.flushdb()
        state = other.gate.inspect(0)
        claim = close_lane(other.gate, state)
        with other.ledger.transaction() as connection:
            known = progress.progress_of_lane(connection, 0)
            begun = progress.begin_epoch(connection, 0, examined=known, has=progress.Standing(0), rebuilt=True)
        assert begun is not None
        half_built.append(LaneBuild(other.gate, state, begun.epoch, claim))
        half_built[0].begin()

    slept = sleeps_before(monkeypatch, progress if name == "begin_epoch" else guard, name, meanwhile)
    with pytest.raises(GateUnavailable):
        watch_lanes(engine)
    assert slept()
    assert not engine.gate.inspect(0).open
    assert watch_lanes(other) == {0: Verdict.REBUILD}
    with pytest.raises(Superseded):
        half_built[0].add_winners(coupon, "1 1 r")
    assert win(other, coupon, 3).sequence == 3


# -- publications, returns, holds


def test_a_publication_that_slept_is_not_taken_for_known_by_a_server_that_came_back_without_it(
    engine: Engine, make_engine: EngineMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupon = offer(engine)
    copy = raw_copy(redis_url)

    def meanwhile() -> None:
        forget_all_since(redis_url, copy)
        assert watch_lanes(make_engine()) == {0: Verdict.APPROVE}

    slept = sleeps_before(monkeypatch, ledger_coupons, "mark_published", meanwhile)
    coupon_offers.change_coupon(engine, coupon, CouponChange(status="INACTIVE"))
    assert slept()
    assert engine.gate.client.hget(keys.coupon(0, coupon), "status") == "ACTIVE"
    assert coupon_offers.publish_changes(engine) == 1
    assert engine.gate.client.hget(keys.coupon(0, coupon), "status") == "INACTIVE"


def test_a_return_that_slept_through_a_rebuild_returns_nothing_twice(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    order(engine, user, {product: 2})
    drain_all(engine)
    with engine.ledger.read() as connection:
        order_id = int(connection.execute(text("SELECT id FROM orders")).scalar_one())
    cancel_order(engine, order_id, user_id=None, idempotency_key=None)
    other = make_engine()

    def meanwhile() -> None:
        with other.ledger.transaction() as connection:
            connection.execute(text("UPDATE order_followups SET due_at = now()"))  # its lease is over
        followups.work_off(other)
        other.gate.client.flushdb()
        watch_lanes(other)
        assert available(other, product) == 5

    slept = sleeps_before(monkeypatch, followups, "return_stock", meanwhile)
    followups.work_off(engine)
    assert slept()
    assert available(engine, product) == 5
    assert_conserved(engine)


def test_a_sweeper_that_slept_through_a_rebuild_expires_no_order_of_the_lanes_next_life(
    engine: Engine, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    placed = order(engine, user, {product: 2}, key="k")
    assert isinstance(placed, Submitted)
    engine.gate.client.xtrim(keys.outbox(0), maxlen=0)  # as if it had gone into quarantine: the hold is the sweeper's
    overdue(engine)
    other, again = make_engine(), []

    def meanwhile() -> None:
        other.gate.client.flushdb()
        watch_lanes(other)
        again.append(order(other, user, {product: 2}, key="k"))

    slept = sleeps_before(monkeypatch, holds_module.ledger_orders, "end_overdue", meanwhile)
    assert holds_module.sweep_holds(engine, 0) == 0
    assert slept()
    drain_all(engine)
    assert state_of(engine, again[0]).status is RequestStatus.COMPLETED
    assert (available(engine, product), holds(engine)) == (3, 0)


def test_an_overdue_hold_answers_no_repetition_until_it_has_ended(engine: Engine) -> None:
    user, product = add_user(engine, 1, 1_000), add_product(engine, 100, 5)
    placed = order(engine, user, {product: 2}, key="k")
    engine.gate.client.xtrim(keys.outbox(0), maxlen=0)
    overdue(engine)
    (claimed,) = stock.claim_overdue_holds(engine.gate, 0, 10)
    with pytest.raises(GateUnavailable):
        order(engine, user, {product: 2}, key="k")
    holds_module.sweep_holds(engine, 0)
    assert order(engine, user, {product: 2}, key="k") == placed
    assert claimed.product_ids == (product,)
    assert (available(engine, product), holds(engine)) == (5, 0)
    state = state_of(engine, placed)
    assert state.error is not None
    assert state.error.code is Refusal.TEMPORARY_ERROR
