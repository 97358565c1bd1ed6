"""The verdict on orders: units, money, coupons and statistics add up, and every accepted order came to an end.

Facts are gathered from the durable data and from the gate; the checks are pure functions over them, so that each can be
shown to notice what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from engine.context import Engine
from engine.gate import keys, outbox
from engine.gate.products import units_available
from loadtests.verdict import Check


@dataclass(frozen=True)
class ProductFacts:
    """Units of one product: in the ledger, in completed orders, at the gate, in the statistics."""

    supplied: int
    stock: int
    sold: int
    available: int
    counted: int


@dataclass(frozen=True)
class OrderFacts:
    """All that the checks look at. Amounts in KRW; ``states`` are the final answers to accepted requests, by id."""

    products: Mapping[int, ProductFacts]
    balances: int
    lowest_balance: int
    charged: int
    paid: int
    refunded: int
    paid_by_orders: int
    coupons_used: int
    coupons_redeemed: int
    orders_by_status: Mapping[str, int]
    orders_without_history: int
    followups_open: int
    holds: int
    backlog: int
    quarantined: int
    planned: int = 0
    recorded: int = 0
    accepted: Sequence[str] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    unexpected: Mapping[str, int] = field(default_factory=dict)


def judge(facts: OrderFacts) -> list[Check]:
    """Every check, in the order in which a reader wants them."""
    return [
        _every_product("no unit is made or lost", facts, lambda p: p.supplied == p.stock + p.sold),
        _every_product("the gate agrees with the ledger", facts, lambda p: p.available == p.stock),
        _every_product("nothing is negative", facts, lambda p: min(p.stock, p.available, p.sold) >= 0),
        _every_product("statistics equal completed orders", facts, lambda p: p.counted == p.sold),
        Check("no balance is negative", facts.lowest_balance >= 0, f"lowest {facts.lowest_balance}"),
        Check(
            "no money is made or lost",
            facts.balances == facts.charged - facts.paid + facts.refunded,
            f"{facts.charged} charged - {facts.paid} paid + {facts.refunded} refunded, {facts.balances} held",
        ),
        Check(
            "completed orders are paid, once",
            facts.paid - facts.refunded == facts.paid_by_orders,
            f"{facts.paid - facts.refunded} paid for orders of {facts.paid_by_orders}",
        ),
        Check(
            "a used coupon is one order's",
            facts.coupons_used == facts.coupons_redeemed,
            f"{facts.coupons_used} used, {facts.coupons_redeemed} redeemed",
        ),
        Check(
            "the crowd was there",
            0 < facts.planned == facts.recorded and len(facts.accepted) > 0,
            f"{facts.recorded} of {facts.planned} attempts on record",
        ),
        _every_request_ended(facts),
        Check("no hold is left", facts.holds == 0, f"{facts.holds} holds"),
        Check("the outbox is empty", facts.backlog == 0, f"{facts.backlog} entries"),
        Check("nothing is in quarantine", facts.quarantined == 0, f"{facts.quarantined} entries"),
        Check("follow-ups are done", facts.followups_open == 0, f"{facts.followups_open} open"),
        Check("every order has its history", facts.orders_without_history == 0, f"{facts.orders_without_history}"),
        Check("no unexpected answer", not facts.unexpected, f"{dict(facts.unexpected)}"),
    ]


def gather(
    engine: Engine,
    *,
    planned: int,
    recorded: int,
    accepted: Sequence[str],
    states: Mapping[str, str],
    unexpected: Mapping[str, int],
) -> OrderFacts:
    """The facts as they stand now, of the whole shop."""
    with engine.ledger.snapshot() as connection:
        products = _products(engine, connection)
        money = connection.execute(_MONEY).one()
        orders = connection.execute(_ORDERS).one()
        by_status = connection.execute(text("SELECT status, count(*) AS orders FROM orders GROUP BY status"))
        orders_by_status = {row.status: row.orders for row in by_status}
    return OrderFacts(
        products=products,
        balances=int(money.balances),
        lowest_balance=int(money.lowest),
        charged=int(money.charged),
        paid=int(money.paid),
        refunded=int(money.refunded),
        paid_by_orders=int(orders.paid),
        coupons_used=orders.coupons_used,
        coupons_redeemed=orders.coupons_redeemed,
        orders_by_status=orders_by_status,
        orders_without_history=orders.without_history,
        followups_open=orders.followups_open,
        holds=sum(int(engine.gate.client.zcard(keys.holds(lane))) for lane in range(engine.gate.lanes)),
        backlog=outbox.backlog(engine.gate),
        quarantined=orders.quarantined,
        planned=planned,
        recorded=recorded,
        accepted=accepted,
        states=states,
        unexpected=unexpected,
    )


def is_settled(engine: Engine) -> bool:
    """Whether nothing is under way any more: no entry, no hold, no follow-up."""
    if outbox.backlog(engine.gate):
        return False
    if any(engine.gate.client.zcard(keys.holds(lane)) for lane in range(engine.gate.lanes)):
        return False
    with engine.ledger.read() as connection:
        open_followups = text("SELECT 1 FROM order_followups WHERE status = 'PENDING' LIMIT 1")
        return connection.execute(open_followups).first() is None


_MONEY = text("""
    SELECT (SELECT coalesce(sum(balance), 0) FROM accounts) AS balances,
           (SELECT coalesce(min(balance), 0) FROM accounts) AS lowest,
           coalesce(sum(amount) FILTER (WHERE type = 'CHARGE'), 0) AS charged,
           coalesce(sum(amount) FILTER (WHERE type = 'PAYMENT'), 0) AS paid,
           coalesce(sum(amount) FILTER (WHERE type = 'REFUND'), 0) AS refunded
    FROM balance_transactions WHERE status = 'COMPLETED'
""")

_ORDERS = text("""
    SELECT (SELECT coalesce(sum(paid_amount), 0) FROM orders WHERE status = 'COMPLETED') AS paid,
           (SELECT count(*) FROM user_coupons WHERE status = 'USED') AS coupons_used,
           (SELECT count(*) FROM orders WHERE status = 'COMPLETED' AND user_coupon_id IS NOT NULL) AS coupons_redeemed,
           (SELECT count(*) FROM order_followups WHERE status <> 'DONE') AS followups_open,
           (SELECT count(*) FROM quarantined_outcomes) AS quarantined,
           (SELECT count(*) FROM orders WHERE status IN ('COMPLETED', 'CANCELLED') AND NOT EXISTS (
               SELECT 1 FROM order_history_events AS event
               WHERE event.order_id = orders.id AND event.event = 'ORDER_COMPLETED')) AS without_history
""")

_PRODUCTS = text("""
    SELECT id, supplied, stock,
           (SELECT coalesce(sum(quantity), 0) FROM order_items JOIN orders ON orders.id = order_id
            WHERE product_id = products.id AND orders.status = 'COMPLETED') AS sold,
           (SELECT coalesce(sum(quantity), 0) FROM product_stats WHERE product_id = products.id) AS counted
    FROM products ORDER BY id
""")


def _products(engine: Engine, connection: Connection) -> dict[int, ProductFacts]:
    rows = connection.execute(_PRODUCTS).all()
    available = units_available(engine.gate, [row.id for row in rows])
    return {
        row.id: ProductFacts(row.supplied, row.stock, int(row.sold), available.get(row.id, -1), int(row.counted))
        for row in rows
    }


def _every_product(name: str, facts: OrderFacts, holds: Callable[[ProductFacts], bool]) -> Check:
    wrong = {product_id: product for product_id, product in facts.products.items() if not holds(product)}
    first = next(iter(wrong.items()), None)
    return Check(name, not wrong, f"{len(facts.products)} products" if first is None else f"{len(wrong)} not: {first}")


def _every_request_ended(facts: OrderFacts) -> Check:
    still = {request: facts.states.get(request) for request in facts.accepted}
    still = {request: state for request, state in still.items() if state not in ("COMPLETED", "FAILED")}
    examples = ", ".join(f"{request}: {state}" for request, state in list(still.items())[:3])
    detail = f"{len(set(facts.accepted))} accepted, {len(still)} without an end {examples}"
    return Check("every accepted order ended", not still, detail)
