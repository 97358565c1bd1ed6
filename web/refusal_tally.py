"""Counting refusals: in memory while a rush lasts, told to the gate at most once a second."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import EngineError

FLUSH_SECONDS = 1.0
MOST_NAMES = 100
"""Codes times reasons are a few dozen; a name too many would be a fault that must not fill anybody's memory."""

logger = logging.getLogger(__name__)


class RefusalTally:
    """The refusals of one process that are not told yet. Thread-safe; has a thread, which begins with the first one."""

    def __init__(self, tell: Callable[[Mapping[str, int]], None], flush_seconds: float = FLUSH_SECONDS) -> None:
        """``tell`` adds the counts it is given to what everybody sees. May raise an EngineError: told again later."""
        self._tell = tell
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._came = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, code: str, detail: Mapping[str, Any] | None = None) -> None:
        """One more refusal with this code and, if its detail names one, this reason. Costs no round trip."""
        reason = None if detail is None else detail.get("reason")
        name = code if reason is None else f"{code}:{reason}"
        with self._lock:
            if name in self._counts or len(self._counts) < MOST_NAMES:
                self._counts[name] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="refusal tally", daemon=True)
                self._thread.start()
        self._came.set()

    def close(self) -> None:
        """Tell what is left, and nothing afterwards."""
        self._closed.set()
        self._came.set()
        if self._thread is not None:
            self._thread.join(2 * self._flush_seconds)
            self._thread = None

    def _run(self) -> None:
        while not self._closed.is_set():
            self._came.wait()
            self._closed.wait(self._flush_seconds)
            self._came.clear()
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            self._tell(counts)
        except EngineError:
            with self._lock:
                self._counts.update(counts)
            self._came.set()
        except Exception:  # a fault of ours must not end the thread: what was counted is lost, what comes is not
            logger.exception("refusals could not be counted")
