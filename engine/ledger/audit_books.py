"""The audit of the ledger's own books: sums that have to be equal, each compared within one snapshot of Postgres.

A query returns what is wrong and nothing else, as an id and words. Orders, accounts and used coupons are looked at in
pages of their key, ``(after, upto]``; two questions (units and statistics) sum over all orders and are asked in one
statement each, whose memory Postgres bounds. Pages need not belong to one instant: every identity is about rows that
change in one transaction, so it holds in any snapshot.
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
    rows = connection.execute(_COUPONS, {"coupon_ids": list(coupon_ids)})
    return [Wrong(row.id, row.what) for row in rows]


def wrong_sums(connection: Connection, query: TextClause) -> list[Wrong]:
    """What one of the two sums over all orders finds wrong."""
    connection.execute(text(f"SET LOCAL statement_timeout = '{SUM_SECONDS}s'"))
    # One core, as the rest of the audit: its cost is what its time is.
    connection.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
    rows = connection.execute(query, {"at_most": WRONG_AT_MOST})
    return [Wrong(row.id, row.what) for row in rows]


_COUPONS = text("""
    SELECT coupons.id,
           format('%s issued of %s, %s recorded, numbered %s to %s', issued, total_quantity, coalesce(held.count, 0),
                  coalesce(lowest, 0), coalesce(highest, 0)) AS what
    FROM coupons LEFT JOIN (
        SELECT coupon_id, count(*) AS count, min(sequence) AS lowest, max(sequence) AS highest
        FROM user_coupons WHERE coupon_id = ANY(CAST(:coupon_ids AS bigint[])) GROUP BY coupon_id
    ) AS held ON held.coupon_id = coupons.id
    WHERE coupons.id = ANY(CAST(:coupon_ids AS bigint[])) AND (
        issued > total_quantity OR issued <> coalesce(held.count, 0) OR issued <> coalesce(highest, 0)
        OR coalesce(lowest, 1) <> 1)
    ORDER BY coupons.id
""")
"""Places are unique by coupon, so as many as the highest one, beginning with 1, are all of them."""

UNITS = text("""
    SELECT products.id, format('%s in stock of %s supplied, %s sold', stock, supplied, coalesce(sold.units, 0)) AS what
    FROM products LEFT JOIN (
        SELECT product_id, sum(quantity) AS units
        FROM order_items JOIN orders ON orders.id = order_items.order_id
        WHERE orders.status = 'COMPLETED' GROUP BY product_id
    ) AS sold ON sold.product_id = products.id
    WHERE stock <> supplied - coalesce(sold.units, 0) OR stock < 0
    ORDER BY products.id LIMIT :at_most
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
                  coalesce(CAST(last.balance_after AS text), 'nothing')) AS what
    FROM accounts
    LEFT JOIN (
        SELECT user_id, sum(CASE type WHEN 'PAYMENT' THEN -amount ELSE amount END) AS amount, max(id) AS last_id
        FROM balance_transactions
        WHERE user_id > :after AND user_id <= :upto AND status = 'COMPLETED' GROUP BY user_id
    ) AS moved ON moved.user_id = accounts.user_id
    LEFT JOIN balance_transactions AS last ON last.id = moved.last_id
    WHERE accounts.user_id > :after AND accounts.user_id <= :upto
      AND (balance <> coalesce(moved.amount, 0) OR balance <> coalesce(last.balance_after, 0))
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
                  coalesce(items.amount, 0), orders.discount_amount, coalesce(coupons.discount_amount, 0), paid_amount)
           AS what
    FROM orders
    LEFT JOIN (
        SELECT order_id, sum(unit_price * quantity) AS amount
        FROM order_items WHERE order_id > :after AND order_id <= :upto GROUP BY order_id
    ) AS items ON items.order_id = orders.id
    LEFT JOIN user_coupons ON user_coupons.id = orders.user_coupon_id
    LEFT JOIN coupons ON coupons.id = user_coupons.coupon_id
    WHERE orders.id > :after AND orders.id <= :upto AND CASE
        WHEN orders.status IN ('COMPLETED', 'CANCELLED') THEN
            items.amount IS NULL OR total_amount <> items.amount OR paid_amount <> total_amount - orders.discount_amount
            OR orders.discount_amount <> least(coalesce(coupons.discount_amount, 0), total_amount)
        ELSE items.amount IS NOT NULL END
    ORDER BY orders.id LIMIT :at_most
""")

PAYMENTS = text("""
    SELECT orders.id,
           format('%s, %s to pay, paid %s times in full of %s, refunded %s times in full of %s', orders.status,
                  paid_amount, coalesce(good_payments, 0), coalesce(payments, 0), coalesce(good_refunds, 0),
                  coalesce(refunds, 0)) AS what
    FROM orders LEFT JOIN (
        SELECT moved.order_id,
               count(*) FILTER (WHERE moved.type = 'PAYMENT') AS payments,
               count(*) FILTER (WHERE moved.type = 'REFUND') AS refunds,
               count(*) FILTER (WHERE moved.type = 'PAYMENT' AND right_one) AS good_payments,
               count(*) FILTER (WHERE moved.type = 'REFUND' AND right_one) AS good_refunds
        FROM (
            SELECT moved.order_id, moved.type, moved.status = 'COMPLETED' AND moved.amount = orders.paid_amount
                   AND moved.user_id = orders.user_id AS right_one
            FROM balance_transactions AS moved JOIN orders ON orders.id = moved.order_id
            WHERE moved.order_id > :after AND moved.order_id <= :upto
        ) AS moved GROUP BY moved.order_id
    ) AS moved ON moved.order_id = orders.id
    WHERE orders.id > :after AND orders.id <= :upto AND (
        coalesce(payments, 0) <> CASE WHEN orders.status IN ('COMPLETED', 'CANCELLED') THEN 1 ELSE 0 END
        OR coalesce(refunds, 0) <> CASE orders.status WHEN 'CANCELLED' THEN 1 ELSE 0 END
        OR payments <> good_payments OR refunds <> good_refunds)
    ORDER BY orders.id LIMIT :at_most
""")

REDEMPTIONS = text("""
    SELECT orders.id,
           format('completed with coupon %s, which is %s and user %s''s', user_coupons.id, user_coupons.status,
                  user_coupons.user_id) AS what
    FROM orders JOIN user_coupons ON user_coupons.id = orders.user_coupon_id
    WHERE orders.id > :after AND orders.id <= :upto AND orders.status = 'COMPLETED'
      AND (user_coupons.status <> 'USED' OR user_coupons.user_id <> orders.user_id)
    ORDER BY orders.id LIMIT :at_most
""")

USED_COUPONS = text("""
    SELECT held.id, 'used, but no completed order redeemed it' AS what
    FROM user_coupons AS held JOIN coupons ON coupons.id = held.coupon_id
    WHERE held.id > :after AND held.id <= :upto AND held.status = 'USED'
      AND NOT EXISTS (SELECT FROM orders WHERE user_coupon_id = held.id AND status = 'COMPLETED')
      AND NOT EXISTS (
          SELECT FROM orders
          WHERE orders.user_id = held.user_id AND orders.status IN ('COMPLETED', 'CANCELLED')
            AND user_coupon_id = held.id AND (coupons.ends_at <= cancelled_at OR coupons.version > 1))
    ORDER BY held.id LIMIT :at_most
""")
"""A cancellation gives a coupon back unless its time is over. When that was cannot be known any more of a coupon that
was changed since, so a cancelled order excuses those."""

FOLLOWUPS = text("""
    SELECT orders.id,
           format('%s with %s of its follow-ups and %s of a cancellation''s', orders.status,
                  coalesce(for_order, 0), coalesce(for_cancellation, 0)) AS what
    FROM orders LEFT JOIN (
        SELECT order_id,
               count(*) FILTER (WHERE kind IN ('HISTORY', 'DATA_PLATFORM', 'STATISTICS')) AS for_order,
               count(*) FILTER (WHERE kind NOT IN ('HISTORY', 'DATA_PLATFORM', 'STATISTICS')) AS for_cancellation
        FROM order_followups WHERE order_id > :after AND order_id <= :upto GROUP BY order_id
    ) AS planned ON planned.order_id = orders.id
    WHERE orders.id > :after AND orders.id <= :upto AND (
        coalesce(for_order, 0) <> CASE WHEN orders.status IN ('COMPLETED', 'CANCELLED') THEN 3 ELSE 0 END
        OR coalesce(for_cancellation, 0) <> CASE orders.status WHEN 'CANCELLED' THEN 4 ELSE 0 END)
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
