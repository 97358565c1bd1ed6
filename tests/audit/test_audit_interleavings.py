"""Something happens between any two steps of a look, and the look is exact all the same: once is enough to call off.

Every step of the audit that asks a store is counted, and at each of them, in turn, something happens. The controls take
one part out of the comparison each, and show that the same histories then end in a false alarm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from engine.context import Engine
from engine.flow import drain as drain_module
from engine.flow import followups
from engine.flow.holds import sweep_holds
from engine.gate import pictures
from engine.gate.pictures import StockPicture
from engine.ledger import audit_queries
from engine.ledger import orders as ledger_orders
from engine.shop import product_offers
from engine.shop.product_offers import ProductChange
from engine.upkeep.auditing import coupons, stock
from engine.upkeep.auditing.coupons import audit_coupons
from engine.upkeep.auditing.findings import BOOKS, Check, CheckName
from engine.upkeep.auditing.lanes import audit_decisions
from engine.upkeep.auditing.looking import Looking
from engine.upkeep.auditing.stock import audit_stock
from engine.upkeep.guard import watch_lanes
from tests.audit.audited_shop import QUICK, Shop, cancel, open_shop
from tests.conftest import EngineMaker
from tests.integration.offers import win_all
from tests.integration.shop import drain_all, order, overdue

pytestmark = pytest.mark.long

ONE_LOOK = replace(QUICK, confirmations=1)

users = count(1000)


def decide(shop: Shop) -> None:
    """Coupons are issued, orders are placed: one that can be paid and one that cannot."""
    win_all(shop.engine, shop.coupon, [next(users) for _ in range(3)])
    order(shop.engine, 1, {shop.products[0]: 1, shop.products[1]: 2})
    order(shop.engine, 3, {shop.products[0]: 2})


def drain(shop: Shop) -> None:
    drain_all(shop.engine)


def drain_and_die(shop: Shop) -> None:
    """Everything is committed, and the gate does not hear of it."""
    end_holds, remove = drain_module.end_holds, drain_module.outbox.remove
    try:
        drain_module.end_holds = lambda *_: None
        drain_module.outbox.remove = lambda *_: (_ for _ in ()).throw(InterruptedError)
        for _ in range(shop.engine.gate.lanes):
            try:
                drain_all(shop.engine)
            except InterruptedError:
                continue
    finally:
        drain_module.end_holds, drain_module.outbox.remove = end_holds, remove


def cancel_one(shop: Shop) -> None:
    cancel(shop.engine, shop.scalar("SELECT max(id) FROM orders WHERE status = 'COMPLETED'"))


def follow_up(shop: Shop) -> None:
    followups.work_off(shop.engine)


def supply(shop: Shop) -> None:
    product_offers.change_product(shop.engine, shop.products[0], ProductChange(price=9, add_stock=3))


def expire(shop: Shop) -> None:
    overdue(shop.engine)
    for lane in range(shop.engine.gate.lanes):
        sweep_holds(shop.engine, lane)


def forget(shop: Shop) -> None:
    shop.gate.flushdb()
    watch_lanes(shop.engine)


def everything(shop: Shop) -> None:
    for event in (decide, drain, cancel_one, follow_up, supply):
        event(shop)


EVENTS: Sequence[Callable[[Shop], None]] = (
    decide,
    drain,
    drain_and_die,
    cancel_one,
    follow_up,
    supply,
    expire,
    forget,
    everything,
)


class Stepping:
    """An engine's way to its stores, with something that happens before one of its steps."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.step = 0
        self.at = 0
        self.happen: Callable[[], None] = lambda: None
        for owner, name in ((engine.gate, "run"), (engine.gate, "inspect"), (engine.ledger, "snapshot")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.step += 1
            if self.step == self.at:
                self.happen()
            return do(*arguments)

        return counted

    def before_step(self, at: int, happen: Callable[[], None]) -> None:
        self.step, self.at, self.happen = 0, at, happen


@pytest.fixture
def shop(make_engine: EngineMaker, lanes: int, engine: Engine) -> Shop:
    """A shop whose events come over connections of their own."""
    shop = open_shop(make_engine(lanes=lanes))
    for product in shop.products[:2]:
        product_offers.change_product(shop.engine, product, ProductChange(price=10, add_stock=10_000))
    return shop


@pytest.fixture
def stepping(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Stepping:
    return Stepping(engine, monkeypatch)


def look(engine: Engine) -> tuple[list[Check], bool]:
    """What one look finds off, and whether all could be seen."""
    looking = Looking(engine, ONE_LOOK)
    audit_decisions(looking)
    audit_coupons(looking)
    audit_stock(looking)
    checks = looking.findings.checks([name for name in CheckName if name not in BOOKS])
    return [check for check in checks if not check.ok], not looking.findings.anything_unseen


def histories(
    engine: Engine, shop: Shop, stepping: Stepping, event: Callable[[Shop], None], stride: int = 1
) -> Iterator[list[Check]]:
    """What is found when the event comes before the first step, before the second, and so on to the last."""
    for at in count(1, stride):
        # Something to happen to: orders and coupons that wait, units that are to be returned.
        decide(shop)
        drain(shop)
        cancel_one(shop)
        decide(shop)
        stepping.before_step(at, lambda: event(shop))
        off, complete = look(engine)
        if stepping.step < at:
            return
        assert complete
        yield off


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_whatever_happens_at_whatever_step_nothing_is_called_off(
    engine: Engine, shop: Shop, stepping: Stepping, event: Callable[[Shop], None]
) -> None:
    found = list(histories(engine, shop, stepping, event))
    assert found == [[]] * len(found)
    assert len(found) > 10


@pytest.mark.parametrize("lanes", [4], ids=["four lanes"])
@pytest.mark.parametrize("event", [everything, forget], ids=lambda event: event.__name__)
def test_nor_is_it_where_orders_take_from_several_lanes(
    engine: Engine, shop: Shop, stepping: Stepping, event: Callable[[Shop], None]
) -> None:
    found = list(histories(engine, shop, stepping, event, stride=4))
    assert found == [[]] * len(found)
    assert len(found) > 10


class Always:
    """Equal to everything."""

    def __eq__(self, _other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _without_returns(*arguments: Any) -> StockPicture:
    return replace(PICTURE_STOCK(*arguments), returned=frozenset())


PICTURE_STOCK = pictures.picture_stock
CONTROLS = [
    ("the versions of rows", audit_queries, "product_row_versions", lambda _, ids: dict.fromkeys(ids, Always()), drain),
    ("what became of holds", ledger_orders, "endings", lambda *_: {}, drain_and_die),
    ("holds", stock, "_held_units", lambda *_: Counter(), decide),
    ("units to return", audit_queries, "units_to_return", lambda *_: [], decide),
    ("units returned", pictures, "picture_stock", _without_returns, follow_up),
    ("coupons that wait", pictures, "waiting_issuances", lambda *_: {}, decide),
    ("coupons recorded since", audit_queries, "recorded_within", lambda _, some: dict.fromkeys(some, 0), drain),
    ("the epoch", coupons, "while_open", lambda _engine, _lane, do: do(), forget),
]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control[0])
def test_without_any_part_of_the_comparison_there_is_a_false_alarm(
    engine: Engine, shop: Shop, stepping: Stepping, monkeypatch: pytest.MonkeyPatch, control: tuple[Any, ...]
) -> None:
    _, owner, name, instead, event = control
    monkeypatch.setattr(owner, name, instead)
    assert any(histories(engine, shop, stepping, event))
