"""Breaking something of the running stack on purpose, for the console's demo."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import redis

from ops.console import complain
from ops.stack import Stack, read_stack


def kill_worker(stack: Stack) -> bool:
    """Kill -9 one process that drains, in the middle of whatever it does; whether there was one."""
    pid = next((pid for name, pid in sorted(stack.pids.items()) if name == "worker" or name.startswith("worker.")), 0)
    if not pid:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it died by itself, a moment ago
        return False
    return True


def forget(stack: Stack) -> bool:
    """Empty the Redis that the stack brought along; never one that somebody else runs."""
    if "valkey" not in stack.pids:
        return False
    with redis.Redis.from_url(stack.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
        client.flushall()
    return True


FAULTS = {"kill_worker": kill_worker, "forget": forget}

NOTHING_TO_BREAK = 3


def break_something(data_dir: Path, fault: str) -> bool:
    """Break what is named (one of FAULTS) of the stack that runs on ``data_dir``; whether it was done."""
    stack = read_stack(data_dir)
    try:
        return stack is not None and FAULTS[fault](stack)
    except redis.RedisError as error:
        complain(f"the store does not answer: {type(error).__name__}")
        return False
