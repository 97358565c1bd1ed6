"""Telling the log that a store is away, but not once per request."""

from __future__ import annotations

import logging
import threading
import time

PAUSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


class OutageLog:
    """One warning per part and pause: in a rush every request would write one, and drown all else. Thread-safe."""

    def __init__(self, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}
        self.was_ready = False
        """Whether all was well once: until then, that something is missing is how every start begins."""

    def warn(self, part: str, reason: object, *, expected: bool = False) -> None:
        """Write the reason down, unless this part was written about just now. What is expected is no warning."""
        now = time.monotonic()
        with self._lock:
            if now < self._next.get(part, 0.0):
                return
            self._next[part] = now + self._pause_seconds
        level = logging.INFO if expected else logging.WARNING
        logger.log(level, "%s: %s (said once in %g s)", part, reason, self._pause_seconds)
