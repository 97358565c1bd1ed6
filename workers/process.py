"""What a worker process keeps from job to job: its engine, and whether it was told to stop."""

from __future__ import annotations

import threading
from functools import cache

from engine.config import Settings
from engine.context import Engine
from engine.telemetry.metrics import beat

PULSE_SECONDS = 1.0

_stopping = threading.Event()


@cache
def engine_of_this_process() -> Engine:
    """The engine, connected once. Its Redis client is its own: RQ changes the time-outs of the one it is given."""
    return Engine.connect(Settings.from_environment(), patient=True)


def start_pulse(process: str) -> None:
    """Tell every second that this process lives. Whether its work gets on is told by the age of what waits for it."""

    def pulse() -> None:
        while not _stopping.wait(PULSE_SECONDS):
            beat(process)

    beat(process)
    threading.Thread(target=pulse, name="pulse", daemon=True).start()


def stop() -> None:
    """Remember that the worker was told to stop, so that a job at work comes to its end soon."""
    _stopping.set()


def wait_for_stop(seconds: float) -> None:
    """Wait, but no longer than until the worker is told to stop."""
    _stopping.wait(seconds)


def is_stopping() -> bool:
    """Whether the worker was told to stop."""
    return _stopping.is_set()
