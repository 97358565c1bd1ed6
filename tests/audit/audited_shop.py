"""A shop in which much has happened, for tests of the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.context import Engine
from engine.flow import followups
from engine.gate import keys, stock
from engine.gate.coupons import lane_of_coupon
from engine.outcomes import Refused, RequestStatus, Submitted
from engine.shop.cancellation import cancel_order
from engine.upkeep.audit import audit
from engine.upkeep.auditing.findings import CheckName
from engine.upkeep.auditing.looking import Patience
from tests.integration.offers import offer, win_all
from tests.integration.placed_orders import execute, rows
from tests.integration.shop import add_held_coupon, add_product, add_user, drain_all, order, state_of

QUICK = Patience(lasting_seconds=0.3, look_again_seconds=0.05, pause_seconds=0.002)
"""Tests have less patience than people; what it is for stays the same."""


@dataclass
class Shop:
    """What a test may break. Orders and users by their ids."""

    engine: Engine
    coupon: int
    waiting_coupon: int
    products: list[int]
    completed: int
    redeeming: int
    cancelled: int
    user_coupon: int

    @property
    def gate(self) -> Any:
        return self.engine.gate.client

    def coupon_key(self, coupon_id: int = 0) -> str:
        coupon_id = coupon_id or self.coupon
        return keys.coupon(lane_of_coupon(self.engine.gate, coupon_id), coupon_id)

    def winners_key(self, coupon_id: int = 0) -> str:
        return self.coupon_key(coupon_id) + ":winners"

    def lane_of(self, product_id: int = 0) -> int:
        return stock.lane_of_product(self.engine.gate, product_id or self.products[0])

    def sku_key(self, product_id: int = 0) -> str:
        return keys.sku(self.lane_of(product_id), product_id or self.products[0])

    def execute(self, statement: str, **values: Any) -> None:
        """Change the ledger behind everybody's back."""
        execute(self.engine, statement, **values)

    def scalar(self, query: str, **values: Any) -> Any:
        """The one value that the ledger answers."""
        return rows(self.engine, query, **values)[0][0]

    def order_waiting(self) -> str:
        """An order that nobody drains; its nonce."""
        placed = order(self.engine, 1, {self.products[0]: 2})
        assert isinstance(placed, Submitted)
        return placed.request_id.rpartition(".")[2]


def open_shop(engine: Engine) -> Shop:
    """Coupons issued, orders completed, failed, cancelled, redeemed; everything drained and worked off."""
    for user_id, balance in ((1, 1_000_000), (2, 1_000_000), (3, 0)):
        add_user(engine, user_id, balance)
    coupon, waiting_coupon = offer(engine), offer(engine)
    win_all(engine, coupon, range(10, 20))
    products = [add_product(engine, 1_000 * number, 100) for number in range(1, 9)]
    user_coupon = add_held_coupon(engine, 2, 500)
    spare_coupon = add_held_coupon(engine, 2, 700)
    completed = order(engine, 1, {products[0]: 3, products[1]: 1})
    redeeming = order(engine, 2, {products[0]: 1}, user_coupon)
    cancelled = order(engine, 2, {products[0]: 5, products[2]: 2}, spare_coupon)
    failed = order(engine, 3, {products[3]: 2})
    drain_all(engine)
    assert state_of(engine, failed).status is RequestStatus.FAILED
    shop = Shop(
        engine,
        coupon,
        waiting_coupon,
        products,
        completed=order_id(engine, completed),
        redeeming=order_id(engine, redeeming),
        cancelled=order_id(engine, cancelled),
        user_coupon=user_coupon,
    )
    cancel(engine, shop.cancelled)
    work_off(engine)
    return shop


def leave_under_way(shop: Shop) -> None:
    """Decisions that nobody drains, a cancellation whose units are not yet back, a hold without an order."""
    engine, products = shop.engine, shop.products
    win_all(engine, shop.waiting_coupon, range(30, 35))
    win_all(engine, shop.coupon, range(30, 35))
    later = order(engine, 1, {products[0]: 7, products[4]: 1})
    drain_all(engine)
    cancel(engine, order_id(engine, later))
    win_all(engine, shop.coupon, range(40, 45))
    order(engine, 1, dict.fromkeys(products, 2))
    order(engine, 3, {products[5]: 2})


def cancel(engine: Engine, order_id: int) -> None:
    assert not isinstance(cancel_order(engine, order_id, user_id=None, idempotency_key=None), Refused)


def order_id(engine: Engine, outcome: Submitted | Refused) -> int:
    """The id of an order that was completed."""
    result = state_of(engine, outcome).result
    assert result is not None
    return int(result["orderId"])


def work_off(engine: Engine) -> None:
    """Everything that follows from orders; deliveries count as made, there is nobody to deliver to."""
    followups.work_off(engine)
    execute(engine, "UPDATE order_followups SET status = 'DONE' WHERE kind LIKE '%DATA_PLATFORM'")


def found_off(engine: Engine, patience: Patience = QUICK) -> dict[CheckName, str]:
    """What the audit finds off, and what it says about it."""
    report = audit(engine, patience)
    assert report.ok is not bool(report.off)
    return {CheckName(check.name): check.detail for check in report.off}
