"""The drain and the settlement of orders, against simpler ways to get the same rows into the ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy import text

import engine.flow.drain as engine_drain
from engine.context import Engine
from engine.gate import outbox
from engine.gate.clients import connect_queue
from engine.ledger import coupons as ledger_coupons
from engine.outcomes import IssueStatus
from loadtests.benchmark.decisions import TOGETHER, decide
from loadtests.benchmark.own_engine import drain_all, insist, timed
from loadtests.benchmark.results import Figure, Results, at_least, ratios
from loadtests.benchmark.shop import offer_coupon, open_shop, place_orders

SECTION = "The drain"
FASTER_THAN_JOBS = at_least(150.0)
OF_THE_FLOOR = at_least(0.6)
FASTER_THAN_SINGLY = at_least(15.0)
QUEUE = "benchmark"
PARTS = (
    ("drain-reads", "… of its time, reading the outbox", outbox, "read_head"),
    ("drain-writes", "… writing the rows and counting them at their coupons", ledger_coupons, "record_issuances"),
    ("drain-removes", "… taking them out of the outbox", outbox, "remove"),
)
"""Where the drain's time goes: key, title, module and function. The rest is its own: objects, fence, transaction."""

_OUTCOMES = text("""
    SELECT request_id, user_id, sequence, issued_at FROM user_coupons WHERE coupon_id = :coupon_id ORDER BY sequence
""")
_PLAIN = text("""
    INSERT INTO user_coupons (request_id, coupon_id, user_id, sequence, issued_at)
    SELECT request_id, :coupon_id, user_id, sequence, issued_at
    FROM unnest(CAST(:request_ids AS text[]), CAST(:user_ids AS bigint[]), CAST(:sequences AS bigint[]),
                CAST(:moments AS timestamptz[])) AS outcomes (request_id, user_id, sequence, issued_at)
""")
_ONE = text("""
    INSERT INTO user_coupons (request_id, coupon_id, user_id, sequence, issued_at)
    VALUES (:request_id, :coupon_id, :user_id, :sequence, now())
""")
_COMPLETED = text("SELECT count(*) FROM orders WHERE status = 'COMPLETED'")
_ROWS = text("SELECT count(*) FROM user_coupons WHERE coupon_id = :coupon_id")


@dataclass(frozen=True)
class Sizes:
    """How much is done for each figure."""

    outcomes: int = 20_000
    jobs: int = 1_000
    orders: int = 10_000
    single_orders: int = 500


_engine: Engine | None = None
"""What the jobs below work on: they run in this process."""


def record_one(coupon_id: int, user_id: int) -> None:
    """One outcome, one job, one transaction: the obvious way to write later what was decided now."""
    insist(_engine is not None, "the job runs outside of the benchmark")
    if _engine is not None:
        values = {"request_id": f"job.{coupon_id}.{user_id}", "coupon_id": coupon_id, "user_id": user_id}
        with _engine.ledger.transaction() as connection:
            connection.execute(_ONE, {**values, "sequence": user_id})


def measure_drain(engine: Engine, results: Results, sizes: Sizes, rounds: int, tell: Callable[[str], None]) -> None:
    """Outcomes per second: by the drain, by plain inserts of the same rows, by a job for each; in turns."""
    drained, plain, jobs, spent = [], [], [], []
    for number in range(1, rounds + 1):
        coupon_id = offer_coupon(engine, sizes.outcomes)
        _decide_all(engine, coupon_id, sizes.outcomes)
        with _parts_timed() as seconds:
            drained.append(timed(sizes.outcomes, lambda: drain_all(engine)))
        spent.append(seconds)
        insist(_rows(engine, coupon_id) == sizes.outcomes, "the drain did not write every row")
        plain.append(_insert_the_same(engine, coupon_id))
        jobs.append(_work_jobs(engine, sizes.jobs))
        tell(f"drain {number}/{rounds}: {drained[-1]:,.0f}/s, plain {plain[-1]:,.0f}/s, jobs {jobs[-1]:,.0f}/s")
    results.figures += [
        Figure("drain/job", SECTION, "drain ÷ an RQ job per outcome", ratios(drained, jobs), "×", FASTER_THAN_JOBS,
               _per_second(drained, jobs)),
        Figure("drain/floor", SECTION, "drain ÷ plain INSERT of the same rows", ratios(drained, plain), "×",
               OF_THE_FLOOR, _per_second(drained, plain)),
        *(_share(key, title, [each[key] for each in spent], drained, sizes) for key, title, *_ in PARTS),
    ]  # fmt: skip


def measure_settling(engine: Engine, results: Results, sizes: Sizes, rounds: int, tell: Callable[[str], None]) -> None:
    """Orders per second: settled in batches, and one transaction each; in turns."""
    shop = open_shop(engine)
    together, singly = [], []
    for number in range(1, rounds + 1):
        place_orders(engine, shop, sizes.single_orders)
        singly.append(timed(sizes.single_orders, lambda: drain_all(engine, 1)))
        place_orders(engine, shop, sizes.orders)
        together.append(timed(sizes.orders, lambda: drain_all(engine)))
        tell(f"settling {number}/{rounds}: {together[-1]:,.0f}/s in batches, {singly[-1]:,.0f}/s one by one")
    with engine.ledger.read() as connection:
        completed = connection.execute(_COMPLETED).scalar_one()
    insist(completed == rounds * (sizes.orders + sizes.single_orders), "not every order was completed")
    results.figures.append(
        Figure("settled/singly", SECTION, "orders settled ÷ one transaction each", ratios(together, singly), "×",
               FASTER_THAN_SINGLY, _per_second(together, singly))
    )  # fmt: skip


@contextmanager
def _parts_timed() -> Iterator[dict[str, float]]:
    """Seconds in each of PARTS while this lasts, by key."""
    seconds = {key: 0.0 for key, *_ in PARTS}

    def timing(key: str, part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return part(*arguments)
            finally:
                seconds[key] += time.perf_counter() - started

        return run

    with ExitStack() as patches:
        for key, _, module, name in PARTS:
            patches.enter_context(mock.patch.object(module, name, timing(key, getattr(module, name))))
        yield seconds


def _share(key: str, title: str, seconds: Sequence[float], per_second: Sequence[float], sizes: Sizes) -> Figure:
    """What a part takes of the time in which so many outcomes were drained."""
    shares = tuple(100 * each * rate / sizes.outcomes for each, rate in zip(seconds, per_second, strict=True))
    return Figure(key, SECTION, title, shares, "%")


def _decide_all(engine: Engine, coupon_id: int, outcomes: int) -> None:
    for start in range(1, outcomes + 1, TOGETHER):
        answers = decide(engine, coupon_id, range(start, min(start + TOGETHER, outcomes + 1)))
        insist(all(answer.status is IssueStatus.ISSUED for answer in answers), "a coupon was refused")


def _insert_the_same(engine: Engine, coupon_id: int) -> float:
    """Rows per second of the floor: rows like those of this coupon, for another one, in batches like the drain's.

    The same table with its indexes and checks, one process, nothing read, counted or told to anybody.
    """
    with engine.ledger.read() as connection:
        rows = connection.execute(_OUTCOMES, {"coupon_id": coupon_id}).all()
    other = offer_coupon(engine, len(rows))
    size = engine_drain.BATCH_LIMIT
    batches: list[dict[str, Any]] = [
        {
            "coupon_id": other,
            # As long as they were, and nobody's yet.
            "request_ids": ["x" + row.request_id[1:] for row in rows[start : start + size]],
            "user_ids": [row.user_id for row in rows[start : start + size]],
            "sequences": [row.sequence for row in rows[start : start + size]],
            "moments": [row.issued_at for row in rows[start : start + size]],
        }
        for start in range(0, len(rows), size)
    ]

    def insert() -> None:
        for batch in batches:
            with engine.ledger.transaction() as connection:
                connection.execute(_PLAIN, batch)

    per_second = timed(len(rows), insert)
    insist(_rows(engine, other) == len(rows), "the plain way did not write every row")
    return per_second


def _work_jobs(engine: Engine, jobs: int) -> float:
    """Jobs per second of a worker like the project's own, which forks for none of them."""
    global _engine
    coupon_id = offer_coupon(engine, jobs)
    connection = connect_queue(engine.settings.queue_redis_url)
    queue: Any = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    for user_id in range(1, jobs + 1):
        queue.enqueue(record_one, coupon_id, user_id, result_ttl=0)
    logging.getLogger("rq").setLevel(logging.ERROR)
    worker = SimpleWorker([queue], connection=connection, serializer=JSONSerializer)
    _engine = engine
    try:
        per_second = timed(jobs, lambda: insist(bool(worker.work(burst=True, logging_level="ERROR")), "no job ran"))
    finally:
        _engine = None
        connection.close()
    insist(_rows(engine, coupon_id) == jobs, "the jobs did not write every row")
    return per_second


def _rows(engine: Engine, coupon_id: int) -> int:
    with engine.ledger.read() as connection:
        return int(connection.execute(_ROWS, {"coupon_id": coupon_id}).scalar_one())


def _per_second(ours: Sequence[float], others: Sequence[float]) -> str:
    return f"{sorted(ours)[len(ours) // 2]:,.0f}/s, {sorted(others)[len(others) // 2]:,.0f}/s"
