"""The audit of the ledger's own books: sums that have to be equal, each compared within one snapshot of Postgres.

A query returns what is wrong and nothing else, as an id and words. Orders, accounts and used coupons are looked at in
pages of their key, ``(after, upto]``; two questions (units and statistics) sum over all orders and are asked in one
statement each, whose memory Postgres bounds. Pages need not belong to one instant: every identity is about rows that
change in one transaction, so it holds in any snapshot.

In a rush, what Postgres knows of the size of its tables is old, and what is right for a row or two takes too long for a
thousand. So it is not left to choose: what belongs to a row is an aggregate of its own, which Postgres cannot turn into
a join; sums are joined by hash or by order, never row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Column, Connection, TextClause, func, select, text

WRONG_AT_MOST = 100
"""More wrong rows of one page than anybody wants to read; their number is then told as "at least"."""
SUM_SECONDS = 120
"""The two sums may take longer than any statement that somebody waits for."""


class Wrong(NamedTuple):
    """One row that does not add up: its id, and what is wrong with it."""

    id: int
    what: str


class Page(NamedTuple):
    """The rows with a key in ``(after, upto]``."""

    after: int
    upto: int
    rows: int


def next_page(connection: Connection, key: Column[int], after: int, limit: int) -> Page | None:
    """The page of at most ``limit`` rows that comes after that key; None when there is nothing more."""
    page = select(key.label("key")).where(key > after).order_by(key).limit(limit).subquery()
    row = connection.execute(select(func.max(page.c.key).label("upto"), func.count().label("rows"))).one()
    return None if row.upto is None else Page(after, row.upto, row.rows)


def wrong_in_page(connection: Connection, query: TextClause, page: Page) -> list[Wrong]:
    """What this query finds wrong in the page."""
    rows = connection.execute(query, {"after": page.after, "upto": page.upto, "at_most": WRONG_AT_MOST})
    return [Wrong(row.id, row.what) for row in rows]


def wrong_coupons(connection: Connection, coupon_ids: Sequence[int]) -> list[Wrong]:
    """Coupons whose count is not that of their rows, or whose places in line are not 1 to that count."""
    rows = connection.execute(COUPONS, {"coupon_ids": list(coupon_ids)})
    return [Wrong(row.id, row.what) for row in rows]


def wrong_sums(connection: Connection, query: TextClause) -> list[Wrong]:
    """What one of the two sums over all orders finds wrong."""
    connection.execute(text(f"SET LOCAL statement_timeout = '{SUM_SECONDS}s'"))
    # One core, as the rest of the audit: its cost is what its time is.
    connection.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
    connection.execute(text("SET LOCAL enable_nestloop = off"))
    rows = connection.execute(query, {"at_most": WRONG_AT_MOST})
    return [Wrong(row.id, row.what) for row in rows]


COUPONS = text("""
    SELECT coupons.id,
           format('%s issued of %s, %s recorded, numbered %s to %s', issued, total_quantity, recorded,
                  coalesce(lowest, 0), coalesce(highest, 0)) AS what
    FROM coupons, LATERAL (
        SELECT count(*) AS recorded, min(sequence) AS lowest, max(sequence) AS highest
        FROM user_coupons WHERE coupon_id = coupons.id
    ) AS held
    WHERE coupons.id = ANY(CAST(:coupon_ids AS bigint[])) AND (
        issued > total_quantity OR issued <> recorded OR issued <> coalesce(highest, 0) OR coalesce(lowest, 1) <> 1)
    ORDER BY coupons.id
""")
"""Places are unique by coupon, so as many as the highest one, beginning with 1, are all of them."""

UNITS = text("""
    SELECT id, format('%s in stock of %s supplied, %s sold', sum(stock), sum(supplied), sum(sold)) AS what
    FROM (
        SELECT id, stock, supplied, 0 AS sold FROM products
        UNION ALL
        SELECT product_id, 0, 0, quantity
        FROM order_items JOIN orders ON orders.id = order_items.order_id
        WHERE orders.status = 'COMPLETED'
    ) AS units
    GROUP BY id HAVING sum(stock) <> sum(supplied) - sum(sold) OR sum(stock) < 0
    ORDER BY id LIMIT :at_most
""")

STATISTICS = text("""
    SELECT product_id AS id,
           format('%s in the hour of %s, %s by its orders', coalesce(stats.quantity, 0),
                  to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24"Z"'), coalesce(counted.quantity, 0)) AS what
    FROM product_stats AS stats FULL JOIN (
        SELECT items.product_id, date_trunc('hour', orders.ordered_at, 'UTC') AS hour,
               sum(CASE followup.kind WHEN 'STATISTICS' THEN items.quantity ELSE -items.quantity END) AS quantity
        FROM order_followups AS followup
        JOIN orders ON orders.id = followup.order_id
        JOIN order_items AS items ON items.order_id = followup.order_id
        WHERE followup.kind IN ('STATISTICS', 'CANCEL_STATISTICS') AND followup.status = 'DONE'
        GROUP BY items.product_id, hour
    ) AS counted USING (product_id, hour)
    WHERE coalesce(stats.quantity, 0) <> coalesce(counted.quantity, 0)
    ORDER BY product_id, hour LIMIT :at_most
""")

BALANCES = text("""
    SELECT accounts.user_id AS id,
           format('%s on it, transactions come to %s, the last left %s', balance, coalesce(moved.amount, 0),
                  coalesce(CAST(last_balance AS text), 'nothing')) AS what
    FROM accounts, LATERAL (
        SELECT sum(CASE type WHEN 'PAYMENT' THEN -amount ELSE amount END) AS amount,
               (array_agg(balance_after ORDER BY id DESC))[1] AS last_balance
        FROM balance_transactions
        WHERE balance_transactions.user_id = accounts.user_id AND status = 'COMPLETED'
    ) AS moved
    WHERE accounts.user_id > :after AND accounts.user_id <= :upto
      AND (balance <> coalesce(moved.amount, 0) OR balance <> coalesce(last_balance, 0))
    ORDER BY accounts.user_id LIMIT :at_most
""")

PENDING_TRANSACTIONS = text("""
    SELECT user_id AS id, format('%s transactions that never ended', count(*)) AS what
    FROM balance_transactions
    WHERE user_id > :after AND user_id <= :upto AND status = 'PENDING'
    GROUP BY user_id ORDER BY user_id LIMIT :at_most
""")

ORDER_AMOUNTS = text("""
    SELECT orders.id,
           format('%s in all with items of %s, %s off with a coupon of %s, %s to pay', total_amount,
                  coalesce(items.amount, 0), orders.discount_amount, coalesce(coupon.amount, 0), paid_amount)
           AS what
    FROM orders, LATERAL (
        SELECT sum(unit_price * quantity) AS amount FROM order_items WHERE order_id = orders.id
    ) AS items, LATERAL (
        SELECT max(discount_amount) AS amount FROM coupons
        WHERE id = (SELECT coupon_id FROM user_coupons WHERE id = orders.user_coupon_id)
    ) AS coupon
    WHERE orders.id > :after AND orders.id <= :upto AND CASE
        WHEN orders.status IN ('COMPLETED', 'CANCELLED') THEN
            items.amount IS NULL OR total_amount <> items.amount OR paid_amount <> total_amount - orders.discount_amount
            OR orders.discount_amount <> least(coalesce(coupon.amount, 0), total_amount)
        ELSE items.amount IS NOT NULL END
    ORDER BY orders.id LIMIT :at_most
""")

PAYMENTS = text("""
    SELECT orders.id,
           format('%s, %s to pay, paid %s times in full of %s, refunded %s times in full of %s', orders.status,
                  paid_amount, good_payments, payments, good_refunds, refunds) AS what
    FROM orders, LATERAL (
        SELECT count(*) FILTER (WHERE type = 'PAYMENT') AS payments,
               count(*) FILTER (WHERE type = 'REFUND') AS refunds,
               count(*) FILTER (WHERE type = 'PAYMENT' AND right_one) AS good_payments,
               count(*) FILTER (WHERE type = 'REFUND' AND right_one) AS good_refunds
        FROM (
            SELECT type, status = 'COMPLETED' AND amount = orders.paid_amount AND user_id = orders.user_id AS right_one
            FROM balance_transactions WHERE order_id = orders.id
        ) AS each
    ) AS moved
    WHERE orders.id > :after AND orders.id <= :upto AND (
        payments <> CASE WHEN orders.status IN ('COMPLETED', 'CANCELLED') THEN 1 ELSE 0 END
        OR refunds <> CASE orders.status WHEN 'CANCELLED' THEN 1 ELSE 0 END
        OR payments <> good_payments OR refunds <> good_refunds)
    ORDER BY orders.id LIMIT :at_most
""")

REDEMPTIONS = text("""
    SELECT orders.id,
           format('completed with coupon %s, which is %s and user %s''s', user_coupon_id, held.status, held.user_id)
           AS what
    FROM orders, LATERAL (
        SELECT max(status) AS status, max(user_id) AS user_id FROM user_coupons WHERE id = orders.user_coupon_id
    ) AS held
    WHERE orders.id > :after AND orders.id <= :upto AND orders.status = 'COMPLETED' AND user_coupon_id IS NOT NULL
      AND (held.status <> 'USED' OR held.user_id <> orders.user_id)
    ORDER BY orders.id LIMIT :at_most
""")

USED_COUPONS = text("""
    SELECT held.id, 'used, but no completed order redeemed it' AS what
    FROM user_coupons AS held, LATERAL (
        SELECT max(ends_at) AS ends_at, max(version) AS version FROM coupons WHERE id = held.coupon_id
    ) AS coupon
    WHERE held.id > :after AND held.id <= :upto AND held.status = 'USED'
      AND 0 = (SELECT count(*) FROM orders WHERE user_coupon_id = held.id AND status = 'COMPLETED')
      AND 0 = (
          SELECT count(*) FROM orders
          WHERE orders.user_id = held.user_id AND orders.status IN ('COMPLETED', 'CANCELLED')
            AND user_coupon_id = held.id AND (coupon.ends_at <= cancelled_at OR coupon.version > 1))
    ORDER BY held.id LIMIT :at_most
""")
"""A cancellation gives a coupon back unless its time is over. When that was cannot be known any more of a coupon that
was changed since, so a cancelled order excuses those."""

FOLLOWUPS = text("""
    SELECT orders.id,
           format('%s with %s of its follow-ups and %s of a cancellation''s', orders.status, for_order,
                  for_cancellation) AS what
    FROM orders, LATERAL (
        SELECT count(*) FILTER (WHERE kind IN ('HISTORY', 'DATA_PLATFORM', 'STATISTICS')) AS for_order,
               count(*) FILTER (WHERE kind NOT IN ('HISTORY', 'DATA_PLATFORM', 'STATISTICS')) AS for_cancellation
        FROM order_followups WHERE order_id = orders.id
    ) AS planned
    WHERE orders.id > :after AND orders.id <= :upto AND (
        for_order <> CASE WHEN orders.status IN ('COMPLETED', 'CANCELLED') THEN 3 ELSE 0 END
        OR for_cancellation <> CASE orders.status WHEN 'CANCELLED' THEN 4 ELSE 0 END)
    ORDER BY orders.id LIMIT :at_most
""")
"""Follow-ups are unique by order and kind, so the right number of them are the right ones."""

HISTORY = text("""
    SELECT order_id AS id,
           format('%s is %s', event, CASE WHEN told.event_id IS NULL THEN 'done but not in the history'
                                          ELSE 'in the history but not done' END) AS what
    FROM (
        SELECT order_id, id AS followup_id,
               CASE kind WHEN 'HISTORY' THEN 'ORDER_COMPLETED' ELSE 'ORDER_CANCELLED' END AS event
        FROM order_followups
        WHERE order_id > :after AND order_id <= :upto AND kind IN ('HISTORY', 'CANCEL_HISTORY') AND status = 'DONE'
    ) AS done FULL JOIN (
        SELECT order_id, event, id AS event_id
        FROM order_history_events WHERE order_id > :after AND order_id <= :upto
    ) AS told USING (order_id, event)
    WHERE followup_id IS NULL OR event_id IS NULL
    ORDER BY order_id LIMIT :at_most
""")
