"""A small shop for tests: accounts, products and coupons as the ledger and the gate know them, and what must add up."""

from __future__ import annotations

from itertools import count

from sqlalchemy import text

from engine.context import Engine
from engine.flow.drain import drain
from engine.flow.requests import request_state
from engine.gate import keys, stock
from engine.outcomes import Issued, Refused, RequestState, Submitted
from engine.shop import coupon_offers, issuance
from engine.shop.coupon_offers import CouponOverview, NewCoupon
from engine.shop.orders import OrderAsk, place_order
from engine.shop.product_offers import NewProduct, ProductView, create_product

_names = count(1)


def add_user(engine: Engine, user_id: int, balance: int) -> int:
    """A user with this balance, charged."""
    with engine.ledger.transaction() as connection:
        connection.execute(
            text("INSERT INTO accounts (user_id, balance) VALUES (:user_id, :balance)"),
            {"user_id": user_id, "balance": balance},
        )
        connection.execute(
            text("""
                INSERT INTO balance_transactions (user_id, type, amount, balance_after, status)
                VALUES (:user_id, 'CHARGE', :balance, :balance, 'COMPLETED')
            """),
            {"user_id": user_id, "balance": balance},
        )
    return user_id


def add_product(engine: Engine, price: int, units: int) -> int:
    """A product on sale; its id."""
    product = create_product(engine, NewProduct(f"상품 {next(_names)}", price, units, "ACTIVE"))
    assert isinstance(product, ProductView)
    return product.id


def add_held_coupon(engine: Engine, user_id: int, discount: int) -> int:
    """A coupon that this user holds in the ledger; the id of the user's coupon."""
    coupon = coupon_offers.create_coupon(engine, NewCoupon(f"쿠폰 {next(_names)}", discount, 100, None, None, "ACTIVE"))
    assert isinstance(coupon, CouponOverview)
    issued = issuance.issue_coupon(engine, coupon_id=coupon.id, user_id=user_id, idempotency_key=None)
    assert isinstance(issued, Issued)
    drain_all(engine)
    state = request_state(engine, issued.request_id)
    assert isinstance(state, RequestState)
    assert state.result is not None
    return int(state.result["userCouponId"])


def order(
    engine: Engine,
    user_id: int,
    quantities: dict[int, int],
    user_coupon_id: int | None = None,
    key: str | None = None,
) -> Submitted | Refused:
    """Place an order."""
    return place_order(engine, OrderAsk(user_id, tuple(sorted(quantities.items())), user_coupon_id, key))


def drain_all(engine: Engine) -> None:
    """Empty every outbox into the ledger."""
    for lane in range(engine.gate.lanes):
        drain(engine, lane, linger_seconds=0)


def state_of(engine: Engine, outcome: Submitted | Refused) -> RequestState:
    """Where a submitted order stands."""
    assert isinstance(outcome, Submitted), outcome
    state = request_state(engine, outcome.request_id)
    assert isinstance(state, RequestState), state
    return state


def available(engine: Engine, product_id: int) -> int:
    """Units free to take at the gate."""
    lane = stock.lane_of_product(engine.gate, product_id)
    return int(str(engine.gate.client.hget(keys.sku(lane, product_id), "available")))


def stock_in_ledger(engine: Engine, product_id: int) -> int:
    """Units that completed orders left over."""
    with engine.ledger.read() as connection:
        query = text("SELECT stock FROM products WHERE id = :id")
        return int(connection.execute(query, {"id": product_id}).scalar_one())


def balance(engine: Engine, user_id: int) -> int:
    """The balance of a user."""
    with engine.ledger.read() as connection:
        query = text("SELECT balance FROM accounts WHERE user_id = :id")
        return int(connection.execute(query, {"id": user_id}).scalar_one())


def coupon_status(engine: Engine, user_coupon_id: int) -> str:
    """AVAILABLE or USED."""
    with engine.ledger.read() as connection:
        query = text("SELECT status FROM user_coupons WHERE id = :id")
        return str(connection.execute(query, {"id": user_coupon_id}).scalar_one())


def holds(engine: Engine) -> int:
    """Holds that have not ended."""
    return sum(int(engine.gate.client.zcard(keys.holds(lane))) for lane in range(engine.gate.lanes))


def overdue(engine: Engine) -> None:
    """Let the deadline of every hold pass, without waiting for it."""
    for lane in range(engine.gate.lanes):
        for nonce in engine.gate.client.zrange(keys.holds(lane), 0, -1):
            engine.gate.client.zadd(keys.holds(lane), {str(nonce): 1})


def assert_conserved(engine: Engine) -> None:
    """Units and money are neither made nor lost, as the ledger tells it; with no holds, the gate agrees."""
    with engine.ledger.read() as connection:
        products = connection.execute(
            text("""
                SELECT id, supplied, stock, COALESCE((
                    SELECT sum(quantity) FROM order_items JOIN orders ON orders.id = order_id
                    WHERE product_id = products.id AND orders.status = 'COMPLETED'), 0) AS sold
                FROM products
            """)
        ).all()
        money = connection.execute(
            text("""
                SELECT (SELECT COALESCE(sum(balance), 0) FROM accounts) AS held,
                       COALESCE(sum(CASE type WHEN 'PAYMENT' THEN -amount ELSE amount END), 0) AS moved
                FROM balance_transactions WHERE status = 'COMPLETED'
            """)
        ).one()
    for product in products:
        assert product.supplied == product.stock + product.sold
        if holds(engine) == 0:
            assert available(engine, product.id) == product.stock
    assert money.held == money.moved
