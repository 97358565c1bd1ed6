"""What settling writes, one statement for each table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from engine.ledger.orders import Decided, SubmittedOrder, holds_as_text
from engine.ledger.session import RepeatTransaction

INSERT_ORDERS = text("""
    INSERT INTO orders (nonce, request_id, user_id, status, failure, total_amount, discount_amount, paid_amount,
                        user_coupon_id, ordered_at, held)
    SELECT nonce, request_id, user_id, CASE WHEN failure IS NULL THEN 'COMPLETED' ELSE 'FAILED' END, failure,
           total_amount, discount_amount, total_amount - discount_amount, user_coupon_id,
           to_timestamp(decided_at_ms / 1000.0), held
    FROM unnest(CAST(:nonces AS text[]), CAST(:request_ids AS text[]), CAST(:user_ids AS bigint[]),
                CAST(:failures AS text[]), CAST(:total_amounts AS bigint[]), CAST(:discount_amounts AS bigint[]),
                CAST(:user_coupon_ids AS bigint[]), CAST(:decided_at_ms AS bigint[]), CAST(:helds AS text[]))
         WITH ORDINALITY AS decided (nonce, request_id, user_id, failure, total_amount, discount_amount,
                                     user_coupon_id, decided_at_ms, held, place)
    ORDER BY place
    ON CONFLICT (nonce) DO NOTHING
    RETURNING id, nonce
""")

INSERT_REPETITIONS = text("""
    INSERT INTO order_repetitions (request_id, nonce)
    SELECT * FROM unnest(CAST(:request_ids AS text[]), CAST(:nonces AS text[])) AS repeated (request_id, nonce)
    ORDER BY request_id
    ON CONFLICT (request_id) DO NOTHING
""")

INSERT_ITEMS = text("""
    INSERT INTO order_items (order_id, product_id, name, unit_price, quantity)
    SELECT * FROM unnest(CAST(:order_ids AS bigint[]), CAST(:product_ids AS bigint[]), CAST(:names AS text[]),
                         CAST(:unit_prices AS bigint[]), CAST(:quantities AS bigint[]))
""")

INSERT_PAYMENTS = text("""
    INSERT INTO balance_transactions (user_id, type, amount, balance_after, status, order_id)
    SELECT user_id, 'PAYMENT', amount, balance_after, 'COMPLETED', order_id
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]), CAST(:balances_after AS bigint[]),
                CAST(:order_ids AS bigint[])) AS paid (user_id, amount, balance_after, order_id)
""")

DEBIT_ACCOUNTS = text("""
    UPDATE accounts SET balance = settled.balance
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:balances AS bigint[])) AS settled (user_id, balance)
    WHERE accounts.user_id = settled.user_id
""")

REDEEM_COUPONS = text("UPDATE user_coupons SET status = 'USED' WHERE id = ANY(:user_coupon_ids)")

TAKE_STOCK = text("""
    WITH sold AS (
        SELECT * FROM unnest(CAST(:product_ids AS bigint[]), CAST(:quantities AS bigint[])) AS line (id, quantity)
    ), locked AS (
        SELECT id FROM products WHERE id IN (SELECT id FROM sold) ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE products SET stock = stock - sold.quantity
    FROM sold JOIN locked ON locked.id = sold.id
    WHERE products.id = sold.id
""")


def write_settlement(connection: Connection, decided: Sequence[Decided], balances: Mapping[int, int]) -> list[int]:
    """Write what was decided; the ids of the completed orders, in the order given.

    ``balances`` are the final balances by user. Raises RepeatTransaction when another drain recorded one of these
    orders meanwhile: then nothing of the batch may stand.
    """
    ids = _insert_orders(connection, decided)
    completed = [each for each in decided if each.failure is None]
    if not completed:
        return []
    lines = [(ids[each.order.nonce], line) for each in completed for line in each.order.lines]
    connection.execute(
        INSERT_ITEMS,
        {
            "order_ids": [order_id for order_id, _ in lines],
            "product_ids": [line.product_id for _, line in lines],
            "names": [line.name for _, line in lines],
            "unit_prices": [line.unit_price for _, line in lines],
            "quantities": [line.quantity for _, line in lines],
        },
    )
    _pay(connection, completed, ids, balances)
    connection.execute(
        REDEEM_COUPONS, {"user_coupon_ids": [each.user_coupon_id for each in completed if each.user_coupon_id]}
    )
    sold: Counter[int] = Counter()
    for _, line in lines:
        sold[line.product_id] += line.quantity
    connection.execute(TAKE_STOCK, {"product_ids": list(sold.keys()), "quantities": list(sold.values())})
    return [ids[each.order.nonce] for each in completed]


def write_repetitions(connection: Connection, repetitions: Sequence[SubmittedOrder]) -> None:
    """Remember that these requests end as the order that has their nonce."""
    if repetitions:
        values = {
            "request_ids": [order.request_id for order in repetitions],
            "nonces": [order.nonce for order in repetitions],
        }
        connection.execute(INSERT_REPETITIONS, values)


def _insert_orders(connection: Connection, decided: Sequence[Decided]) -> dict[str, int]:
    """Order ids by nonce."""
    rows = connection.execute(
        INSERT_ORDERS,
        {
            "nonces": [each.order.nonce for each in decided],
            "request_ids": [each.order.request_id for each in decided],
            "user_ids": [each.order.user_id for each in decided],
            "failures": [each.failure for each in decided],
            "total_amounts": [each.order.total_amount for each in decided],
            "discount_amounts": [each.discount_amount for each in decided],
            "user_coupon_ids": [each.user_coupon_id for each in decided],
            "decided_at_ms": [each.order.decided_at_ms for each in decided],
            "helds": [holds_as_text(each.order.held) for each in decided],
        },
    )
    ids = {row.nonce: row.id for row in rows}
    if len(ids) != len(decided):
        raise RepeatTransaction
    return ids


def _pay(
    connection: Connection, completed: Sequence[Decided], ids: Mapping[str, int], balances: Mapping[int, int]
) -> None:
    connection.execute(
        INSERT_PAYMENTS,
        {
            "user_ids": [each.order.user_id for each in completed],
            "amounts": [each.paid_amount for each in completed],
            "balances_after": [each.balance_after for each in completed],
            "order_ids": [ids[each.order.nonce] for each in completed],
        },
    )
    payers = sorted({each.order.user_id for each in completed})
    connection.execute(DEBIT_ACCOUNTS, {"user_ids": payers, "balances": [balances[payer] for payer in payers]})
