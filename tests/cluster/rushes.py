"""Rushes of the real processes on a topology, with a fault in the middle that only the topology's owner can make."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.private_stack import private_stack
from ops.processes import PROJECT_ROOT, dying_with_us
from ops.stack import Stack, read_stack

PATIENCE_SECONDS = 240.0
LOOK_SECONDS = 0.002
CLUSTER_LANES = 16


@dataclass(frozen=True)
class Ended:
    """How a rush ended: 0 when every check held."""

    code: int
    output: str

    def assert_passed(self) -> None:
        """Every check held."""
        assert self.code == 0, self.output
        assert "PASSED: all" in self.output


@contextmanager
def stack_on(redis_url: str, queue_redis_url: str | None = None, lanes: int = 1) -> Iterator[Stack]:
    """The whole stack, its gate on this Redis; its ledger, web, workers and scheduler are its own."""
    queue = {} if queue_redis_url is None else {"QUEUE_REDIS_URL": queue_redis_url}
    with private_stack(stores={"REDIS_URL": redis_url, "LANES": str(lanes), **queue}) as stack:
        yield stack


def coupon_rush(stack: Stack, reports: Path, fault: Callable[[], None], **sizes: int) -> Ended:
    """A crowd for a coupon; the fault strikes when a third of the coupons, or of the attempts, is answered."""
    return _rush(["loadtests.rush"], stack, reports, fault, {"USERS": 3000, "REQUESTS": 5000, "COUPONS": 1000} | sizes)


def order_rush(stack: Stack, reports: Path, fault: Callable[[], None], **sizes: int) -> Ended:
    """A crowd for a product; the fault strikes when a third of the units is promised, or of the orders answered."""
    size = {"ORDERS": 1200, "USERS": 200, "UNITS": 300} | sizes
    return _rush(["loadtests.shop_run", "order_rush"], stack, reports, fault, size)


def _rush(program: list[str], stack: Stack, reports: Path, fault: Callable[[], None], sizes: dict[str, int]) -> Ended:
    moment = reports / "moment"
    moment.unlink(missing_ok=True)
    environ = {
        **{name: value for name, value in os.environ.items() if name not in ("CHAOS", "BROKEN")},
        **{name: str(number) for name, number in sizes.items()},
        "DATA_DIR": stack.data_dir,
        "REPORTS": str(reports),
        "MOMENT": str(moment),
        "LOSSES": "1",
    }
    said = reports / "rush.txt"
    with open(said, "wb") as output:
        process = subprocess.Popen(
            dying_with_us([sys.executable, "-m", *program], signal.SIGTERM),
            cwd=PROJECT_ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None and not moment.exists():
                time.sleep(LOOK_SECONDS)
            came = moment.exists()
            if came:
                try:
                    fault()
                finally:
                    moment.unlink()
            code = process.wait(PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    text = said.read_text(errors="replace")
    assert came, f"the rush never came to its middle:\n{text}"
    return Ended(code, text)


@contextmanager
def asleep(stack: Stack, name: str) -> Iterator[None]:
    """A process of the stack is stopped meanwhile."""
    present = read_stack(Path(stack.data_dir))
    assert present is not None
    pid = present.pids[name]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
