"""Collecting the facts of a rush: from the gate, the API and the ledger, once the outbox is empty."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
from sqlalchemy import select, text

from engine.config import Settings
from engine.context import Engine
from engine.gate import coupons as gate_coupons
from engine.gate import outbox
from engine.ledger import coupons as ledger_coupons
from engine.ledger.tables import user_coupons
from loadtests.verdict import Attempt, Facts, Purpose, Row, Shown
from ops.stack import Stack

DRAIN_PATIENCE_SECONDS = 60.0
READY_PATIENCE_SECONDS = 30.0
ASKING_THREADS = 8


def connect(stack: Stack) -> Engine:
    """An engine on the stack's stores, with as many lanes as its data was built with."""
    settings = Settings(
        redis_url=stack.redis_url,
        queue_redis_url=stack.queue_redis_url,
        database_url=stack.database_url.replace("postgresql://", "postgresql+psycopg://", 1),
    )
    engine = Engine.connect(settings, patient=True)
    lanes = engine.gate.inspect(0).lanes or settings.lanes
    if lanes == settings.lanes:
        return engine
    engine.close()
    return Engine.connect(replace(settings, lanes=lanes), patient=True)


def read_attempts(path: Path) -> list[Attempt]:
    """The whole lines of the crowd's file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [Attempt(**{**each, "purpose": Purpose(each["purpose"])}) for each in found]


def await_drained(engine: Engine) -> int:
    """Wait until the outbox is empty; what is left in it when patience ends."""
    deadline = time.monotonic() + DRAIN_PATIENCE_SECONDS
    while (waiting := outbox.backlog(engine.gate)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return waiting


def await_ready(stack: Stack) -> None:
    """Wait until the stack answers that it is ready: after chaos, its web may just be starting again."""
    deadline = time.monotonic() + READY_PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(stack.address + "readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{stack.address}readyz does not become 200")


def collect(
    stack: Stack,
    engine: Engine,
    coupon_id: int,
    quantity: int,
    attempts: Sequence[Attempt],
    *,
    planned: int,
    chaos: bool,
) -> Facts:
    """Everything the verdict needs, read after the outbox is empty."""
    await_ready(stack)
    backlog = await_drained(engine)
    with engine.ledger.read() as connection:
        winners = select(user_coupons.c.user_id, user_coupons.c.sequence, user_coupons.c.request_id)
        rows = tuple(
            Row(*winner)
            for winner in connection.execute(
                winners.where(user_coupons.c.coupon_id == coupon_id).order_by(user_coupons.c.sequence)
            )
        )
        coupon = ledger_coupons.coupon_by_id(connection, coupon_id)
        quarantined = connection.execute(
            text("SELECT count(*) FROM quarantined_outcomes WHERE fields ->> 'coupon_id' = :id"),
            {"id": str(coupon_id)},
        ).scalar_one()
    accepted = {attempt.request_id for attempt in attempts if attempt.accepted}
    return Facts(
        planned=planned,
        quantity=quantity,
        attempts=tuple(attempts),
        rows=rows,
        shown=_ask_after(stack, sorted(accepted)),
        gate_issued=gate_coupons.issued_count(engine.gate, coupon_id) or 0,
        ledger_issued=0 if coupon is None else coupon.issued,
        backlog=backlog,
        quarantined=int(quarantined),
        chaos=chaos,
    )


def _ask_after(stack: Stack, request_ids: Sequence[str]) -> dict[str, Shown]:
    def ask(some: Sequence[str]) -> list[Shown]:
        with httpx.Client(base_url=f"{stack.address}api/v1", timeout=15) as client:
            return [_shown(client.get(f"/requests/{each}")) for each in some]

    shares = [request_ids[start::ASKING_THREADS] for start in range(ASKING_THREADS)]
    with ThreadPoolExecutor(ASKING_THREADS) as pool:
        answers = pool.map(ask, shares)
        return {
            each: shown
            for some, found in zip(shares, answers, strict=True)
            for each, shown in zip(some, found, strict=True)
        }


def _shown(response: httpx.Response) -> Shown:
    if response.status_code != 200:
        return Shown(str(response.status_code))
    body = response.json()
    result = body["result"] or {}
    return Shown(body["status"], result.get("userId", 0), result.get("sequence", 0))
