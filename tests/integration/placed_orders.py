"""Orders as the ledger has them once they are settled, for tests of what follows from orders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, event, text

from engine.context import Engine
from engine.ledger.followups import FollowupKind, plan
from ops.processes import PROJECT_ROOT, free_port

SECRET = "hush"
"""What the stand-in for the data platform expects deliveries to be signed with."""
ORDERED_AT = datetime(2030, 5, 1, 12, 34, 56, 789000, tzinfo=UTC)
CANCELLED_AT = datetime(2030, 5, 3, 1, 2, 3, tzinfo=UTC)

_numbers = count(1)


def add_product(engine: Engine, name: str = "감귤", product_id: int | None = None) -> int:
    """A product in the ledger; its id."""
    with engine.ledger.transaction() as connection:
        if product_id is None:
            product_id = connection.execute(text("SELECT coalesce(max(id), 0) + 1 FROM products")).scalar_one()
        connection.execute(
            text("""
                INSERT INTO products (id, name, price, stock, supplied, status)
                VALUES (:id, :name, 1000, 1000, 1000, 'ACTIVE')
            """),
            {"id": product_id, "name": name},
        )
    return int(product_id)


def add_order(
    engine: Engine,
    quantities: Mapping[int, int],
    kinds: Sequence[FollowupKind] = (),
    *,
    ordered_at: datetime = ORDERED_AT,
    cancelled: bool = False,
) -> int:
    """An order of user 7 with these units by product, and its follow-ups, committed together; its id."""
    number = next(_numbers)
    total = 1000 * sum(quantities.values())

    def work(connection: Connection) -> int:
        order_id = connection.execute(
            text("""
                INSERT INTO orders (nonce, request_id, user_id, status, total_amount, discount_amount, paid_amount,
                                    ordered_at, cancelled_at)
                VALUES (:nonce, :nonce, 7, :status, :total, 100, :total - 100, :ordered_at, :cancelled_at)
                RETURNING id
            """),
            {
                "nonce": f"nonce-{number}",
                "status": "CANCELLED" if cancelled else "COMPLETED",
                "total": total,
                "ordered_at": ordered_at,
                "cancelled_at": CANCELLED_AT if cancelled else None,
            },
        ).scalar_one()
        connection.execute(
            text("""
                INSERT INTO order_items (order_id, product_id, name, unit_price, quantity)
                VALUES (:order_id, :product_id, (SELECT name FROM products WHERE id = :product_id), 1000, :quantity)
            """),
            [
                {"order_id": order_id, "product_id": product_id, "quantity": quantity}
                for product_id, quantity in quantities.items()
            ],
        )
        plan(connection, [order_id], kinds)
        return int(order_id)

    return engine.ledger.run(work)


def rows(engine: Engine, query: str, **values: Any) -> list[Any]:
    """The rows of a query, as tuples."""
    with engine.ledger.read() as connection:
        return [tuple(row) for row in connection.execute(text(query), values)]


def execute(engine: Engine, statement: str, **values: Any) -> None:
    """One statement, committed."""
    with engine.ledger.transaction() as connection:
        connection.execute(text(statement), values)


def statuses(engine: Engine) -> dict[tuple[int, str], str]:
    """The status of every follow-up by order id and kind."""
    found = rows(engine, "SELECT order_id, kind, status FROM order_followups")
    return {(order_id, kind): status for order_id, kind, status in found}


def make_due(engine: Engine) -> None:
    """Let the time come of everything that waits, without waiting for it."""
    execute(engine, "UPDATE order_followups SET due_at = now() WHERE status = 'PENDING'")


def stats(engine: Engine) -> dict[tuple[int, datetime], int]:
    """Units by product id and hour."""
    found = rows(engine, "SELECT product_id, hour, quantity FROM product_stats")
    return {(product_id, hour): quantity for product_id, hour, quantity in found}


def with_settings(engine: Engine, **changes: Any) -> Engine:
    """Another engine, as another process would have one."""
    return Engine.connect(replace(engine.settings, **changes))


def without_redis(engine: Engine) -> Engine:
    """The same ledger, but nobody listens where Redis should be."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    return with_settings(engine, redis_url=url, queue_redis_url=url)


def without_ledger(engine: Engine) -> Engine:
    """The same Redis, but nobody listens where Postgres should be."""
    return with_settings(engine, database_url=f"postgresql+psycopg://postgres@127.0.0.1:{free_port()}/nobody")


@contextmanager
def statements_of(engine: Engine, part: str) -> Iterator[list[str]]:
    """The statements that this engine sends and that contain ``part``, as they are sent."""
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        if part in arguments[2]:
            sent.append(arguments[2])

    event.listen(engine.ledger.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine.ledger.engine, "before_cursor_execute", note)


def killed_at(engine: Engine, place: str) -> None:
    """Let a worker process work and kill it (SIGKILL) when it comes to ``place``, a function of the ledger's part."""
    settings = engine.settings
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; from engine.config import Settings; from engine.context import Engine\n"
            "from engine.flow import followups; from engine.ledger import followups as ledger_followups\n"
            f"ledger_followups.{place} = lambda *_, **__: os.kill(os.getpid(), 9)\n"
            "followups.work_off(Engine.connect(Settings.from_environment()))\n",
        ],
        cwd=PROJECT_ROOT,
        env={
            **os.environ,
            "REDIS_URL": settings.redis_url,
            "DATABASE_URL": settings.database_url,
            "LANES": str(settings.lanes),
            "DATA_PLATFORM_URL": settings.data_platform_url,
            "DATA_PLATFORM_SECRET": settings.data_platform_secret,
        },
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
