"""``python -m loadtests.benchmark``: what the design buys, as ratios measured in one run on one machine.

On private stores of its own, with Postgres' commits on disk. Exit code 1 when a promise is not kept.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from sqlalchemy import text

import engine.flow.drain as engine_drain
from engine.config import Settings
from engine.context import Engine
from engine.gate import coupons as gate_coupons
from engine.gate.coupons import IssueAsk
from engine.ledger.schema import migrate
from engine.outcomes import IssueStatus, Submitted
from engine.shop import coupon_offers
from engine.shop.coupon_offers import NewCoupon
from engine.shop.orders import OrderAsk, place_order
from engine.shop.product_offers import NewProduct, ProductView, create_product
from engine.upkeep.guard import watch_lanes
from loadtests.lock_baseline import issue_under_a_lock
from loadtests.private_stack import private_folder
from ops.postgres import start_postgres
from ops.processes import free_port
from ops.valkey import start_valkey

THREADS = 8
DECISIONS = 50_000
SINGLE_DECISIONS = 2_000
LOCKED_ISSUES = 1_000
ORDERS = 10_000
SINGLE_ORDERS = 500
PRODUCTS = 20
BUYERS = 1_000
SOLD_OUT_ATTEMPTS = 100_000
WARM_UP_ATTEMPTS = 2_000

LEAST_DRAINED_PER_SECOND = 10_000
LEAST_SETTLED_PER_SECOND = 3_000
LEAST_SETTLING_RATIO = 10.0
MOST_MEMORY_GROWTH = 0.01


@dataclass(frozen=True)
class Comparison:
    """Two ways to do one thing, in things per second."""

    name: str
    ours: float
    baseline_name: str
    baseline: float

    @property
    def ratio(self) -> float:
        return self.ours / self.baseline

    def __str__(self) -> str:
        ours, baseline = f"{self.ours:>9,.0f} /s", f"{self.baseline:>7,.0f} /s"
        return f"{self.name:<28} {ours}   {self.baseline_name:<35} {baseline}   {self.ratio:>6.1f}x"


@dataclass(frozen=True)
class Memory:
    """Bytes that Redis uses before and after attempts that are refused."""

    before: int
    after: int

    @property
    def growth(self) -> float:
        return (self.after - self.before) / self.before

    def __str__(self) -> str:
        return (
            f"memory over {SOLD_OUT_ATTEMPTS:,} sold-out attempts: "
            f"{self.before:,} bytes before, {self.after:,} after, {self.growth:+.2%}"
        )


def main() -> int:
    """Measure everything, print it; the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    with _engine() as engine:
        print(f"{THREADS} threads; fsync and synchronous_commit are on", flush=True)
        issuing, drained = compare_coupons(engine)
        print(f"{drained}\n{issuing}", flush=True)
        settled = compare_orders(engine)
        print(settled, flush=True)
        memory = measure_memory(engine)
        print(memory, flush=True)
    broken = broken_promises(drained, settled, memory)
    for promise in broken:
        print(f"MISSED: {promise}")
    return 1 if broken else 0


def broken_promises(drained: Comparison, settled: Comparison, memory: Memory) -> list[str]:
    """What was promised and not kept, in words."""
    kept = {
        f"drain at least {LEAST_DRAINED_PER_SECOND:,} outcomes/s": drained.ours >= LEAST_DRAINED_PER_SECOND,
        f"settle at least {LEAST_SETTLED_PER_SECOND:,} orders/s": settled.ours >= LEAST_SETTLED_PER_SECOND,
        f"settle at least {LEAST_SETTLING_RATIO:.0f} times as fast": settled.ratio >= LEAST_SETTLING_RATIO,
        f"memory within {MOST_MEMORY_GROWTH:.0%}": abs(memory.growth) <= MOST_MEMORY_GROWTH,
    }
    return [promise for promise, holds in kept.items() if not holds]


def compare_coupons(engine: Engine) -> tuple[Comparison, Comparison]:
    """Issuing against a lock, and the drain against one transaction for each outcome."""
    coupon_id = _coupon(engine, SINGLE_DECISIONS)
    _timed(SINGLE_DECISIONS, lambda: _issue(engine, coupon_id, SINGLE_DECISIONS))
    drained_singly = _timed(SINGLE_DECISIONS, lambda: _drain(engine, 1))

    coupon_id = _coupon(engine, DECISIONS)
    issued = _timed(DECISIONS, lambda: _issue(engine, coupon_id, DECISIONS))
    drained = _timed(DECISIONS, lambda: _drain(engine, engine_drain.BATCH_LIMIT))

    coupon_id = _coupon(engine, LOCKED_ISSUES)
    locked = _timed(
        LOCKED_ISSUES,
        lambda: _share_out(LOCKED_ISSUES, lambda user_id: _insist(issue_under_a_lock(engine, coupon_id, user_id))),
    )
    return (
        Comparison("issuing by the script", issued, "by a lock and SELECT … FOR UPDATE", locked),
        Comparison("draining coupons in batches", drained, "one transaction each", drained_singly),
    )


def compare_orders(engine: Engine) -> Comparison:
    """Settling whole batches against one order in each transaction."""
    product_ids = _shop(engine)
    _place(engine, product_ids, SINGLE_ORDERS)
    singly = _timed(SINGLE_ORDERS, lambda: _drain(engine, 1))
    _place(engine, product_ids, ORDERS)
    settled = _timed(ORDERS, lambda: _drain(engine, engine_drain.BATCH_LIMIT))
    with engine.ledger.read() as connection:
        completed = connection.execute(text("SELECT count(*) FROM orders WHERE status = 'COMPLETED'")).scalar_one()
    _insist(completed == ORDERS + SINGLE_ORDERS)
    return Comparison("settling orders in batches", settled, "one transaction each", singly)


def measure_memory(engine: Engine) -> Memory:
    """Refusals must leave nothing behind: a crowd that comes too late costs no memory."""
    coupon_id = _coupon(engine, 1)
    _issue(engine, coupon_id, 1)
    _drain(engine, engine_drain.BATCH_LIMIT)

    def refuse(user_id: int) -> None:
        _insist(_ask(engine, coupon_id, user_id) is IssueStatus.SOLD_OUT)

    _share_out(WARM_UP_ATTEMPTS, refuse, first=2)  # connections have buffers, too
    before = _memory(engine)
    _share_out(SOLD_OUT_ATTEMPTS, refuse, first=2)
    return Memory(before, _memory(engine))


@contextmanager
def _engine() -> Iterator[Engine]:
    with private_folder() as folder:
        valkey = start_valkey(folder / "valkey", free_port())
        try:
            postgres = start_postgres(folder / "postgres", free_port())
            try:
                database_url = postgres.url.replace("postgresql://", "postgresql+psycopg://", 1)
                engine = Engine.connect(Settings(valkey.url, valkey.url, database_url), patient=True)
                migrate(engine.ledger)
                watch_lanes(engine)
                yield engine
                engine.close()
            finally:
                postgres.stop()
        finally:
            valkey.stop()


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)  # through the context managers, which stop what was started


def _coupon(engine: Engine, quantity: int) -> int:
    new = NewCoupon(f"{quantity} coupons", 1000, quantity, None, None, "ACTIVE")
    made = coupon_offers.create_coupon(engine, new)
    assert isinstance(made, coupon_offers.CouponOverview)  # noqa: S101 - nothing claims this name twice
    return made.id


def _issue(engine: Engine, coupon_id: int, quantity: int) -> None:
    def issue(user_id: int) -> None:
        _insist(_ask(engine, coupon_id, user_id) is IssueStatus.ISSUED)

    _share_out(quantity, issue)


def _ask(engine: Engine, coupon_id: int, user_id: int) -> IssueStatus:
    lane = gate_coupons.lane_of_coupon(engine.gate, coupon_id)
    return gate_coupons.issue(engine.gate, lane, [IssueAsk(coupon_id, user_id)]).decisions[0].status


def _shop(engine: Engine) -> list[int]:
    with engine.ledger.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO accounts (user_id, balance) SELECT id, 1000000000 FROM generate_series(1, :buyers) AS id"
            ),
            {"buyers": BUYERS},
        )
    made = [
        create_product(engine, NewProduct(f"상품 {number}", 1000, ORDERS * 2, "ACTIVE")) for number in range(PRODUCTS)
    ]
    return [product.id for product in made if isinstance(product, ProductView)]


def _place(engine: Engine, product_ids: Sequence[int], count: int) -> None:
    def place(number: int) -> None:
        first, second = (product_ids[(number + step) % len(product_ids)] for step in (0, 1))
        quantities = tuple(sorted({first: 1, second: 1}.items()))
        placed = place_order(engine, OrderAsk(number % BUYERS + 1, quantities))
        _insist(isinstance(placed, Submitted))

    _share_out(count, place)


def _drain(engine: Engine, batch_limit: int) -> None:
    """Empty the outbox by the real drain, in batches of at most this many; without its pauses between small ones."""
    usual, engine_drain.BATCH_LIMIT = engine_drain.BATCH_LIMIT, batch_limit
    report = engine_drain.DrainReport(lane=0)
    try:
        while engine_drain.drain_batch(engine, report):
            pass
    finally:
        engine_drain.BATCH_LIMIT = usual
    _insist(report.quarantined == 0)


def _share_out(count: int, work: Callable[[int], None], first: int = 1) -> None:
    """Do ``work`` for ``count`` numbers from ``first`` on, in THREADS threads; raises what it raises."""

    def do(start: int) -> None:
        for number in range(start, first + count, THREADS):
            work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(do, range(first, first + THREADS)))


def _timed(count: int, work: Callable[[], None]) -> float:
    """Things per second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def _memory(engine: Engine) -> int:
    return int(engine.gate.client.info("memory")["used_memory"])  # type: ignore[arg-type,index,unused-ignore]


def _insist(holds: bool) -> None:
    """A measurement of something that did not happen would be none."""
    if not holds:
        raise RuntimeError("the benchmark's own work did not succeed")


if __name__ == "__main__":
    sys.exit(main())
