"""Break something of the running stack on purpose, for the console's demo: ``python -m ops.demo_fault kill_worker``.

Exit codes: 0 when it was done, 2 for a wrong call, 3 when there is nothing of ours to break.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import redis

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


def main(arguments: Sequence[str]) -> int:
    """Break what is named; the exit code."""
    if len(arguments) != 1 or arguments[0] not in FAULTS:
        print(f"usage: python -m ops.demo_fault {{{'|'.join(FAULTS)}}}", file=sys.stderr)
        return 2
    stack = read_stack(Path(os.environ.get("DATA_DIR", "var")))
    try:
        done = stack is not None and FAULTS[arguments[0]](stack)
    except redis.RedisError as error:
        print(f"the store does not answer: {type(error).__name__}", file=sys.stderr)
        done = False
    return 0 if done else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
