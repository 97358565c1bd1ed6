"""How a demo's crowd fares, told in a file of the data folder: the console shows it, whatever happens to the stores."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ops.stores import write_private

RUSH_FILE = "demo-rush.json"
TELL_SECONDS = 0.2
COUNTED = ("asked", "accepted", "refused", "busy", "lost", "confirmed")


class RushProgress:
    """What was asked for, and the counts so far. Thread-safe where the crowd writes."""

    def __init__(self, data_dir: Path, rush_id: str, users: int, requests: int, coupons: int) -> None:
        self._path = data_dir / RUSH_FILE
        self.rush_id = rush_id
        self.users = users
        self.requests = requests
        self.coupons = coupons
        self.coupon_id: int | None = None
        self.checks: dict[str, bool] = {}
        self._phase = "starting"
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._seconds: float | None = None

    @property
    def asked(self) -> int:
        """How many got a final answer."""
        return self._counts["asked"]

    def count(self, *names: str) -> None:
        """One more of each."""
        with self._lock:
            self._counts.update(names)

    def enter(self, phase: str) -> None:
        """Go on to the next phase; the clock stops when everybody has been answered."""
        self._phase = phase
        if phase == "settling":
            self._seconds = time.monotonic() - self._began

    @contextlib.contextmanager
    def published(self) -> Iterator[None]:
        """Tell a few times a second, and once more at the end; a crowd that broke down is told of as failed."""
        ended = threading.Event()
        teller = threading.Thread(target=self._tell_until, args=(ended,), daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()
            if self._phase != "done":
                self._phase = "failed"
            self._tell()

    def _tell_until(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._tell()
            ended.wait(TELL_SECONDS)

    def _tell(self) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end the crowd
            write_private(self._path, json.dumps(self._told()) + "\n")

    def _told(self) -> dict[str, Any]:
        with self._lock:
            counts = dict(self._counts)
        return {
            "id": self.rush_id,
            "phase": self._phase,
            "couponId": self.coupon_id,
            "users": self.users,
            "requests": self.requests,
            "coupons": self.coupons,
            **{name: counts.get(name, 0) for name in COUNTED},
            "seconds": round(self._seconds if self._seconds is not None else time.monotonic() - self._began, 1),
            "checks": [{"name": name, "ok": ok} for name, ok in self.checks.items()],
        }
