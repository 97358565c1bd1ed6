"""What a rush looks like from the terminal while it runs."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests.chaos import Watcher

LOOK_SECONDS = 0.1


class RushProgress:
    """A bar of attempts with what was accepted and recorded; plain output, as in CI, gets its last state only."""

    def __init__(self, attempts: int, watcher: Watcher) -> None:
        self._watcher = watcher
        self._next = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[more]}"),
            TimeElapsedColumn(),
        )
        self._bar = self._progress.add_task("answered", total=attempts, more="")

    def __enter__(self) -> RushProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        self._progress.stop()

    def tick(self) -> None:
        """Called all the time; looks now and then."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LOOK_SECONDS
            self._watcher.look()
            self._show()

    def _show(self) -> None:
        attempts, granted, recorded = self._watcher.progress
        more = f"accepted {granted:,}, persisted {recorded:,}, behind by {max(0, granted - recorded):,}"
        self._progress.update(self._bar, completed=attempts, more=more)
