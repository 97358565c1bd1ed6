"""The shop's tables: accounts, products, orders and what follows from them. ``tables.py`` has the coupons'."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from engine.ledger.tables import id_column, metadata, moment_column

LARGEST_AMOUNT = 2**53 - 1
"""The most KRW a balance can hold: what every JSON client can represent exactly."""


def _reference(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, ForeignKey(target), nullable=nullable)


def _number(name: str, default: str | None = None, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable, server_default=default)


accounts = Table(
    "accounts",
    metadata,
    id_column("user_id"),
    Column("name", Text),
    _number("balance", "0"),
    moment_column("created_at", default_now=True),
    CheckConstraint("user_id > 0", name="user_positive"),
    CheckConstraint(f"balance BETWEEN 0 AND {LARGEST_AMOUNT}", name="balance_in_range"),
)
"""An account is what makes a user exist."""

products = Table(
    "products",
    metadata,
    id_column(),
    Column("name", Text, nullable=False),
    _number("price"),
    _number("stock"),
    _number("supplied"),
    Column("status", Text, nullable=False),
    _number("version", "1"),
    _number("published_version", "0"),
    moment_column("created_at", default_now=True),
    CheckConstraint("price >= 0", name="price_not_negative"),
    CheckConstraint("stock BETWEEN 0 AND supplied", name="stock_within_supply"),
    CheckConstraint("status IN ('ACTIVE', 'INACTIVE')", name="status_known"),
    Index("ix_products_unpublished", "id", postgresql_where="published_version < version"),
)
"""``stock`` is what completed orders left over; ``supplied`` is all that ever came in, so that adding stock at the gate
can be repeated safely."""

orders = Table(
    "orders",
    metadata,
    id_column(),
    Column("nonce", Text, nullable=False),
    Column("request_id", Text),
    _number("user_id", nullable=True),
    Column("status", Text, nullable=False),
    Column("failure", Text),
    _number("total_amount", "0"),
    _number("discount_amount", "0"),
    _number("paid_amount", "0"),
    _reference("user_coupon_id", "user_coupons.id", nullable=True),
    moment_column("ordered_at", default_now=True),
    moment_column("cancelled_at", nullable=True),
    Column("held", Text),
    UniqueConstraint("nonce"),
    UniqueConstraint("request_id"),
    CheckConstraint("status IN ('COMPLETED', 'FAILED', 'EXPIRED', 'CANCELLED')", name="status_known"),
    CheckConstraint("(status IN ('FAILED', 'EXPIRED')) = (failure IS NOT NULL)", name="failure_named"),
    CheckConstraint("status = 'EXPIRED' OR (user_id IS NOT NULL AND request_id IS NOT NULL)", name="owner_known"),
    CheckConstraint(
        "total_amount >= 0 AND discount_amount BETWEEN 0 AND total_amount "
        "AND paid_amount = total_amount - discount_amount",
        name="amounts_add_up",
    ),
    CheckConstraint("(status = 'CANCELLED') = (cancelled_at IS NOT NULL)", name="cancelled_when_cancelled"),
    Index("ix_orders_user", "user_id", "id", postgresql_where="status IN ('COMPLETED', 'CANCELLED')"),
    Index(
        "uq_orders_redeemed_coupon",
        "user_coupon_id",
        unique=True,
        postgresql_where="status = 'COMPLETED' AND user_coupon_id IS NOT NULL",
    ),
)
"""One row per request that ended. ``nonce`` is the caller's part of the request id: the sweeper that expires a hold and
the drain that settles its order meet at it, and exactly one of them wins. ``held`` are the holds that the order was
made from, ``<lane>:<built epoch>:<deadline>,…``; without a value in orders older than this column, and in expired
holds."""

order_repetitions = Table(
    "order_repetitions",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("nonce", Text, nullable=False),
)
"""Further request ids of an order: its idempotency key was used again after Redis had forgotten it. They end as the
order with this nonce did. A request id with the nonce of an order that is neither the order's nor in here was
forgotten before the ledger heard of it: whoever asked after it was told that it failed, and is told so for ever."""

order_items = Table(
    "order_items",
    metadata,
    Column("order_id", BigInteger, ForeignKey("orders.id"), primary_key=True),
    Column("product_id", BigInteger, ForeignKey("products.id"), primary_key=True),
    Column("name", Text, nullable=False),
    _number("unit_price"),
    _number("quantity"),
    CheckConstraint("unit_price >= 0", name="price_not_negative"),
    CheckConstraint("quantity > 0", name="quantity_positive"),
)

balance_transactions = Table(
    "balance_transactions",
    metadata,
    id_column(),
    _reference("user_id", "accounts.user_id"),
    Column("type", Text, nullable=False),
    _number("amount"),
    _number("balance_after", nullable=True),
    Column("status", Text, nullable=False),
    _reference("order_id", "orders.id", nullable=True),
    moment_column("created_at", default_now=True),
    UniqueConstraint("order_id", "type"),
    CheckConstraint("type IN ('CHARGE', 'PAYMENT', 'REFUND')", name="type_known"),
    CheckConstraint("status IN ('PENDING', 'COMPLETED')", name="status_known"),
    CheckConstraint("amount >= 0", name="amount_not_negative"),
    CheckConstraint("status = 'PENDING' OR balance_after >= 0", name="completed_with_balance"),
    CheckConstraint("(type = 'CHARGE') = (order_id IS NULL)", name="order_named"),
    Index("ix_balance_transactions_user", "user_id", "id"),
)

order_followups = Table(
    "order_followups",
    metadata,
    id_column(),
    _reference("order_id", "orders.id"),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="PENDING"),
    _number("attempts", "0"),
    moment_column("due_at", default_now=True),
    Column("last_error", Text),
    moment_column("created_at", default_now=True),
    UniqueConstraint("order_id", "kind"),
    CheckConstraint(
        "kind IN ('HISTORY', 'DATA_PLATFORM', 'STATISTICS', "
        "'CANCEL_HISTORY', 'CANCEL_DATA_PLATFORM', 'CANCEL_STATISTICS', 'RETURN_STOCK')",
        name="kind_known",
    ),
    CheckConstraint("status IN ('PENDING', 'DONE', 'PARKED')", name="status_known"),
    Index("ix_order_followups_due", "kind", "id", postgresql_where="status = 'PENDING'"),
    Index("ix_order_followups_parked", "kind", "id", postgresql_where="status = 'PARKED'"),
)
"""What is still to be done because of an order, written in the order's own transaction."""

order_history_events = Table(
    "order_history_events",
    metadata,
    id_column(),
    _reference("order_id", "orders.id"),
    Column("event", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    moment_column("occurred_at"),
    UniqueConstraint("order_id", "event"),
    CheckConstraint("event IN ('ORDER_COMPLETED', 'ORDER_CANCELLED')", name="event_known"),
)

product_stats = Table(
    "product_stats",
    metadata,
    Column("product_id", BigInteger, ForeignKey("products.id"), primary_key=True),
    moment_column("hour", primary_key=True),
    _number("quantity"),
    CheckConstraint("hour = date_trunc('hour', hour, 'UTC')", name="on_the_hour"),
    Index("ix_product_stats_hour", "hour"),
)
"""Units of a product in completed orders, by the hour (UTC) in which they were ordered."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("operation", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("answer", JSONB, nullable=False),
    moment_column("created_at", default_now=True),
    Index("ix_idempotency_keys_created_at", "created_at"),
)
"""First answers of charges and cancels, kept at least 24 hours; written in the transaction they answer for."""
