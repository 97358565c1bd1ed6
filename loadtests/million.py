"""``python -m loadtests.million``: a million attempts by 300,000 users for 100,000 coupons, through gate and drain.

In this process and without HTTP: what is tried is the scripts, the hand-over and the ledger at full size. The drain
works beside it in a process of its own. Ends in a verdict from the durable data; exit code 1 when a check fails.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import text

from engine.config import Settings
from engine.context import Engine
from engine.flow.drain import DrainReport, drain_batch
from engine.gate import coupons as gate_coupons
from engine.gate import keys, outbox
from engine.gate.coupons import ASKS_PER_CALL, IssueAsk
from engine.ledger.schema import migrate
from engine.outcomes import IssueStatus
from engine.shop.coupon_offers import CouponOverview, NewCoupon, create_coupon
from engine.upkeep.guard import watch_lanes
from loadtests.private_stack import private_folder
from loadtests.verdict import Check
from ops.postgres import start_postgres
from ops.processes import free_port
from ops.stores import RunningStore
from ops.valkey import start_valkey

SIZES = {"REQUESTS": 1_000_000, "USERS": 300_000, "COUPONS": 100_000}
IDLE_SECONDS = 0.005


@dataclass
class Crowd:
    """What the crowd was told. ``winners`` is by user: the place in line and the request id."""

    answers: Counter[IssueStatus] = field(default_factory=Counter)
    winners: dict[int, tuple[int, str]] = field(default_factory=dict)
    told_twice: int = 0
    seconds: float = 0.0


def main() -> int:
    """One run; the exit code."""
    sizes = {name: int(os.environ.get(name, "") or size) for name, size in SIZES.items()}
    console = Console()
    with private_folder() as folder, _stores(folder) as (valkey, postgres):
        settings = _settings(valkey, postgres)
        engine = Engine.connect(settings, patient=True)
        migrate(engine.ledger)
        watch_lanes(engine)
        made = create_coupon(engine, NewCoupon("백만", 1000, sizes["COUPONS"], None, None, "ACTIVE"))
        if not isinstance(made, CouponOverview):
            return 2
        drain = multiprocessing.get_context("spawn").Process(target=_drain_for_ever, args=(settings,), daemon=True)
        drain.start()
        try:
            crowd = _send(engine, made.id, sizes, console)
            caught_up = _await_drained(engine)
            peaks = _peaks({"crowd": [os.getpid()], "drain": [drain.pid or 0], **_pids(valkey, postgres)})
            checks = _judge(engine, made.id, crowd, sizes)
        finally:
            drain.kill()
            drain.join()
            engine.close()
    _tell(console, crowd, caught_up, peaks, checks)
    return 0 if all(check.ok for check in checks) else 1


def _send(engine: Engine, coupon_id: int, sizes: dict[str, int], console: Console) -> Crowd:
    crowd, chance = Crowd(), random.Random(7)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    started = time.monotonic()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("attempts", total=sizes["REQUESTS"], more="")
        left = sizes["REQUESTS"]
        while left:
            count = min(left, ASKS_PER_CALL)
            asks = [IssueAsk(coupon_id, chance.randint(1, sizes["USERS"])) for _ in range(count)]
            for ask, decision in zip(asks, gate_coupons.issue(engine.gate, 0, asks).decisions, strict=True):
                crowd.answers[decision.status] += 1
                if decision.request_id:
                    crowd.told_twice += ask.user_id in crowd.winners
                    crowd.winners[ask.user_id] = (decision.sequence, decision.request_id)
            left -= count
            if left // ASKS_PER_CALL % 100 == 0:
                more = f"accepted {len(crowd.winners):,}, waiting {outbox.backlog(engine.gate):,}"
                progress.update(bar, completed=sizes["REQUESTS"] - left, more=more)
    crowd.seconds = time.monotonic() - started
    return crowd


def _judge(engine: Engine, coupon_id: int, crowd: Crowd, sizes: dict[str, int]) -> list[Check]:
    with engine.ledger.read() as connection:
        rows = connection.execute(
            text("SELECT user_id, sequence, request_id FROM user_coupons WHERE coupon_id = :id ORDER BY sequence"),
            {"id": coupon_id},
        ).all()
        issued, quarantined = connection.execute(
            text("SELECT (SELECT issued FROM coupons WHERE id = :id), (SELECT count(*) FROM quarantined_outcomes)"),
            {"id": coupon_id},
        ).one()
    recorded = {row.user_id: (row.sequence, row.request_id) for row in rows}
    wanted = min(sizes["COUPONS"], sizes["USERS"])
    gate_issued = gate_coupons.issued_count(engine.gate, coupon_id)
    winners = engine.gate.client.hlen(keys.winners(0, coupon_id))
    gaps = [row.sequence for place, row in enumerate(rows, 1) if row.sequence != place]
    return [
        Check("every attempt was answered", crowd.answers.total() == sizes["REQUESTS"], f"{crowd.answers.total():,}"),
        Check("as many winners as coupons", len(rows) == wanted, f"{len(rows):,} rows, {wanted:,} wanted"),
        Check("nobody twice", not crowd.told_twice and len(recorded) == len(rows), f"{crowd.told_twice} told twice"),
        Check("what was promised is what is recorded", recorded == crowd.winners, f"{len(crowd.winners):,} promises"),
        Check("the line has no gaps", not gaps, f"{len(gaps)} out of place"),
        Check("gate and ledger agree", gate_issued == issued == winners == len(rows), f"{gate_issued}, {issued}"),
        Check("nothing waits", outbox.backlog(engine.gate) == 0, "the outbox is empty"),
        Check("nothing is in quarantine", quarantined == 0, f"{quarantined}"),
    ]


def _drain_for_ever(settings: Settings) -> None:
    """The drain's process; its parent ends it."""
    engine = Engine.connect(settings, patient=True)
    report = DrainReport(0)
    while True:
        if drain_batch(engine, report) == 0:
            time.sleep(IDLE_SECONDS)


def _await_drained(engine: Engine) -> float:
    """Seconds until the outbox is empty."""
    started = time.monotonic()
    while outbox.backlog(engine.gate):
        time.sleep(IDLE_SECONDS)
    return time.monotonic() - started


def _tell(console: Console, crowd: Crowd, caught_up: float, peaks: dict[str, float], checks: Sequence[Check]) -> None:
    rate = crowd.answers.total() / crowd.seconds
    console.print(f"{crowd.answers.total():,} attempts in {crowd.seconds:.1f} s: {rate:,.0f}/s through the gate")
    console.print(f"the ledger had everything {caught_up:.2f} s after the last answer")
    console.print("peak memory: " + ", ".join(f"{name} {megabytes:,.0f} MB" for name, megabytes in peaks.items()))
    for check in checks:
        console.print(f"  {'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    failed = [check.name for check in checks if not check.ok]
    console.print(f"FAILED: {', '.join(failed)}" if failed else f"PASSED: all {len(checks)} checks hold")


def _pids(valkey: RunningStore, postgres: RunningStore) -> dict[str, list[int]]:
    children = [int(pid) for pid in _children(postgres.process.pid)]
    return {"valkey": [valkey.process.pid], "postgres": [postgres.process.pid, *children]}


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _peaks(pids: dict[str, list[int]]) -> dict[str, float]:
    """The most memory each process ever had resident, in MB; of Postgres, its largest process."""
    return {name: max(_peak(pid) for pid in group) for name, group in pids.items()}


def _peak(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def _stores(folder: Path) -> Iterator[tuple[RunningStore, RunningStore]]:
    valkey = start_valkey(folder / "valkey", free_port())
    try:
        postgres = start_postgres(folder / "postgres", free_port())
        try:
            yield valkey, postgres
        finally:
            postgres.stop()
    finally:
        valkey.stop()


def _settings(valkey: RunningStore, postgres: RunningStore) -> Settings:
    database_url = postgres.url.replace("postgresql://", "postgresql+psycopg://", 1)
    limits: dict[str, Any] = {"backlog_limit": 10_000_000}
    return Settings(valkey.url, valkey.url, database_url, **limits)


if __name__ == "__main__":
    sys.exit(main())
