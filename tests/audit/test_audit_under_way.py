"""What is only under way is not off; it is once it stands still. What cannot be seen is neither, and said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from engine.context import Engine
from engine.errors import GateUnavailable, LedgerUnavailable
from engine.flow import drain as drain_module
from engine.flow import followups
from engine.gate import keys, pictures, stock
from engine.gate.gate import Gate
from engine.ledger import followups as ledger_followups
from engine.shop import coupon_offers, product_offers
from engine.shop.coupon_offers import CouponChange
from engine.shop.product_offers import ProductChange
from engine.upkeep import audit as audit_module
from engine.upkeep.audit import RegularAudit, Report, audit
from engine.upkeep.auditing.findings import CheckName
from engine.upkeep.guard import watch_lanes
from scheduler import jobs
from tests.audit.audited_shop import QUICK, Shop, cancel, found_off, leave_under_way, open_shop
from tests.integration.placed_orders import execute, without_ledger, without_redis
from tests.integration.products_on_sale import in_one_lane_and_in_several
from tests.integration.shop import drain_all, order, overdue
from tests.integration.stock_driver import reserve

LATER_SECONDS = 3600
"""Longer than anything may last, and than any audit of a test keeps the next one from coming."""


class Dies(Exception):
    """A process dies here."""


def dies(*_: Any, **__: Any) -> None:
    raise Dies


class Clock:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def regular(clock: Clock) -> RegularAudit:
    return RegularAudit(clock=clock)


@pytest.fixture
def shop(engine: Engine) -> Shop:
    return open_shop(engine)


def off(report: Report | None) -> set[str]:
    assert report is not None
    return {check.name for check in report.off}


def assert_off_only_when_it_lasts(shop: Shop, regular: RegularAudit, clock: Clock, check: CheckName) -> None:
    assert off(regular.run(shop.engine)) == set()
    clock.now += LATER_SECONDS
    assert off(regular.run(shop.engine)) == {check}


# -- what a crash leaves behind


@in_one_lane_and_in_several
@pytest.mark.parametrize("place", ["end_holds", "removal"])
def test_a_drain_that_died_after_its_commit(
    shop: Shop, regular: RegularAudit, clock: Clock, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_under_way(shop)
    with monkeypatch.context() as patch:
        if place == "end_holds":
            patch.setattr(drain_module, "end_holds", dies)
        else:
            patch.setattr(drain_module.outbox, "remove", dies)
        for _ in range(shop.engine.gate.lanes):
            with pytest.raises(Dies):
                drain_all(shop.engine)
    assert_off_only_when_it_lasts(shop, regular, clock, CheckName.DRAINED)
    drain_all(shop.engine)
    clock.now += LATER_SECONDS
    assert off(regular.run(shop.engine)) == set()


@in_one_lane_and_in_several
def test_a_cancellation_whose_units_are_not_back(shop: Shop, regular: RegularAudit) -> None:
    cancel(shop.engine, shop.completed)
    assert off(regular.run(shop.engine)) == set()


@in_one_lane_and_in_several
def test_a_cancellation_whose_units_are_back_without_anybody_knowing(
    shop: Shop, regular: RegularAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel(shop.engine, shop.completed)
    with monkeypatch.context() as patch:
        patch.setattr(ledger_followups, "finish", dies)
        with pytest.raises(Dies):
            followups.work_off(shop.engine)
    assert off(regular.run(shop.engine)) == set()
    execute(
        shop.engine, "UPDATE order_followups SET status = 'PARKED' WHERE kind = 'RETURN_STOCK' AND status <> 'DONE'"
    )
    assert found_off(shop.engine).keys() == {CheckName.PARKED}


def test_an_order_that_was_cancelled_before_its_hold_had_ended(
    shop: Shop, regular: RegularAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.order_waiting()
    with monkeypatch.context() as patch:
        patch.setattr(drain_module, "end_holds", dies)
        with pytest.raises(Dies):
            drain_all(shop.engine)
    cancel(shop.engine, shop.scalar("SELECT max(id) FROM orders WHERE status = 'COMPLETED'"))
    assert off(regular.run(shop.engine)) == set()


@pytest.mark.parametrize("lanes", [4], ids=["four lanes"])
def test_overdue_holds_of_an_order_that_waits_in_another_lane(shop: Shop, regular: RegularAudit, clock: Clock) -> None:
    order(shop.engine, 1, dict.fromkeys(shop.products, 1))
    overdue(shop.engine)
    assert off(regular.run(shop.engine)) == set()
    clock.now += LATER_SECONDS
    assert off(regular.run(shop.engine)) == set()
    last = max(shop.lane_of(product) for product in shop.products)
    shop.gate.delete(keys.outbox(last))
    clock.now += LATER_SECONDS
    assert off(regular.run(shop.engine)) == {CheckName.DECISIONS}
    clock.now += LATER_SECONDS
    assert off(regular.run(shop.engine)) == {CheckName.DECISIONS, CheckName.HOLDS}


def test_a_sweeper_that_died_after_it_had_set_a_hold_aside(shop: Shop, regular: RegularAudit) -> None:
    assert reserve(shop.engine, {shop.products[0]: 1}, append=0)[0] == "reserved"
    overdue(shop.engine)
    assert len(stock.claim_overdue_holds(shop.engine.gate, 0, 10)) == 1
    assert off(regular.run(shop.engine)) == set()


def test_a_change_that_was_recorded_and_not_published(
    shop: Shop, regular: RegularAudit, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(product_offers, "_publish", dies)
        patch.setattr(coupon_offers, "_publish", dies)
        with pytest.raises(Dies):
            product_offers.change_product(shop.engine, shop.products[0], ProductChange(price=7, add_stock=50))
        with pytest.raises(Dies):
            coupon_offers.change_coupon(shop.engine, shop.coupon, CouponChange(add_quantity=5))
    assert_off_only_when_it_lasts(shop, regular, clock, CheckName.LIVE)
    coupon_offers.publish_changes(shop.engine)
    product_offers.publish_product_changes(shop.engine)
    clock.now += LATER_SECONDS
    assert off(regular.run(shop.engine)) == set()


def test_a_change_that_is_live_and_not_yet_known_to_be(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(product_offers.ledger_products, "mark_product_published", dies)
        with pytest.raises(Dies):
            product_offers.change_product(shop.engine, shop.products[0], ProductChange(price=7, add_stock=50))
    assert off(RegularAudit().run(shop.engine)) == set()


def test_a_coupon_stays_used_when_its_order_is_cancelled_after_its_time(shop: Shop) -> None:
    execute(
        shop.engine,
        "UPDATE coupons SET ends_at = now() - interval '1 minute' FROM user_coupons AS held "
        "WHERE held.id = :id AND coupons.id = held.coupon_id",
        id=shop.user_coupon,
    )
    cancel(shop.engine, shop.redeeming)
    assert shop.scalar("SELECT status FROM user_coupons WHERE id = :id", id=shop.user_coupon) == "USED"
    # The gate has other terms now, because the end was moved behind its back; the coupon itself is in order.
    assert found_off(shop.engine).keys() == {CheckName.COUPON_TERMS}


@in_one_lane_and_in_several
def test_a_gate_that_forgot_everything_is_in_order_again_when_it_was_rebuilt(shop: Shop) -> None:
    leave_under_way(shop)
    shop.gate.flushdb()
    watch_lanes(shop.engine)
    assert found_off(shop.engine) == {}


# -- what cannot be seen


def test_a_closed_lane_is_off_when_it_stays_closed(shop: Shop, regular: RegularAudit, clock: Clock) -> None:
    shop.gate.hset(keys.lane(0), "open", 0)
    first = regular.run(shop.engine)
    assert first is not None
    assert (first.off, first.complete) == ((), False)
    assert "not compared: product 1, 2, 3 and 5 more: lane 0 is not open" in str(first.body())
    clock.now += LATER_SECONDS
    assert off(regular.run(shop.engine)) == {CheckName.LANES}


def test_more_holds_than_one_picture_takes_are_said_to_be_uncompared(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_under_way(shop)
    monkeypatch.setattr(pictures, "HOLDS_PICTURED", 1)
    report = audit(shop.engine, QUICK)
    assert (report.off, report.complete) == ((), False)
    assert "2 holds are under way in lane 0" in str(report.body())


@pytest.mark.parametrize("lanes", [4], ids=["four lanes"])
def test_a_lane_that_does_not_answer_keeps_nobody_from_the_others(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    away = shop.lane_of(shop.products[1])
    assert away != shop.lane_of()
    _keep_from_answering(monkeypatch, lambda key: key.startswith(f"sc:{{{away}}}"))
    shop.gate.hincrby(shop.sku_key(), "available", 1)
    report = audit(shop.engine, QUICK)
    assert {check.name for check in report.off} == {CheckName.LANES, CheckName.STOCK}
    assert not report.complete
    assert f"lane {away} does not answer" in str(report.body())


@pytest.mark.parametrize("lanes", [1, 4], ids=["one lane", "four lanes"])
def test_without_any_lane_there_is_no_report(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _keep_from_answering(monkeypatch, lambda _key: True)
    with pytest.raises(GateUnavailable):
        audit(shop.engine, QUICK)


def test_without_a_store_there_is_no_report(shop: Shop) -> None:
    for lacking, error in (
        (without_redis(shop.engine), GateUnavailable),
        (without_ledger(shop.engine), LedgerUnavailable),
    ):
        with pytest.raises(error):
            audit(lacking, QUICK)
        lacking.close()


def _keep_from_answering(monkeypatch: pytest.MonkeyPatch, concerned: Callable[[str], bool]) -> None:
    run = Gate.run

    def no_answer(gate: Gate, name: str, script_keys: Any, arguments: Any) -> Any:
        if any(concerned(key) for key in script_keys):
            raise GateUnavailable("away")
        return run(gate, name, script_keys, arguments)

    monkeypatch.setattr(Gate, "run", no_answer)


# -- pictures


def test_a_hold_that_comes_while_the_picture_is_prepared_is_looked_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.order_waiting()
    monkeypatch.setattr(type(shop.gate), "zrange", lambda *_: [])
    assert found_off(shop.engine) == {}


def test_a_hold_that_comes_and_goes_while_the_picture_is_prepared_blurs_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonce = shop.order_waiting()
    monkeypatch.setattr(type(shop.gate), "zrange", lambda *_: [])
    shop.gate.delete(keys.hold(0, nonce))
    with pytest.raises(pictures.Blurred):
        pictures.picture_stock(shop.engine.gate, 0, shop.products, [])


def test_a_spoilt_number_is_off_and_stops_no_audit(shop: Shop) -> None:
    shop.gate.hset(shop.sku_key(), "available", "many")
    shop.gate.hset(shop.coupon_key(), "issued", "all")
    shop.gate.hset(keys.hold(0, "x"), mapping={"state": "held", "lines": "a:b:c 1:2"})
    shop.gate.zadd(keys.holds(0), {"x": 9e15})
    assert found_off(shop.engine).keys() == {CheckName.STOCK, CheckName.COUPONS, CheckName.WINNERS}


# -- the regular audit


def test_what_is_off_is_an_alarm_at_every_run(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    job = jobs.auditing(lambda: True)
    job(shop.engine)
    assert caplog.messages == []
    shop.gate.hincrby(shop.sku_key(), "available", 1)
    shop.execute("UPDATE accounts SET balance = balance + 1 WHERE user_id = 1")
    jobs.auditing(lambda: True)(shop.engine)
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    assert len(caplog.messages) == 2
    assert all(message.startswith("ALARM: the audit finds off that ") for message in caplog.messages)
    assert f"product {shop.products[0]}: 97 free at the gate, 96 expected" in caplog.text
    assert "user 1: " in caplog.text


def test_a_costly_audit_comes_less_often(
    shop: Shop, regular: RegularAudit, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = regular.run(shop.engine)
    assert first is not None
    assert [check.name for check in first.checks] == [*audit_module._WITHOUT_BOOKS, *audit_module.BOOKS]
    assert regular.run(shop.engine) is None
    clock.now += LATER_SECONDS
    assert regular.run(shop.engine) is not None
    monkeypatch.setattr(audit_module, "TRAFFIC_SHARE", 1e-9)
    clock.now += LATER_SECONDS
    assert regular.run(shop.engine) is not None
    clock.now += LATER_SECONDS
    assert regular.run(shop.engine) is None


def test_a_process_that_stops_leaves_its_audit(shop: Shop) -> None:
    regular = RegularAudit(keep_going=lambda: False)
    report = regular.run(shop.engine)
    assert report is not None
    assert not report.complete
    assert CheckName.BALANCES not in {check.name for check in report.checks}


def test_holds_without_an_order_count_as_held(shop: Shop) -> None:
    assert reserve(shop.engine, {shop.products[0]: 1}, append=0)[0] == "reserved"
    order(shop.engine, 3, {shop.products[0]: 1})
    assert found_off(shop.engine) == {}
