"""Units sold by product and hour, and what sells best.

A bucket is a whole hour in UTC, the one in which the order was placed. A cancellation takes its units from the same
bucket, whenever it comes: the two are independent sums, so their order does not matter, and a bucket may be negative
for as long as only the cancellation has been counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

WINDOW = timedelta(hours=72)


class ProductSales(NamedTuple):
    """Units of a product sold within the window."""

    product_id: int
    name: str
    total_sales: int


# In key order, so that two workers that count at once wait for each other and cannot deadlock.
_COUNT = text("""
    INSERT INTO product_stats (product_id, hour, quantity)
    SELECT items.product_id, date_trunc('hour', orders.ordered_at, 'UTC') AS hour,
           CAST(sum(items.quantity * :sign) AS bigint)
    FROM orders JOIN order_items AS items ON items.order_id = orders.id
    WHERE orders.id = ANY(:order_ids)
    GROUP BY items.product_id, hour
    ORDER BY items.product_id, hour
    ON CONFLICT (product_id, hour) DO UPDATE SET quantity = product_stats.quantity + excluded.quantity
""")

_BEST_SELLERS = text("""
    SELECT products.id, products.name, CAST(sum(stats.quantity) AS bigint) AS total_sales
    FROM product_stats AS stats JOIN products ON products.id = stats.product_id
    WHERE stats.hour >= :since AND stats.hour <= :now
    GROUP BY products.id
    HAVING sum(stats.quantity) > 0
    ORDER BY total_sales DESC, products.id
    LIMIT :limit
""")


def add_sales(connection: Connection, order_ids: Sequence[int]) -> None:
    """Count the units of these orders. Repeating it counts them again: mark them done in the same transaction."""
    connection.execute(_COUNT, {"order_ids": list(order_ids), "sign": 1})


def take_sales_back(connection: Connection, order_ids: Sequence[int]) -> None:
    """Count the units of these orders out again; as :func:`add_sales` otherwise."""
    connection.execute(_COUNT, {"order_ids": list(order_ids), "sign": -1})


def best_sellers(connection: Connection, now: datetime, limit: int) -> list[ProductSales]:
    """The products sold most within the last 72 hours before ``now`` (aware), ties by id; only what sold at all.

    The buckets are those whose hour began within the window, the running one included. So a sale counts for at least
    71 hours, and nothing counts that is older than 72.
    """
    values = {"since": now - WINDOW, "now": now, "limit": limit}
    return [ProductSales(row.id, row.name, row.total_sales) for row in connection.execute(_BEST_SELLERS, values)]
