"""What the audit's questions cost: they look at the rows of their page, not at all rows once for each."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, TextClause, text

from engine.context import Engine
from engine.ledger import audit_books
from engine.ledger.audit_books import Page, Wrong
from engine.upkeep.auditing import books
from tests.emptying import EMPTYING

USERS_BEFORE, USERS = 10, 1000
ROWS_LOOKED_AT = 30
"""Of a thousand orders, their items, payments, follow-ups and events, each scanned, sorted and joined once."""
ENOUGH_TO_KEEP_A_PLAN = 12
"""After ten executions psycopg and Postgres both think that a statement is worth keeping its plan."""

SHOP = (
    """INSERT INTO coupons (name, discount_amount, total_quantity, issued, status)
       VALUES ('쿠폰', 10, 1000, 1000, 'ACTIVE')""",
    "INSERT INTO products (name, price, stock, supplied, status) VALUES ('상품', 110, 1000, 2000, 'ACTIVE')",
)
NEW = "(SELECT user_id AS n FROM accounts WHERE user_id BETWEEN :first AND :last) AS new"
OF_USERS = (
    """INSERT INTO accounts (user_id, balance) SELECT n, 900
       FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n""",
    """INSERT INTO user_coupons (coupon_id, user_id, sequence, request_id, status, issued_at)
       SELECT 1, n, n, 'issuance ' || n, 'USED', now() FROM new""",
    """INSERT INTO orders (nonce, request_id, user_id, status,
                           total_amount, discount_amount, paid_amount, user_coupon_id)
       SELECT 'nonce ' || n, 'order ' || n, n, 'COMPLETED', 110, 10, 100, n FROM new""",
    """INSERT INTO order_items (order_id, product_id, name, unit_price, quantity)
       SELECT n, 1, '상품', 110, 1 FROM new""",
    """INSERT INTO balance_transactions (user_id, type, amount, balance_after, status, order_id)
       SELECT n, type, amount, after, 'COMPLETED', CASE type WHEN 'PAYMENT' THEN n END
       FROM (VALUES ('CHARGE', 1000, 1000), ('PAYMENT', 100, 900)) AS moved (type, amount, after),
            new""",
    """INSERT INTO order_followups (order_id, kind, status)
       SELECT n, kind, 'DONE'
       FROM unnest(ARRAY['HISTORY', 'DATA_PLATFORM', 'STATISTICS']) AS kind, new""",
    """INSERT INTO product_stats (product_id, hour, quantity)
       SELECT 1, date_trunc('hour', now(), 'UTC'), count(*) FROM new
       ON CONFLICT (product_id, hour) DO UPDATE SET quantity = product_stats.quantity + excluded.quantity""",
    """INSERT INTO order_history_events (order_id, event, payload, occurred_at)
       SELECT n, 'ORDER_COMPLETED', '{}', now() FROM new""",
)
PAGE = Page(0, USERS, USERS)
IN_PAGES = tuple(query for _, query in (*books.OF_ACCOUNTS, *books.OF_ORDERS, *books.OF_USER_COUPONS))
SUMS = tuple(query for _, query in books.SUMS)
QUESTIONS = (*IN_PAGES, *SUMS, audit_books.COUPONS)


@pytest.mark.parametrize("query", QUESTIONS, ids=lambda query: " ".join(query.text.split())[:40])
@pytest.mark.parametrize("before", ["small", "emptied"])
def test_a_question_costs_as_much_as_there_is_in_a_shop_that_was_small_a_moment_ago(
    engine: Engine, query: TextClause, before: str
) -> None:
    with engine.ledger.transaction() as connection:
        fill(connection, USERS_BEFORE)
        if before == "emptied":  # what Postgres finds then are pages without rows
            add_users(connection, USERS_BEFORE + 1, USERS)
            connection.execute(text(EMPTYING))
    with engine.ledger.transaction() as connection:
        connection.execute(text("ANALYZE"))
    with engine.ledger.snapshot() as connection:
        if before == "emptied":
            fill(connection, USERS_BEFORE)
        for _ in range(ENOUGH_TO_KEEP_A_PLAN):
            ask(connection, query)
        add_users(connection, USERS_BEFORE + 1, USERS)
        assert ask(connection, query) == []
        assert rows_looked_at(connection, query) < ROWS_LOOKED_AT * USERS


def ask(connection: Connection, query: TextClause) -> list[Wrong]:
    """As the audit asks."""
    if query in SUMS:
        return audit_books.wrong_sums(connection, query)
    if query in IN_PAGES:
        return audit_books.wrong_in_page(connection, query, PAGE)
    return audit_books.wrong_coupons(connection, [1])


def fill(connection: Connection, users: int) -> None:
    """A shop with so many users."""
    for statement in SHOP:
        connection.execute(text(statement))
    add_users(connection, 1, users)


def add_users(connection: Connection, first: int, last: int) -> None:
    """Each with a coupon, and an order that is paid and followed up."""
    for statement in OF_USERS:
        connection.execute(text(statement.replace("new", NEW)), {"first": first, "last": last})


def rows_looked_at(connection: Connection, query: TextClause) -> int:
    """By the statement as this connection has prepared it."""
    prepared = connection.execute(
        text("SELECT name FROM pg_prepared_statements WHERE statement LIKE '%' || :part || '%'"),
        {"part": query.text.split(":", 1)[0]},
    ).scalar_one()
    values = f"{PAGE.after}, {PAGE.upto}, 100" if query in IN_PAGES else "100" if query in SUMS else "'{1}'"
    explained = text(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE {prepared} ({values})")
    return _rows_of(connection.execute(explained).scalar_one()[0]["Plan"])


def _rows_of(node: dict[str, Any]) -> int:
    here = sum(count for name, count in node.items() if name == "Actual Rows" or name.startswith("Rows Removed"))
    return round(here * node["Actual Loops"]) + sum(_rows_of(below) for below in node.get("Plans", ()))
