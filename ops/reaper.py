"""The one who cleans up when the supervisor itself is killed with -9: ``python -m ops.reaper <stack mark>``.

PR_SET_PDEATHSIG reaches the supervisor's children only; theirs (granian's workers, RQ's work horses) would stay. This
process holds the reading end of a pipe from the supervisor. Lines are ``+<pid> <signal>`` (a store that cannot be
found by its mark, because servers overwrite their environment to set their title) and ``done`` (an orderly stop).
End of file without ``done`` means that the supervisor is gone: everything that carries the mark is killed, the
registered stores get their signal and, three seconds later, SIGKILL.

It also holds the data folder's lock, so nothing new starts there before it is done.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from ops.processes import kill_marked

STORE_PATIENCE_SECONDS = 3.0


def main() -> int:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # it ends when the supervisor ends, not before
    mark = sys.argv[1]
    stores: dict[int, int] = {}  # pidfd -> signal
    for line in sys.stdin:
        if line.strip() == "done":
            return 0
        pid, number = (int(word) for word in line.removeprefix("+").split())
        with contextlib.suppress(OSError):
            stores[os.pidfd_open(pid)] = number
    kill_marked(mark)
    for handle, number in stores.items():
        _signal(handle, number)
        _signal(handle, signal.SIGCONT)  # one that was paused could not obey
    deadline = time.monotonic() + STORE_PATIENCE_SECONDS
    while time.monotonic() < deadline and not all(_has_ended(handle) for handle in stores):
        time.sleep(0.02)
    for handle in stores:
        _signal(handle, signal.SIGKILL)
    kill_marked(mark)
    return 0


def _has_ended(handle: int) -> bool:
    """Also of a process that nobody has collected yet: who inherits ours may take a second to, and it takes signals."""
    looking = select.poll()
    looking.register(handle, select.POLLIN)
    return bool(looking.poll(0))


def _signal(handle: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
