"""``python -m loadtests.shop_run order_rush|mixed``: a crowd in the shop, and a verdict from the durable data.

Uses the running stack of DATA_DIR (default ``var``), or starts one of its own and stops it. Exit code 0 when every
check holds, 1 when one fails, 2 when there was nothing to judge.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from engine.errors import EngineError
from loadtests.chaos import KILLABLE, Moment
from loadtests.facts import await_ready, connect
from loadtests.locust_run import LocustFailed, run_locust
from loadtests.order_verdict import gather, is_settled, judge
from loadtests.outcomes import ATTEMPT
from loadtests.private_stack import StackDidNotStart, running_or_private_stack
from ops.stack import Stack, read_stack

SCENARIOS = ("order_rush", "mixed")
BALANCE = 100_000
HOT_PRICE = 10_000
COLD_PRICES = (500, 1_200, 3_000, 7_700)
COLD_UNITS = 5_000
PENNILESS_EVERY = 4
"""Every fourth user has no money."""
SETTLE_PATIENCE_SECONDS = 120.0
SETUP_THREADS = 16
CROWD = 60
UNEXPECTED_WITHOUT_CHAOS = (0, 503)
"""No answer, and BUSY: nobody should see them unless something was killed."""


class NothingToJudge(Exception):
    """The run could not be made; the text says why."""


@dataclass(frozen=True)
class Size:
    """How many attempts, by how many users, for how many units of the hot product."""

    attempts: int
    users: int
    units: int
    chaos: tuple[str, ...]
    moment: Moment

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Size:
        """Raises NothingToJudge for what is no positive number or no process that can be killed."""
        numbers = {name: environ.get(name, "") or default for name, default in _DEFAULTS.items()}
        chaos = tuple(name.strip() for name in environ.get("CHAOS", "").split(",") if name.strip())
        wrong = [f"{name}={value}" for name, value in numbers.items() if not value.isdigit() or int(value) < 1]
        wrong += [f"CHAOS={name}" for name in chaos if name not in KILLABLE]
        if wrong:
            raise NothingToJudge(f"wrong settings: {', '.join(wrong)}")
        return cls(
            int(numbers["ORDERS"]),
            int(numbers["USERS"]),
            int(numbers["UNITS"]),
            chaos,
            Moment.from_environment(environ),
        )


_DEFAULTS = {"ORDERS": "5000", "USERS": "2000", "UNITS": "500"}


def main(arguments: list[str]) -> int:
    """One run; the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    if len(arguments) != 1 or arguments[0] not in SCENARIOS:
        print(f"usage: python -m loadtests.shop_run {'|'.join(SCENARIOS)}", file=sys.stderr)
        return 2
    try:
        size = Size.from_environment(os.environ)
        with running_or_private_stack(Path(os.environ.get("DATA_DIR", "").strip() or "var")) as stack:
            return _run(arguments[0], size, stack)
    except (NothingToJudge, StackDidNotStart, LocustFailed, EngineError, httpx.HTTPError, TimeoutError) as problem:
        print(problem, file=sys.stderr)
        return 2


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)  # through the context managers, which stop what was started


def _run(scenario: str, size: Size, stack: Stack) -> int:
    await_ready(stack)
    reports = Path(os.environ.get("REPORTS", "").strip() or "reports")
    reports.mkdir(parents=True, exist_ok=True)
    outcomes = reports / f"{scenario}.jsonl"
    outcomes.unlink(missing_ok=True)
    settings = _open_shop(stack, size)
    print(f"{scenario}: {size.attempts:,} attempts by {size.users:,} users for {size.units:,} units", flush=True)
    killer = _Killer(stack, outcomes, size)
    started = time.monotonic()
    run_locust(
        scenario,
        stack,
        crowd=min(CROWD, size.attempts),
        reports=reports,
        environ={**settings, "OUTCOMES": str(outcomes.resolve())},
        every_tick=killer.tick,
    )
    seconds = time.monotonic() - started
    return _judge(stack, size, outcomes, killer, seconds)


def _open_shop(stack: Stack, size: Size) -> dict[str, str]:
    """Users, products and a coupon of this run's own; the scenario's settings."""
    # Kept for as long as we ask: an idle connection that expires is closed by whichever thread looks, and another one
    # may just have been given it.
    limits = httpx.Limits(max_connections=SETUP_THREADS, keepalive_expiry=None)
    with httpx.Client(base_url=f"{stack.address}api/v1", timeout=30, limits=limits) as client:

        def post(path: str, body: dict[str, object]) -> dict[str, int]:
            response = client.post(path, json=body)
            if response.status_code not in (200, 201):
                raise NothingToJudge(f"the shop could not be opened: {path} {response.status_code} {response.text}")
            made: dict[str, int] = response.json()
            return made

        first = post("/admin/users", {})["userId"] + 1

        def add(user_id: int) -> None:
            post("/admin/users", {"userId": user_id})
            if user_id % PENNILESS_EVERY:
                post(f"/users/{user_id}/balance/charge", {"amount": BALANCE})

        with ThreadPoolExecutor(SETUP_THREADS) as pool:
            list(pool.map(add, range(first, first + size.users)))
        hot = post("/admin/products", {"name": "한정판 운동화", "price": HOT_PRICE, "stock": size.units})["id"]
        cold = [
            post("/admin/products", {"name": f"상품 {price}원", "price": price, "stock": COLD_UNITS})["id"]
            for price in COLD_PRICES
        ]
        coupon = {"name": "할인 쿠폰", "discountAmount": 3_000, "totalQuantity": max(1, size.users // 4)}
        coupon_id = post("/admin/coupons", dict(coupon))["id"]
    return {
        "ATTEMPTS": str(size.attempts),
        "FIRST_USER": str(first),
        "USERS": str(size.users),
        "HOT_PRODUCT": str(hot),
        "COLD_PRODUCTS": ",".join(map(str, cold)),
        "COUPON": str(coupon_id),
    }


class _Killer:
    """Kills the named processes, one after the other, spread over the run."""

    def __init__(self, stack: Stack, outcomes: Path, size: Size) -> None:
        self._stack = stack
        self._outcomes = outcomes
        self._size = size
        self._told = not size.moment
        self.killed: list[str] = []

    def _next_kill(self) -> float:
        return self._size.attempts * (len(self.killed) + 1) / (len(self._size.chaos) + 2)

    def tick(self) -> None:
        """Kill the next one when its share of the answers has come."""
        if not self._outcomes.exists() or (self._told and len(self.killed) == len(self._size.chaos)):
            return
        with open(self._outcomes, "rb") as file:
            answered = [json.loads(line) for line in file if b'"name": "order"' in line and line.endswith(b"\n")]
        orders, accepted = len(answered), sum(answer["requestId"] is not None for answer in answered)
        # Units go first: waiting for the attempts alone would find nothing left to decide.
        if not self._told and (orders >= self._size.attempts / 3 or accepted >= self._size.units / 3):
            self._told = True
            self._size.moment.has_come()
        if len(self.killed) == len(self._size.chaos) or orders < self._next_kill():
            return
        name = self._size.chaos[len(self.killed)]
        present = read_stack(Path(self._stack.data_dir))
        pid = None if present is None else next((p for n, p in present.pids.items() if n.split(".")[0] == name), None)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.killed.append(name)
            print(f"kill -9 of {name} (pid {pid}) after {orders:,} orders", flush=True)


def _judge(stack: Stack, size: Size, outcomes: Path, killer: _Killer, seconds: float) -> int:
    size.moment.await_end()
    await_ready(stack)
    answers = [json.loads(line) for line in outcomes.read_text(encoding="utf-8").splitlines()]
    accepted = sorted({answer["requestId"] for answer in answers if answer["requestId"]})
    engine = connect(stack)
    try:
        deadline = time.monotonic() + SETTLE_PATIENCE_SECONDS
        while not is_settled(engine) and time.monotonic() < deadline:
            time.sleep(0.1)
        facts = gather(
            engine,
            planned=size.attempts,
            recorded=sum(answer["name"] == ATTEMPT for answer in answers),
            accepted=accepted,
            states=_states(stack, accepted),
            unexpected=_unexpected(answers, size),
        )
    finally:
        engine.close()
    statuses = Counter((answer["name"], answer["status"]) for answer in answers)
    print(f"{len(answers):,} answers in {seconds:.1f} s, {len(accepted):,} orders accepted")
    for (name, status), times in sorted(statuses.items()):
        print(f"  {name:<12} {status or 'no answer':>9} {times:>8,}")
    print(f"  orders by end: {dict(sorted(facts.orders_by_status.items()))}\n\nverdict")
    checks = judge(facts)
    for check in checks:
        print(f"  {'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
    failed = [check.name for check in checks if not check.ok]
    if len(killer.killed) < len(size.chaos):
        failed.append("chaos happened")
    print(f"FAILED: {', '.join(failed)}" if failed else f"PASSED: all {len(checks)} checks hold", flush=True)
    return 1 if failed else 0


def _states(stack: Stack, request_ids: list[str]) -> dict[str, str]:
    """What the API says became of them."""
    with httpx.Client(base_url=stack.address, timeout=15) as client, ThreadPoolExecutor(SETUP_THREADS) as pool:

        def ask(request_id: str) -> str:
            response = client.get(f"/api/v1/requests/{request_id}")
            return str(response.json()["status"]) if response.status_code == 200 else str(response.status_code)

        return dict(zip(request_ids, pool.map(ask, request_ids), strict=True))


def _unexpected(answers: list[dict[str, object]], size: Size) -> dict[str, int]:
    """Answers nobody should get; a killed process excuses broken connections and BUSY."""
    allowed = {200, 201, 202, 404, 409} | (set(UNEXPECTED_WITHOUT_CHAOS) if size.chaos or size.moment else set())
    wrong = [answer for answer in answers if answer["status"] not in allowed]
    return dict(Counter(f"{answer['name']} {answer['status']}" for answer in wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
