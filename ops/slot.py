"""A place in the stack that one process fills at a time: started, watched, started again, stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from ops.processes import children_of, kill_marked, signal_group_quietly, signal_quietly
from ops.restarts import Restarts


@dataclass(eq=False)
class Slot:
    """``launch`` starts the process in a session of its own; ``mark`` finds what it started and left behind."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    mark: str
    restarts: Restarts
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    due_at: float | None = None
    """When to start again (monotonic seconds); None while it runs or is not wanted."""
    kept_up: bool = True
    """Whether it is started again when it ends; not while it is being replaced, or has yet to replace another."""

    @property
    def running(self) -> bool:
        """Whether its process has not ended; collects it if it has."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process. Whatever the launch raises leaves the slot empty."""
        self.due_at = None
        self.process = None
        self.process = self.launch()

    def clear(self) -> str:
        """After a death: kill what the process left behind and say how it ended. The slot is empty afterwards."""
        if self.process is None:
            return "could not be started"
        code = self.process.wait()
        signal_group_quietly(self.process.pid, signal.SIGKILL)
        kill_marked(self.mark)
        self.process = None
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def ask_to_stop(self) -> None:
        """Begin an orderly stop; a paused process is woken, so that it can obey."""
        self.due_at = None
        if self.running and self.process is not None:
            self.process.send_signal(self.stop_signal)
            for pid in [self.process.pid, *children_of(self.process.pid)]:
                signal_quietly(pid, signal.SIGCONT)

    def finish(self) -> None:
        """End the stop: kill what has not obeyed, the process and everything that it started."""
        if self.running and self.process is not None:
            for pid in [self.process.pid, *children_of(self.process.pid)]:
                signal_quietly(pid, signal.SIGKILL)
        if self.process is not None:
            self.clear()
