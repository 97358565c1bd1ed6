"""A stack of our own: in a folder that goes when we are done, on a free port, with nothing in its stores."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from loadtests.facts import await_ready
from ops.postgres import discard_postgres
from ops.processes import PROJECT_ROOT, free_port, spawn
from ops.stack import Stack, read_stack

START_PATIENCE_SECONDS = 60.0
STOP_PATIENCE_SECONDS = 20.0

NOT_INHERITED = (
    "REDIS_URL",
    "QUEUE_REDIS_URL",
    "DATABASE_URL",
    "HOST",
    "DATA_PLATFORM_URL",
    "DATA_PLATFORM_SECRET",
    "PLATFORM_PORT",
    "AUTH",
    "LIMIT_PER_USER",
    "LIMIT_PER_ADDRESS",
)
"""Where other stores and listeners are: nothing that we break on purpose may be somebody else's. And a crowd has
no tokens, and one address."""


class StackDidNotStart(Exception):
    """The private stack ended or was not ready in time; the text ends with what it said."""


def inherited_environ() -> dict[str, str]:
    """What a stack of our own takes over of the settings that we were started with."""
    return {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}


@contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder for stores, removed at the end. Postgres' own user can reach what is in it."""
    folder = Path(tempfile.mkdtemp(prefix="seonchak-rush-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        discard_postgres(folder / "postgres")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def private_stack(
    procfile: Path = PROJECT_ROOT / "Procfile", stores: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """A ready stack, stopped at the end and dead when we die. Raises :class:`StackDidNotStart`.

    ``stores`` are settings that put other stores in place of its own (REDIS_URL, …).
    """
    with private_folder() as folder:
        environ = {
            **inherited_environ(),
            **(stores or {}),
            "DATA_DIR": str(folder),
            "PORT": str(free_port()),
            "DEMO_DATA": "0",
        }
        command = [sys.executable, "-m", "ops", "up", "--procfile", str(procfile)]
        with open(folder / "output", "wb") as output:
            process = spawn(command, environ=environ, output=output, death_signal=signal.SIGTERM)
        try:
            yield _await_ready(process, folder)
        finally:
            _stop(process)


@contextmanager
def running_or_private_stack(data_dir: Path) -> Iterator[Stack]:
    """The ready stack on this folder, or a private one: when there is none, or when it wants to know who calls. A crowd
    is many people, and has nobody's token. Raises :class:`StackDidNotStart`."""
    running = read_stack(data_dir)
    if running is not None and running.ready:
        await_ready(running)  # its web may just be starting again
        if not _asks_for_tokens(running):
            print(f"using the stack that runs at {running.address}", flush=True)
            yield running
            return
        print(f"the stack that runs at {running.address} has AUTH=jwt, and a crowd has no tokens")
    print("starting a private stack", flush=True)
    with private_stack() as stack:
        yield stack


def _asks_for_tokens(stack: Stack) -> bool:
    return httpx.get(f"{stack.address}api/v1/users/1/balance", timeout=START_PATIENCE_SECONDS).status_code == 401


def _await_ready(process: subprocess.Popen[bytes], folder: Path) -> Stack:
    deadline = time.monotonic() + START_PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        stack = read_stack(folder)
        if stack is not None and stack.ready:
            return stack
        time.sleep(0.05)
    said = (folder / "output").read_text(errors="replace")
    raise StackDidNotStart("the private stack is not ready. It said:\n" + "\n".join(said.splitlines()[-20:]))


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # its reaper ends what it leaves behind
        process.wait()
