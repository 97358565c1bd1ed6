"""What is on offer while we measure: coupons, products, buyers with money, and orders that have been placed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import text

from engine.context import Engine
from engine.outcomes import Issued, Submitted
from engine.shop import issuance
from engine.shop.coupon_offers import CouponOverview, NewCoupon, create_coupon
from engine.shop.orders import OrderAsk, place_order
from engine.shop.product_offers import NewProduct, ProductView, create_product

PRODUCTS = 20
BUYERS = 1_000
FIRST_BUYER = 1_001
BALANCE = 1_000_000_000_000
UNITS = 100_000_000
PRICE = 1_000
SETUP_THREADS = 8

_OPEN_ACCOUNTS = text("""
    WITH opened AS (
        INSERT INTO accounts (user_id, balance)
        SELECT id, :balance FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS id
        RETURNING user_id, balance
    )
    INSERT INTO balance_transactions (user_id, type, amount, balance_after, status)
    SELECT user_id, 'CHARGE', balance, balance, 'COMPLETED' FROM opened
""")


class SetupFailed(Exception):
    """What was to be measured could not be set up."""


@dataclass(frozen=True)
class Shop:
    """Products and buyers. Every order that is placed here can be paid, and there are units for all of them."""

    product_ids: tuple[int, ...]

    def order(self, number: int) -> tuple[int, dict[int, int]]:
        """Who places the order of this number, and what it is: two products, one unit of each."""
        first, second = (self.product_ids[(number + step) % len(self.product_ids)] for step in (0, 1))
        return FIRST_BUYER + number % BUYERS, {first: 1, second: 1}


def open_shop(engine: Engine) -> Shop:
    """Put products on sale and open accounts. Raises SetupFailed."""
    values = {"first": FIRST_BUYER, "last": FIRST_BUYER + BUYERS - 1, "balance": BALANCE}
    with engine.ledger.transaction() as connection:
        connection.execute(_OPEN_ACCOUNTS, values)
    made = [create_product(engine, NewProduct(f"상품 {number}", PRICE, UNITS, "ACTIVE")) for number in range(PRODUCTS)]
    product_ids = tuple(product.id for product in made if isinstance(product, ProductView))
    if len(product_ids) != PRODUCTS:
        raise SetupFailed("the products could not be put on sale")
    return Shop(product_ids)


def place_orders(engine: Engine, shop: Shop, count: int) -> None:
    """Place so many orders; they are in the outbox then. Raises SetupFailed."""

    def place(number: int) -> bool:
        user_id, quantities = shop.order(number)
        placed = place_order(engine, OrderAsk(user_id, tuple(sorted(quantities.items()))))
        return isinstance(placed, Submitted)

    with ThreadPoolExecutor(SETUP_THREADS) as pool:
        if not all(pool.map(place, range(count))):
            raise SetupFailed("an order was refused")


def offer_coupon(engine: Engine, quantity: int) -> int:
    """A new coupon; its id. Raises SetupFailed."""
    made = create_coupon(engine, NewCoupon(f"쿠폰 {quantity:,}장", 1_000, quantity, None, None, "ACTIVE"))
    if not isinstance(made, CouponOverview):
        raise SetupFailed("the coupon could not be offered")
    return made.id


def issue_coupons(engine: Engine, coupon_id: int, user_ids: Sequence[int]) -> list[str]:
    """Give the coupon to these users; the request ids. Raises SetupFailed."""

    def issue(user_id: int) -> str:
        issued = issuance.issue_coupon(engine, coupon_id=coupon_id, user_id=user_id, idempotency_key=None)
        if not isinstance(issued, Issued):
            raise SetupFailed(f"a coupon was refused: {issued}")
        return issued.request_id

    with ThreadPoolExecutor(SETUP_THREADS) as pool:
        return list(pool.map(issue, user_ids))
