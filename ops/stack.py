"""What other tools may know about the running stack: ``DATA_DIR/stack.json`` and the lock beside it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ops.problems import StackProblem
from ops.processes import is_alive
from ops.stores import write_private

STACK_FILE = "stack.json"
LOCK_FILE = "stack.lock"
SECRET_FILE = "jwt-secret"  # noqa: S105 - the name of the file
LET_GO_SECONDS = 10.0
"""How long to wait for the reaper of a killed supervisor, who holds the lock while it cleans up."""


@dataclass
class Stack:
    """The running stack. The URLs contain passwords: do not print them.

    ``pids`` is by name: supervisor, reaper, valkey, postgres (unless external), web, worker.1, …; a process that waits
    for its restart is missing.
    """

    address: str
    host: str
    port: int
    redis_url: str
    queue_redis_url: str
    database_url: str
    data_dir: str
    ready: bool = False
    pids: dict[str, int] = field(default_factory=dict)
    rolling_restarts: int = 0
    """How many have ended, well or not."""
    rolling_problem: str = ""
    """Why the last one stopped in the middle; empty when it did not."""

    def write(self) -> None:
        """Write the file for others to read; readers see the old state or the new one, never half."""
        write_private(Path(self.data_dir) / STACK_FILE, json.dumps(asdict(self), indent=2) + "\n")


def read_stack(data_dir: Path) -> Stack | None:
    """The stack that runs on ``data_dir``, or None: also when a killed supervisor left its file behind."""
    try:
        stack = Stack(**json.loads((data_dir / STACK_FILE).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    if not is_alive(stack.pids.get("supervisor", 0)) or not _is_locked(data_dir / LOCK_FILE):
        return None
    return stack


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[int]:
    """Hold ``data_dir`` for one stack, yielding the lock's descriptor. Raises :class:`StackProblem` when it is held.

    Makes the folder. The kernel lets go of the lock when its last holder dies, so nothing is ever stale.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _not_writable(data_dir, error) from error
    try:
        _lock(descriptor, data_dir)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            (data_dir / STACK_FILE).unlink(missing_ok=True)  # a killed supervisor's; also shows that we may write here
            write_private(data_dir / STACK_FILE, "null\n")
        except OSError as error:
            raise _not_writable(data_dir, error) from error
        try:
            yield descriptor
        finally:
            with contextlib.suppress(OSError):
                (data_dir / STACK_FILE).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data_dir: Path) -> None:
    """A holder that is alive means no; one that is dead means that its reaper is about to let go."""
    started = time.monotonic()
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - started
        with contextlib.suppress(ValueError):
            holder = int(os.pread(descriptor, 32, 0))
            if (is_alive(holder) and waited > 0.5) or waited > LET_GO_SECONDS:
                raise StackProblem(
                    f"DATA_DIR={data_dir} is in use by another stack (process {holder}). "
                    f"Stop that one, or give this one a folder of its own: DATA_DIR=./var2 PORT=8001 make run"
                )
        if waited > LET_GO_SECONDS:
            raise StackProblem(f"DATA_DIR={data_dir} is in use by another stack")
        time.sleep(0.05)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant; who starts just now tries again
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _not_writable(data_dir: Path, error: OSError) -> StackProblem:
    return StackProblem(
        f"DATA_DIR={data_dir} cannot be written: {error.strerror}. Choose a folder of yours: DATA_DIR=… make run"
    )


def secret_path(data_dir: Path) -> Path:
    """Where the local stack keeps the secret that it made."""
    return data_dir / SECRET_FILE
