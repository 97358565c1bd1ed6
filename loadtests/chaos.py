"""What happens beside the crowd: watching the rows arrive in the ledger, and killing in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sqlalchemy import text

from engine.context import Engine
from engine.errors import LedgerUnavailable
from ops.stack import Stack, read_stack

KILLABLE = ("worker", "web", "scheduler")
LOOK_SECONDS = 0.02
ROWS_PATIENCE_SECONDS = 10.0
MOMENT_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Moment:
    """Tells somebody else that the rush is in its middle: whoever waits for ``file`` breaks what only they can break,
    such as a primary of a cluster, and removes the file when that is done. There is none without a file."""

    file: Path | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Moment:
        """As ``MOMENT`` says."""
        name = environ.get("MOMENT", "").strip()
        return cls(Path(name) if name else None)

    def __bool__(self) -> bool:
        return self.file is not None

    def has_come(self) -> None:
        """Now is the time."""
        if self.file is not None:
            self.file.touch()

    def await_end(self) -> None:
        """Return when what was broken is done with: a judge who looks between two failovers sees the wrong server.
        Raises TimeoutError when that does not come."""
        deadline = time.monotonic() + MOMENT_PATIENCE_SECONDS
        while self.file is not None and self.file.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.file} is still there: whoever waited for it is not done")
            time.sleep(LOOK_SECONDS)


class Watcher:
    """Samples the ledger from a thread, and kills once when the rush is in its middle.

    ``growth`` are (Unix seconds, rows) whenever the number of rows was seen to change, late by LOOK_SECONDS at most.
    """

    def __init__(
        self,
        stack: Stack,
        engine: Engine,
        coupon_id: int,
        outcomes: Path,
        requests: int,
        coupons: int,
        chaos: Sequence[str],
        moment: Moment,
    ) -> None:
        self._stack = stack
        self._engine = engine
        self._coupon_id = coupon_id
        self._outcomes = outcomes
        self._attempts_needed = max(1, requests // 3)
        self._grants_needed = max(1, coupons // 3)
        self._chaos = tuple(chaos)
        self._moment = moment
        self._position = 0
        self._attempts = 0
        self._grants = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch_rows, daemon=True)
        self._struck = False
        self.growth: list[tuple[float, int]] = []
        self.killed: list[str] = []

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def progress(self) -> tuple[int, int, int]:
        """How many attempts were answered, how many coupons granted, and how many of those are recorded, so far."""
        return self._attempts, self._grants, self.growth[-1][1] if self.growth else 0

    def look(self) -> None:
        """Read what the crowd has written down since, and kill if the moment has come."""
        self._read_outcomes()
        self._kill_in_the_middle()

    def _kill_in_the_middle(self) -> None:
        """Kill when a third of the attempts are answered or a third of the coupons are granted, whichever is first.

        Coupons go in the first moments of a rush: waiting for the attempts alone would kill when there is nothing
        left to lose.
        """
        if not (self._chaos or self._moment) or self._struck:
            return
        if self._attempts >= self._attempts_needed or self._grants >= self._grants_needed:
            self._struck = True
            self._moment.has_come()
            self._kill()

    def await_rows(self, rows: int) -> None:
        """Return when the sampling has seen this many rows; at once when there are none."""
        deadline = time.monotonic() + ROWS_PATIENCE_SECONDS
        while rows and (not self.growth or self.growth[-1][1] < rows) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def _read_outcomes(self) -> None:
        if not self._outcomes.exists():
            return
        with open(self._outcomes, "rb") as file:
            file.seek(self._position)
            news = file.read()
        self._position += len(news)
        self._attempts += news.count(b"\n")
        self._grants += news.count(b'"status": 202') + news.count(b'"status": 201')

    def _kill(self) -> None:
        """SIGKILL, one of each kind; of the web, the supervisor clears up what the killed parent leaves behind."""
        stack = read_stack(Path(self._stack.data_dir)) or self._stack
        for kind in self._chaos:
            for name, pid in stack.pids.items():
                if name == kind or name == f"{kind}.1":
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(f"killed {name} after {self._attempts:,} answers, {self._grants:,} acceptances")
                    break

    def _watch_rows(self) -> None:
        query = text("SELECT count(*) FROM user_coupons WHERE coupon_id = :id")
        while not self._stop.wait(LOOK_SECONDS):
            try:
                with self._engine.ledger.read() as connection:
                    rows = int(connection.execute(query, {"id": self._coupon_id}).scalar_one())
            except LedgerUnavailable:
                continue
            if not self.growth or rows != self.growth[-1][1]:
                self.growth.append((time.time(), rows))
