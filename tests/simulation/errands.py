"""What actors do: clients who ask the engine for something, and the engine's own work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.context import Engine
from engine.errors import EngineError
from engine.flow import followups, holds
from engine.flow.drain import drain
from engine.flow.requests import request_state
from engine.gate.coupons import IssueAsk, lane_of_coupon
from engine.gate.stock import lane_of_product
from engine.ledger.idempotency import Answer
from engine.outcomes import Issued, Refused, Submitted
from engine.shop import accounts, cancellation, coupon_offers, issuance, orders, product_offers
from engine.shop.coupon_offers import CouponChange, NewCoupon
from engine.shop.orders import OrderAsk
from engine.shop.product_offers import NewProduct, ProductChange
from engine.upkeep.guard import watch_lanes
from tests.simulation.record import Ask, Record

Values = dict[str, Any]


@dataclass(frozen=True)
class Errand:
    """One actor's work: the engine of its process, where to write down what it was told, and what exactly to do."""

    engine: Engine
    record: Record
    values: Values

    def ask(self, kind: str, user_id: int, target: Any, call: Callable[[str | None], Any]) -> Any:
        """Ask as a client does: under the same idempotency key again when there was no answer, so often."""
        key: str | None = self.values.get("key")
        for _ in range(1 + self.values.get("retries", 0)):
            entry = self.record.begin(kind, user_id, target, key)
            try:
                answer = call(key)
            except EngineError as error:
                last = error
                continue
            self.record.answered(entry, answer)
            return answer
        raise last


def issue(errand: Errand) -> None:
    """Ask for a coupon, then after what became of it."""
    user_id, coupon_id = errand.values["user"], errand.values["coupon"]

    def call(key: str | None) -> Issued | Refused:
        return issuance.issue_coupon(errand.engine, coupon_id=coupon_id, user_id=user_id, idempotency_key=key)

    answer = errand.ask("issue", user_id, coupon_id, call)
    if isinstance(answer, Issued):
        _look_after(errand, answer.request_id)


def issue_to_a_crowd(errand: Errand) -> None:
    """Everybody asks for a coupon at the same time, at one process: it asks the gate for all of them at once."""
    coupon_id, key = errand.values["coupon"], errand.values["key"]
    lane = lane_of_coupon(errand.engine.gate, coupon_id)
    asks = [IssueAsk(coupon_id, user_id, key) for user_id in errand.values["users"]]
    entries = [errand.record.begin("issue", ask.user_id, coupon_id, key) for ask in asks]
    outcomes, _ = issuance.issue_coupons(errand.engine, lane, asks)
    _all_answered(errand, entries, outcomes)


def order(errand: Errand) -> None:
    """Place an order, then ask what became of it."""
    user_id, quantities = errand.values["user"], tuple(sorted(errand.values["quantities"].items()))

    def call(key: str | None) -> Submitted | Refused:
        return orders.place_order(errand.engine, OrderAsk(user_id, quantities, errand.values["redeem"], key))

    answer = errand.ask("order", user_id, quantities, call)
    if isinstance(answer, Submitted):
        lanes = {lane_of_product(errand.engine.gate, product_id) for product_id, _ in quantities}
        errand.record.lanes_of[answer.request_id] = frozenset(lanes)
        _look_after(errand, answer.request_id)


def order_in_a_crowd(errand: Errand) -> None:
    """Everybody orders one product at the same time, at one process."""
    quantities, key = ((errand.values["product"], 1),), errand.values["key"]
    lane = lane_of_product(errand.engine.gate, errand.values["product"])
    asks = [OrderAsk(user_id, quantities, None, key) for user_id in errand.values["users"]]
    entries = [errand.record.begin("order", ask.user_id, quantities, key) for ask in asks]
    outcomes, _ = orders.place_orders(errand.engine, lane, asks)
    _all_answered(errand, entries, outcomes)


def poll(errand: Errand) -> None:
    """Ask what became of a request that somebody was given."""
    if errand.values["request"]:
        _look_after(errand, errand.values["request"])


def charge(errand: Errand) -> None:
    """Put money on a balance."""
    user_id, amount = errand.values["user"], errand.values["amount"]

    def call(key: str | None) -> Answer:
        return accounts.charge_balance(errand.engine, user_id, amount, key)

    errand.ask("charge", user_id, amount, call)


def cancel(errand: Errand) -> None:
    """Take an order back that there is."""
    order_id = errand.values["order"]
    if order_id is None:
        return

    def call(key: str | None) -> Answer:
        return cancellation.cancel_order(errand.engine, order_id, user_id=None, idempotency_key=key)

    errand.ask("cancel", 0, order_id, call)


def add_quantity(errand: Errand) -> None:
    """Offer more of a coupon, or take it off, or put it on again."""
    change = CouponChange(add_quantity=errand.values["add"], status=errand.values["status"])
    coupon_offers.change_coupon(errand.engine, errand.values["coupon"], change)


def add_stock(errand: Errand) -> None:
    """Sell more of a product, or for another price."""
    change = ProductChange(add_stock=errand.values["add"], price=errand.values["price"])
    product_offers.change_product(errand.engine, errand.values["product"], change)


def offer_coupon(errand: Errand) -> None:
    """A new coupon."""
    coupon_offers.create_coupon(errand.engine, NewCoupon("쿠폰", 100, errand.values["total"], None, None, "ACTIVE"))


def offer_product(errand: Errand) -> None:
    """A new product."""
    product_offers.create_product(errand.engine, NewProduct("상품", 100, errand.values["stock"], "ACTIVE"))


def drain_lane(errand: Errand) -> None:
    """Drain a lane, and linger."""
    drain(errand.engine, errand.values["lane"], linger_seconds=errand.values["linger"])


def guard(errand: Errand) -> None:
    """Look at every lane; approve, rebuild."""
    watch_lanes(errand.engine)


def sweep(errand: Errand) -> None:
    """End overdue holds."""
    for lane in range(errand.engine.gate.lanes):
        holds.sweep_holds(errand.engine, lane)


def publish(errand: Errand) -> None:
    """Make live what was only recorded."""
    coupon_offers.publish_changes(errand.engine)
    product_offers.publish_product_changes(errand.engine)


def follow_up(errand: Errand) -> None:
    """Work off follow-ups."""
    followups.work_off(errand.engine)


def _all_answered(errand: Errand, entries: Sequence[Ask], outcomes: Sequence[object]) -> None:
    for entry, outcome in zip(entries, outcomes, strict=True):
        if not isinstance(outcome, EngineError):
            errand.record.answered(entry, outcome)


def _look_after(errand: Errand, request_id: str) -> None:
    for _ in range(errand.values.get("polls", 1)):
        errand.record.heard_state(request_id, request_state(errand.engine, request_id))


ERRANDS: dict[str, Callable[[Errand], None]] = {
    "issue": issue,
    "issue to a crowd": issue_to_a_crowd,
    "order": order,
    "order in a crowd": order_in_a_crowd,
    "poll": poll,
    "charge": charge,
    "cancel": cancel,
    "add quantity": add_quantity,
    "add stock": add_stock,
    "offer coupon": offer_coupon,
    "offer product": offer_product,
    "drain": drain_lane,
    "guard": guard,
    "sweep": sweep,
    "publish": publish,
    "follow up": follow_up,
}
"""By name, everything that an actor can be sent for."""
