"""Stock of cancelled orders that goes back on sale: once, whatever crashes, and when the gate is back."""

from __future__ import annotations

import pytest

from engine.context import Engine
from engine.errors import BrokenContract, GateUnavailable
from engine.flow import followups
from engine.flow.followups import any_due, work_off
from engine.gate import keys, stock
from engine.ledger.followups import FollowupKind
from engine.ledger.orders import Order
from engine.ledger.progress import Returned
from tests.integration.placed_orders import (
    add_order,
    add_product,
    killed_at,
    make_due,
    rows,
    statuses,
    without_redis,
)
from tests.integration.shop import available

pytestmark = pytest.mark.usefixtures("longest_delays")

CANCELLATION = (FollowupKind.CANCEL_HISTORY, FollowupKind.CANCEL_STATISTICS)


def put_on_sale(engine: Engine, product_id: int, available: int) -> None:
    """The product at the gate, with this many units free to take."""
    lane = stock.lane_of_product(engine.gate, product_id)
    engine.gate.client.hset(keys.sku(lane, product_id), "available", available)


@pytest.mark.parametrize("lanes", [1, 4])
def test_the_units_of_a_cancelled_order_go_back_on_sale_once(engine: Engine) -> None:
    apple, pear = add_product(engine), add_product(engine)
    put_on_sale(engine, apple, 10)
    put_on_sale(engine, pear, 0)
    add_order(engine, {apple: 2, pear: 3}, (FollowupKind.RETURN_STOCK,), cancelled=True)
    assert work_off(engine).done == {FollowupKind.RETURN_STOCK: 1}
    assert (available(engine, apple), available(engine, pear)) == (12, 3)


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_worker_killed_after_returning_stock_returns_it_again_without_effect(engine: Engine) -> None:
    product = add_product(engine)
    put_on_sale(engine, product, 10)
    add_order(engine, {product: 2}, (FollowupKind.RETURN_STOCK,), cancelled=True)
    killed_at(engine, "finish")
    assert available(engine, product) == 12
    assert list(statuses(engine).values()) == ["PENDING"]
    assert not any_due(engine)  # the lease still holds
    make_due(engine)
    assert work_off(engine).done == {FollowupKind.RETURN_STOCK: 1}
    assert available(engine, product) == 12


def test_stock_is_not_returned_for_an_order_that_is_not_cancelled(engine: Engine) -> None:
    product = add_product(engine)
    put_on_sale(engine, product, 10)
    add_order(engine, {product: 2}, (FollowupKind.RETURN_STOCK,))
    assert work_off(engine).failed == 1
    assert available(engine, product) == 10
    assert rows(engine, "SELECT last_error FROM order_followups") == [("the order is not cancelled",)]


def test_without_the_gate_returns_wait_at_no_cost_and_the_ledgers_kinds_go_on(engine: Engine) -> None:
    product = add_product(engine)
    order = add_order(engine, {product: 2}, (FollowupKind.RETURN_STOCK, *CANCELLATION), cancelled=True)
    cut_off = without_redis(engine)
    report = work_off(cut_off)
    cut_off.close()
    assert set(report.unavailable) == {FollowupKind.RETURN_STOCK}
    assert report.done == dict.fromkeys(CANCELLATION, 1)
    assert report.failed == 0
    waiting = rows(engine, "SELECT attempts, due_at > now() FROM order_followups WHERE kind = 'RETURN_STOCK'")
    assert waiting == [(0, True)]
    put_on_sale(engine, product, 0)
    make_due(engine)
    work_off(engine)
    assert statuses(engine)[order, "RETURN_STOCK"] == "DONE"
    assert available(engine, product) == 2


def test_a_return_that_breaks_does_not_hold_up_the_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    product = add_product(engine)
    orders = [add_order(engine, {product: 1}, (FollowupKind.RETURN_STOCK,), cancelled=True) for _ in range(3)]
    returned: list[int] = []

    def return_stock(_engine: Engine, found: Order, _built_epochs: object) -> list[Returned]:
        if found.id == orders[1]:
            raise BrokenContract("no such product at the gate")
        returned.append(found.id)
        return []

    monkeypatch.setattr(followups, "return_stock", return_stock)
    report = work_off(engine)
    assert returned == [orders[0], orders[2]]
    assert (report.done, report.failed) == ({FollowupKind.RETURN_STOCK: 2}, 1)


def test_what_an_outage_of_the_gate_leaves_untried_is_all_there_afterwards(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = add_product(engine)
    for _ in range(5):
        add_order(engine, {product: 1}, (FollowupKind.RETURN_STOCK,), cancelled=True)
    calls: list[int] = []

    def return_stock(_engine: Engine, found: Order, _built_epochs: object) -> list[Returned]:
        calls.append(found.id)
        if len(calls) == 3:
            raise GateUnavailable("the lane is being rebuilt")
        return []

    monkeypatch.setattr(followups, "return_stock", return_stock)
    work_off(engine)
    assert len(calls) == 3
    assert sorted(statuses(engine).values()) == ["DONE"] * 2 + ["PENDING"] * 3
    assert rows(engine, "SELECT DISTINCT attempts FROM order_followups WHERE status = 'PENDING'") == [(0,)]
