"""Asking the supervisor of a running stack for a rolling restart, and waiting until it is over."""

from __future__ import annotations

import time
from pathlib import Path

from ops.problems import StackProblem
from ops.processes import signal_quietly
from ops.stack import Stack, read_stack
from ops.stop_requests import ROLLING_RESTART

LOOK_SECONDS = 0.05


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
