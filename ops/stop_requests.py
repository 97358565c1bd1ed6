"""Ctrl-C, SIGTERM and SIGHUP, SIGUSR2, and the pause between two looks at the world that they cut short."""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType

ROLLING_RESTART = signal.SIGUSR2
"""Not SIGHUP, as with other servers: that is also what comes when the terminal is closed, and then it has to stop."""
SAME_REQUEST_SECONDS = 0.5
"""A signal to the whole process group reaches us twice when `make` passes it on: that is one request, not two."""


class StopRequests:
    """Counts requests to stop from the moment it is made. Belongs to the main thread."""

    def __init__(self) -> None:
        self._requests: list[float] = []
        self._rolling = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # only to wake us when a child ends
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started with nohup: the terminal may close
            signal.signal(number, self._request)
        signal.signal(ROLLING_RESTART, self._request_rolling)

    @property
    def stop(self) -> bool:
        """Somebody wants an orderly stop."""
        return bool(self._requests)

    @property
    def hurry(self) -> bool:
        """Somebody asked again."""
        return bool(self._requests) and self._requests[-1] - self._requests[0] > SAME_REQUEST_SECONDS

    def take_rolling(self) -> bool:
        """Whether somebody has asked for a rolling restart since this was asked before."""
        asked, self._rolling = self._rolling, False
        return asked

    def wake(self) -> None:
        """Cut the present pause short; for other threads."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:  # a full pipe wakes just as well
            return

    def pause(self, seconds: float) -> None:
        """Sleep until a signal arrives, a child ends, somebody wakes us or the time is over."""
        if select.select([self._reader], [], [], max(seconds, 0.0))[0]:
            try:
                os.read(self._reader, 4096)
            except BlockingIOError:
                return

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self._requests.append(time.monotonic())

    def _request_rolling(self, _number: int, _frame: FrameType | None) -> None:
        self._rolling = True
