"""A running embedded server, Valkey or Postgres: the part that the two have in common."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.problems import StackProblem, StartInterrupted
from ops.processes import BARE_ENVIRONMENT, children_of, signal_quietly

START_PATIENCE_SECONDS = 60.0
"""Crash recovery of a large Postgres or a long append-only file takes its time; a healthy start takes under one."""

LOG_LIMIT_BYTES = 10_000_000

STORE_ENVIRONMENT = {**BARE_ENVIRONMENT, "LC_ALL": "C", "TZ": "UTC"}
"""Nothing of ours: a stray PGPORT or a locale that is not installed must not change how a server starts."""


@dataclass
class RunningStore:
    """One server process that we own. It dies with the thread that started it."""

    name: str
    url: str
    port: int
    directory: Path
    log: Path
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals

    @property
    def pid(self) -> int:
        """The server itself (for Postgres: the postmaster)."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the server has not ended; collects it if it has."""
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        """Begin an orderly stop; a paused server is woken, so that it can obey."""
        self.process.send_signal(self.stop_signal)
        self.resume()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Stop in an orderly way, or by SIGKILL when the time is up. Returns when the process is gone."""
        if self.running:
            self.ask_to_stop()
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill -9 the server and its children at once, as a crash would. Returns when the server is gone."""
        if self.running:
            family = [self.pid, *children_of(self.pid)]
            for pid in family:
                signal_quietly(pid, signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP the server and its children: connections stay open and nobody answers."""
        for pid in [self.pid, *children_of(self.pid)]:
            signal_quietly(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT the server and its children."""
        if self.running:
            for pid in [self.pid, *children_of(self.pid)]:
                signal_quietly(pid, signal.SIGCONT)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of the server's log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


def await_answer(
    store: RunningStore,
    answers: Callable[[], bool],
    stop_requested: Callable[[], bool],
    patience_seconds: float = START_PATIENCE_SECONDS,
) -> None:
    """Return when ``answers()`` is true.

    Raises :class:`StackProblem` with the end of the log if the server ends or stays silent, and
    :class:`StartInterrupted` when ``stop_requested()``; whatever is raised, the server is stopped.
    """
    deadline = time.monotonic() + patience_seconds
    try:
        while not answers():
            if stop_requested():
                raise StartInterrupted
            if not store.running or time.monotonic() > deadline:
                how = f"did not answer within {patience_seconds:.0f} s" if store.running else "ended at once"
                raise StackProblem(f"{store.name} {how}. The end of {store.log}:\n{store.log_tail()}")
            time.sleep(0.03)
    except BaseException:
        store.stop(timeout_seconds=2.0)
        raise


def open_log(path: Path) -> int:
    """A descriptor to append to; a log that has grown over the limit starts afresh."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with contextlib.suppress(OSError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            flags |= os.O_TRUNC
    return os.open(path, flags, 0o600)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step: a reader sees the old text or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def remembered_password(path: Path, invent: Callable[[], str]) -> str:
    """The password in ``path``, invented and written there on the first call."""
    with contextlib.suppress(FileNotFoundError):
        if password := path.read_text().strip():
            return password
    password = invent()
    write_private(path, password + "\n")
    return password
