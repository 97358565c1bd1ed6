"""``python -m ops.rolling_restart``: replace every process of the running stack by a new one, without a failed request.

Of the stack of DATA_DIR (default ``var``). Exit codes: 0 when everybody was replaced, 1 when a replacement did not
start (its predecessor goes on), 2 when there is no stack that could be restarted.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ops.console import complain
from ops.problems import StackProblem
from ops.processes import signal_quietly
from ops.stack import Stack, read_stack
from ops.stop_requests import ROLLING_RESTART

LOOK_SECONDS = 0.05


def main() -> int:
    """Ask for it and wait until it is over; the exit code."""
    data_dir = Path(os.environ.get("DATA_DIR", "").strip() or "var")
    try:
        stack = rolling_restart(data_dir)
    except StackProblem as problem:
        complain(str(problem))
        return 2
    if stack.rolling_problem:
        complain(stack.rolling_problem)
        return 1
    print("every process has been replaced")
    return 0


def rolling_restart(data_dir: Path) -> Stack:
    """The stack afterwards; its ``rolling_problem`` says what went wrong. Raises StackProblem when there is none.

    Waits as long as it takes: every step of it is bounded.
    """
    before = _running(data_dir)
    if not before.ready:
        raise StackProblem("the stack is not ready yet: wait for its address, or stop it")
    signal_quietly(before.pids["supervisor"], ROLLING_RESTART)
    while True:
        time.sleep(LOOK_SECONDS)
        stack = _running(data_dir)
        if stack.rolling_restarts > before.rolling_restarts:
            return stack


def _running(data_dir: Path) -> Stack:
    stack = read_stack(data_dir)
    if stack is None:
        raise StackProblem(f"no stack runs on DATA_DIR={data_dir}")
    return stack


if __name__ == "__main__":
    sys.exit(main())
