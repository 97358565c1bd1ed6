"""Running Locust without its page, beside a loop of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ops.processes import PROJECT_ROOT, spawn
from ops.stack import Stack

PATIENCE_SECONDS = 900.0
TICK_SECONDS = 0.005


class LocustFailed(Exception):
    """Locust failed or did not come to an end; the text ends with what it said."""


def run_locust(
    scenario: str,
    stack: Stack,
    *,
    crowd: int,
    reports: Path,
    environ: Mapping[str, str],
    every_tick: Callable[[], None] = lambda: None,
) -> float:
    """Run ``loadtests/<scenario>.py`` against the stack until it stops by itself; charts in ``<scenario>.html``.

    ``crowd`` users are at it at a time; ``every_tick`` is called meanwhile. The share of one core that Locust used
    while it ran: near 1, it was the generator that could do no more. Raises :class:`LocustFailed`.
    """
    reports.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "locust", "-f", str(PROJECT_ROOT / "loadtests" / f"{scenario}.py"), "--headless"]
    command += ["--host", stack.address.rstrip("/"), "--users", str(crowd), "--spawn-rate", str(crowd)]
    command += ["--html", str(reports.resolve() / f"{scenario}.html"), "--only-summary", "--loglevel", "WARNING"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    log = reports / f"{scenario}.log"
    with open(log, "wb") as output:
        process = spawn(
            command, environ={**inherited, **environ, "PYTHONPATH": str(PROJECT_ROOT)}, output=output, cwd=PROJECT_ROOT
        )
    busy = _Busyness(process.pid)
    try:
        code = _await_end(process, every_tick, busy)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    if code != 0:
        ended = "did not come to an end" if code is None else f"ended with exit code {code}"
        raise LocustFailed(f"Locust {ended}. It said:\n{log.read_text(errors='replace')[-3000:]}")
    return busy.share


class _Busyness:
    """How much of one core a process uses, from its first second on: what it takes to start is not its work."""

    LOOK_SECONDS = 0.2

    def __init__(self, pid: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._first: tuple[float, float] | None = None
        self._next = time.monotonic() + 1.0
        self.share = 0.0

    def look(self) -> None:
        """Note how busy it was until now."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.LOOK_SECONDS
        try:
            fields = self._stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            return
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if self._first is None:
            self._first = (now, seconds)
        elif now > self._first[0]:
            self.share = (seconds - self._first[1]) / (now - self._first[0])


def _await_end(process: subprocess.Popen[bytes], every_tick: Callable[[], None], busy: _Busyness) -> int | None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        every_tick()
        busy.look()
        time.sleep(TICK_SECONDS)
    return process.poll()
