"""One server of a topology: the embedded Valkey, a folder and a port of its own; may be killed, stopped, started again.

Every server wants the password, and every server knows it for reaching the others.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.processes import free_port, port_is_free, spawn
from ops.stores import STORE_ENVIRONMENT, RunningStore, open_log
from ops.valkey import server_binary
from tests.stack.stack_driver import wait_until

PASSWORD = "a password/with:odd@characters"
"""Written into URLs with the odd characters quoted, so that a client that forgets to unquote them is found out."""

BUS_PORTS = range(61_000, 65_536)
"""For the buses of a cluster's nodes: above the ports that are given to whoever asks for a free one, or connects. By
default a bus is 10,000 above its node's port, where on a busy machine somebody else may listen by then."""

Settings = Mapping[str, str | int]
Front = Callable[[int], AbstractContextManager[int]]

_DATA_SETTINGS: Settings = {
    "bind": "127.0.0.1",
    "requirepass": f'"{PASSWORD}"',
    "masterauth": f'"{PASSWORD}"',
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",
    "repl-diskless-sync": "yes",
    "repl-diskless-sync-delay": 0,
    "repl-ping-replica-period": 1,
    "enable-debug-command": "local",
}


@dataclass
class Member:
    """A server process. ``store`` is the one that runs now, or ran last; ``known_port`` where others find it.
    ``bus_port`` is for those of a cluster."""

    name: str
    directory: Path
    port: int
    known_port: int
    bus_port: int
    arguments: Sequence[str]
    store: RunningStore

    @property
    def pid(self) -> int:
        return self.store.pid

    @property
    def running(self) -> bool:
        return self.store.running

    def kill(self) -> None:
        """Kill -9; returns when the process is gone."""
        self.store.kill()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and nobody answers."""
        self.store.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self.store.resume()

    def start(self) -> None:
        """The same server again, on what its folder holds. Call it from the main thread: it dies with its starter."""
        self.store = _launch(self.name, self.directory, self.port, self.arguments)
        self.await_answer()

    def await_answer(self) -> None:
        """Return when the server answers commands."""

        def answers() -> bool:
            assert self.running, f"{self.name} ended:\n{self.store.log_tail()}"
            with self.client() as client:
                try:
                    return bool(client.ping())
                except redis.RedisError:
                    return False

        wait_until(answers, f"{self.name} answers")

    def client(self) -> redis.Redis:
        """A connection to this very server; closed by ``with``."""
        return redis.Redis(
            port=self.port,
            password=PASSWORD,
            decode_responses=True,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )

    def info(self, section: str) -> dict[str, Any]:
        """What the server tells about itself."""
        with self.client() as client:
            found: dict[str, Any] = client.info(section)
        return found

    def run(self, *command: str | int) -> Any:
        """The answer to one command."""
        with self.client() as client:
            return client.execute_command(*command)

    def configure(self, name: str, value: str | int) -> None:
        """Change a setting of the running server, which cuts everybody off in the moment when it is told to follow."""

        def taken() -> bool:
            try:
                return bool(self.run("CONFIG", "SET", name, value))
            except redis.ConnectionError:
                return False

        wait_until(taken, f"{self.name} takes {name}")

    @property
    def is_primary(self) -> bool:
        """Whether it takes itself for a primary; False when it does not answer."""
        try:
            return bool(self.info("replication")["role"] == "master")
        except redis.RedisError:
            return False

    def fall_behind(self) -> None:
        """From now on this replica hears nothing of its primary, and goes on as one that lags."""
        host, port = (str(self.info("replication")[f"master_{part}"]) for part in ("host", "port"))
        self.configure("masterauth", "not the password")
        with redis.Redis(host, int(port), password=PASSWORD, retry=Retry(NoBackoff(), 0)) as primary:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
        wait_until(lambda: self.info("replication")["master_link_status"] == "down", f"{self.name} is alone")

    def catch_up(self) -> None:
        """The end of falling behind: the server may follow a primary again."""
        self.configure("masterauth", PASSWORD)

    def await_link(self) -> None:
        """Return when this replica follows its primary."""
        wait_until(lambda: self.info("replication").get("master_link_status") == "up", f"{self.name} follows")

    def await_all_of(self, primary: Member) -> None:
        """Return when this replica has all that the primary has written so far (WAIT tells that only to the writer)."""
        written = primary.info("replication")["master_repl_offset"]
        wait_until(lambda: self.info("replication").get("slave_repl_offset", 0) >= written, f"{self.name} has it all")


@contextmanager
def paused(*members: Member) -> Iterator[None]:
    """They hang meanwhile."""
    for member in members:
        member.pause()
    try:
        yield
    finally:
        for member in members:
            member.resume()


@contextmanager
def data_server(
    folder: Path,
    name: str,
    settings: Settings | None = None,
    front: Front = nullcontext,
    announced_as: str = "replica-announce-port",
) -> Iterator[Member]:
    """A server for data.

    ``front`` opens another port in front of the server's, which the server then announces as its own by the setting
    ``announced_as``.
    """
    port = free_port()
    with front(port) as known_port:
        announced = {announced_as: known_port}
        with _member(folder, name, (port, known_port), {**_DATA_SETTINGS, **announced, **(settings or {})}) as member:
            yield member


@contextmanager
def data_servers(
    folder: Path,
    names: Sequence[str],
    settings: Settings | None = None,
    front: Front = nullcontext,
    announced_as: str = "replica-announce-port",
) -> Iterator[list[Member]]:
    """Several of them; all of them have started before the first is waited for."""
    with ExitStack() as exits:
        members = [exits.enter_context(data_server(folder, name, settings, front, announced_as)) for name in names]
        for member in members:
            member.await_answer()
        yield members


@contextmanager
def sentinel_server(folder: Path, name: str, lines: Sequence[str]) -> Iterator[Member]:
    """A sentinel with these ``sentinel …`` lines in its configuration."""
    port = free_port()
    settings = {"bind": "127.0.0.1", "requirepass": f'"{PASSWORD}"'}
    with _member(folder, name, (port, port), settings, lines, ("--sentinel",)) as member:
        yield member


@contextmanager
def _member(
    folder: Path,
    name: str,
    ports: tuple[int, int],
    settings: Settings,
    lines: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> Iterator[Member]:
    directory = folder / name
    directory.mkdir()
    port, known_port = ports
    bus_port = _free_bus_port()
    configuration = [f"{key} {value}" for key, value in settings.items()]
    configuration += [f"port {port}", f'dir "{directory}"', "daemonize no", *lines]
    configuration += [f"cluster-port {bus_port}"] if "cluster-enabled" in settings else []
    file = directory / "server.conf"
    file.write_text("\n".join(configuration) + "\n")
    command = (str(file), *arguments)
    member = Member(name, directory, port, known_port, bus_port, command, _launch(name, directory, port, command))
    try:
        yield member
    finally:
        member.store.kill()
        shutil.rmtree(directory, ignore_errors=True)


def _free_bus_port() -> int:
    while not port_is_free("127.0.0.1", port := random.choice(BUS_PORTS)):
        continue
    return port


def _launch(name: str, directory: Path, port: int, arguments: Sequence[str]) -> RunningStore:
    log = directory / "server.log"
    with open(open_log(log), "wb") as output:
        command = [str(server_binary()), *arguments]
        process = spawn(command, environ=STORE_ENVIRONMENT, output=output, cwd=directory)
    return RunningStore(name, f"redis://127.0.0.1:{port}/0", port, directory, log, process, signal.SIGTERM)
