"""Giving orders to fault points (see ``engine/fault_points.py``) and finding out who obeyed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ops.processes import signal_quietly


class Points:
    """The folders of orders of one stack, one for each kind of process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def order(self, point: str, action: str, kind: str) -> None:
        """The next process of this kind that reaches the point does it. One order for a point at a time."""
        unfinished = self._folder / f".{point}"
        unfinished.write_text(action)
        os.rename(unfinished, self._folder / kind / point)

    def taken(self, point: str) -> int | None:
        """The process that took the order; None while nobody came."""
        found = [path.name.removeprefix(f"{point}.") for path in self._folder.glob(f"*/{point}.*")]
        return int(found[0]) if found else None

    def withdraw(self, point: str) -> int | None:
        """End the order: a process that sleeps because of it goes on. Who had taken it, if somebody had."""
        for order in self._folder.glob(f"*/{point}"):
            order.unlink(missing_ok=True)
        pid = self.taken(point)
        if pid is not None:
            signal_quietly(pid, signal.SIGCONT)
            for order in self._folder.glob(f"*/{point}.{pid}"):
                order.unlink()
        return pid
