"""A small shop to play with: loaded into an empty ledger by ``make run``, never into one that holds anything.

Written to the ledger alone: the guard builds the gate from it, or the scheduler publishes it, as with any other change.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, text

from engine.ledger.session import Ledger
from engine.ledger.shop_tables import accounts, balance_transactions, products
from engine.ledger.tables import coupons

CATALOGUE = (
    ("제주 감귤 5kg", 18_900, 300),
    ("한돈 삼겹살 1kg", 24_800, 200),
    ("햇반 210g 24개입", 26_500, 500),
    ("신라면 40개입", 31_200, 400),
    ("무선 이어폰", 89_000, 120),
    ("기계식 키보드", 129_000, 60),
    ("캠핑 의자", 39_900, 150),
    ("보온 텀블러 500ml", 21_000, 250),
    ("극세사 이불 세트", 54_900, 80),
    ("한정판 운동화", 179_000, 10),
)
"""Name, price in KRW, units in stock."""

USERS = ("김민준", "이서연", "박도윤", "최지우", "정하준", "강서윤", "조은우", "윤하은", "장시우", "임지민")
OPENING_BALANCE = 500_000
COUPON = {"name": "선착순 5천원 할인", "discount_amount": 5_000, "total_quantity": 1_000, "status": "ACTIVE"}


def load_demo_data(ledger: Ledger) -> bool:
    """Fill an empty ledger; whether it was empty. Raises LedgerUnavailable."""
    with ledger.transaction() as connection:
        connection.execute(text("LOCK TABLE coupons, products, accounts IN SHARE ROW EXCLUSIVE MODE"))
        for table in (coupons, products, accounts):
            if connection.execute(select(table).limit(1)).first() is not None:
                return False
        _insert(connection)
    return True


def _insert(connection: Connection) -> None:
    connection.execute(
        insert(products),
        [
            {"name": name, "price": price, "stock": stock, "supplied": stock, "status": "ACTIVE"}
            for name, price, stock in CATALOGUE
        ],
    )
    connection.execute(insert(coupons), [COUPON])
    user_ids = connection.execute(
        insert(accounts).returning(accounts.c.user_id),
        [{"name": name, "balance": OPENING_BALANCE} for name in USERS],
    ).scalars()
    connection.execute(
        insert(balance_transactions),
        [
            {
                "user_id": user_id,
                "type": "CHARGE",
                "amount": OPENING_BALANCE,
                "balance_after": OPENING_BALANCE,
                "status": "COMPLETED",
            }
            for user_id in user_ids
        ],
    )
