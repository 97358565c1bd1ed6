"""``python -m loadtests.rush``: send a crowd at a coupon and prove the result from the durable data.

Uses the running stack of DATA_DIR (default ``var``), or starts one of its own and stops it. Exit code 0 when every
check holds, 1 when one fails, 2 when there was nothing to judge.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
from sqlalchemy import func, select

from engine.context import Engine
from engine.errors import EngineError
from engine.ledger.tables import user_coupons
from loadtests.chaos import KILLABLE, Moment, Watcher
from loadtests.facts import await_ready, collect, connect, read_attempts
from loadtests.figures import figures_of
from loadtests.locust_run import LocustFailed, run_locust
from loadtests.losses import epoch_of, forgive_losses
from loadtests.private_stack import StackDidNotStart, private_stack, running_or_private_stack
from loadtests.progress import RushProgress
from loadtests.verdict import Check, judge
from ops.processes import PROJECT_ROOT
from ops.stack import Stack

BROKEN_PROCFILE = PROJECT_ROOT / "loadtests" / "broken" / "Procfile"
GENERATOR_LIMIT = 0.9
"""A share of its core above which Locust, and not the system, set the pace."""
LARGEST = {"USERS": 1_000_000, "REQUESTS": 1_000_000, "COUPONS": 1_000_000, "CROWD": 1000}


class RushImpossible(Exception):
    """There is nothing to judge; the text says why."""


@dataclass(frozen=True)
class RushSettings:
    """``crowd`` is how many attempts are on their way at a time; ``chaos`` names the processes to kill; with ``losses``
    decisions may be lost with a server that had not passed them on."""

    users: int
    requests: int
    coupons: int
    crowd: int
    chaos: tuple[str, ...]
    moment: Moment
    losses: bool
    broken: bool
    data_dir: Path
    reports: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> RushSettings:
        """Raises :class:`RushImpossible` naming every problem at once."""
        problems: list[str] = []

        def number(name: str, default: int) -> int:
            text = environ.get(name, "").strip() or str(default)
            if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= LARGEST[name]:
                problems.append(f"{name}={text}: must be a whole number from 1 to {LARGEST[name]}")
                return default
            return int(text)

        chaos = tuple(name.strip() for name in environ.get("CHAOS", "").split(",") if name.strip())
        problems += [f"CHAOS={name}: must be among {', '.join(KILLABLE)}" for name in chaos if name not in KILLABLE]
        settings = cls(
            users=number("USERS", 10_000),
            requests=number("REQUESTS", 20_000),
            coupons=number("COUPONS", 1_000),
            crowd=number("CROWD", 100),
            chaos=chaos,
            moment=Moment.from_environment(environ),
            losses=environ.get("LOSSES", "").strip() not in ("", "0"),
            broken=environ.get("BROKEN", "").strip() not in ("", "0"),
            data_dir=Path(environ.get("DATA_DIR", "").strip() or "var"),
            reports=Path(environ.get("REPORTS", "").strip() or "reports"),
        )
        if problems:
            raise RushImpossible("\n".join(problems))
        return settings


def main() -> int:
    """One rush; the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        settings = RushSettings.from_environment(os.environ)
        with _stack(settings) as stack:
            return _rush(settings, stack)
    except (RushImpossible, StackDidNotStart, LocustFailed, EngineError, httpx.HTTPError, TimeoutError) as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)  # through the context managers, which stop what was started


def _stack(settings: RushSettings) -> AbstractContextManager[Stack]:
    if not settings.broken:
        return running_or_private_stack(settings.data_dir)
    print("starting a private stack with a broken gate", flush=True)
    return private_stack(BROKEN_PROCFILE)


def _rush(settings: RushSettings, stack: Stack) -> int:
    await_ready(stack)
    settings.reports.mkdir(parents=True, exist_ok=True)
    outcomes = settings.reports / "coupon_rush.jsonl"
    outcomes.unlink(missing_ok=True)
    coupon_id = _create_coupon(stack, settings.coupons)
    print(
        f"coupon {coupon_id}: {settings.coupons:,} for {settings.users:,} users in {settings.requests:,} attempts"
        + (f", kill -9 of {', '.join(settings.chaos)} on the way" if settings.chaos else ""),
        flush=True,
    )
    engine = connect(stack)
    try:
        watcher = Watcher(
            stack, engine, coupon_id, outcomes, settings.requests, settings.coupons, settings.chaos, settings.moment
        )
        with watcher, RushProgress(settings.requests, watcher) as progress:
            busy = run_locust(
                "coupon_rush",
                stack,
                crowd=min(settings.crowd, settings.requests),
                reports=settings.reports,
                environ={
                    "COUPON_ID": str(coupon_id),
                    "USERS": str(settings.users),
                    "REQUESTS": str(settings.requests),
                    "OUTCOMES": str(outcomes.resolve()),
                },
                every_tick=progress.tick,
            )
            settings.moment.await_end()
            attempts = read_attempts(outcomes)
            facts = collect(
                stack,
                engine,
                coupon_id,
                settings.coupons,
                attempts,
                planned=settings.requests,
                chaos=bool(settings.chaos or settings.moment),
            )
            watcher.await_rows(len(facts.rows))
        for line in watcher.killed:
            print(line)
        print(
            f"  generator  {busy:>8.0%} of a core"
            + (": it could do no more, the system could have" if busy >= GENERATOR_LIMIT else "")
        )
        print(figures_of(facts, watcher.growth, _last_decision(engine, coupon_id)).table())
        more_checks = []
        if settings.losses:
            facts, check = forgive_losses(facts, epoch_of(engine, coupon_id))
            more_checks.append(check)
    finally:
        engine.close()
    checks = judge(facts) + more_checks
    if settings.chaos and len(watcher.killed) < len(settings.chaos):
        checks.append(Check("chaos happened", False, f"{len(watcher.killed)} of {len(settings.chaos)} were killed"))
    return _tell(checks, settings.reports)


def _create_coupon(stack: Stack, quantity: int) -> int:
    response = httpx.post(
        stack.address + "api/v1/admin/coupons",
        json={"name": "선착순 쿠폰", "discountAmount": 1000, "totalQuantity": quantity},
        timeout=10,
    )
    if response.status_code != 201:
        raise RushImpossible(f"the coupon could not be created: {response.status_code} {response.text}")
    return int(response.json()["id"])


def _last_decision(engine: Engine, coupon_id: int) -> float:
    """When the last winner was decided, in Unix seconds."""
    with engine.ledger.read() as connection:
        query = select(func.max(user_coupons.c.issued_at)).where(user_coupons.c.coupon_id == coupon_id)
        last = connection.execute(query).scalar_one()
    return 0.0 if last is None else float(last.timestamp())


def _tell(checks: list[Check], reports: Path) -> int:
    print("\nverdict")
    for check in checks:
        print(f"  {'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    failed = [check.name for check in checks if not check.ok]
    print(f"charts in {reports / 'coupon_rush.html'}")
    print(f"FAILED: {', '.join(failed)}" if failed else f"PASSED: all {len(checks)} checks hold", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
