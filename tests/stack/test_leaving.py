"""How a web process leaves: on a socket that stays open, with a last answer for everybody who is connected."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.service_manager import BACKLOG, given_listeners, open_listeners, tell_ready
from ops.processes import PROJECT_ROOT, children_of, signal_quietly, spawn
from ops.rolling import ReadySignal
from ops.supervisor import LISTENERS
from tests.stack.stack_driver import await_gone, family_of, wait_until

NO_STORES = {"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/nobody"}
"""``/healthz`` needs neither."""
ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG_SECONDS = 30

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        yield listener


@pytest.fixture
def start(listener: socket.socket) -> Iterator[Start]:
    """Starts web processes on the listener, ``start(goodbye_seconds)``; returns when one is at work."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(goodbye_seconds: float = 0.5) -> subprocess.Popen[bytes]:
        ready = ReadySignal()
        command = [sys.executable, "-m", "web.serve", "--workers", "1", "--goodbye-seconds", str(goodbye_seconds)]
        environ = {**os.environ, **NO_STORES, "NOTIFY_SOCKET": ready.address}
        started.append(spawn(command, environ=environ, output=subprocess.DEVNULL, listeners=[listener.fileno()]))
        wait_until(ready.has_come, "the web is at work")
        ready.close()
        return started[-1]

    yield start_one
    for process in started:
        family = family_of(process.pid)
        for pid in family:
            signal_quietly(pid, signal.SIGKILL)
        process.wait()
        await_gone(family)


@pytest.fixture
def connect(listener: socket.socket) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections."""
    opened: list[socket.socket] = []

    def open_one() -> socket.socket:
        opened.append(socket.create_connection(listener.getsockname(), timeout=LONG_SECONDS))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def ask(connection: socket.socket) -> bytes:
    """The answer; empty when the connection was closed instead."""
    try:
        connection.sendall(ASK)
        return connection.recv(65536)
    except ConnectionError:
        return b""


def leave(process: subprocess.Popen[bytes], listener: socket.socket) -> None:
    """Tell the process to leave, and return when it takes nobody new: its descriptor means another socket now."""
    shared = os.fstat(listener.fileno()).st_ino
    (serving,) = children_of(process.pid)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: f"socket:[{shared}]" not in sockets_of(serving), "it takes nobody new")


def sockets_of(pid: int) -> set[str]:
    try:
        return {os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:  # gone, or just closing one
        return set()


def test_who_is_connected_gets_a_last_answer(
    start: Start, connect: Callable[[], socket.socket], listener: socket.socket
) -> None:
    web = start(LONG_SECONDS)
    talked, silent = connect(), connect()
    first = ask(talked)
    assert first.startswith(b"HTTP/1.1 200")
    assert b"connection: close" not in first.lower()
    leave(web, listener)
    for connection in (talked, silent):
        last = ask(connection)
        assert last.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in last.lower()
        assert connection.recv(1) == b""


def test_without_a_goodbye_a_connection_is_closed_under_the_next_request(
    start: Start, connect: Callable[[], socket.socket]
) -> None:
    """The negative control: what happens to a client that sends just then."""
    web = start(0)
    connection = connect()
    assert ask(connection).startswith(b"HTTP/1.1 200")
    web.send_signal(signal.SIGTERM)
    web.wait()
    assert ask(connection) == b""


def test_who_connects_meanwhile_waits_for_the_next_process(
    start: Start, connect: Callable[[], socket.socket], listener: socket.socket
) -> None:
    web = start(0.5)
    leave(web, listener)
    early = connect()
    early.sendall(ASK)
    assert web.wait() == 0  # gone, and nobody is there
    late = connect()
    late.sendall(ASK)
    start()
    for connection in (early, late):
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_two_processes_serve_one_socket(
    start: Start, connect: Callable[[], socket.socket], listener: socket.socket
) -> None:
    first = start(LONG_SECONDS)
    start()
    leave(first, listener)
    for _ in range(20):
        assert b"connection: close" not in ask(connect()).lower()  # all by the one that stays


def test_a_socket_for_somebody_else_is_not_ours() -> None:
    assert given_listeners({}) == []
    assert given_listeners({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}) == []
    assert given_listeners({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": ""}) == []


def test_every_socket_on_a_port_has_a_queue_and_gets_its_share() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listeners, clients, taken = open_listeners("127.0.0.1", port, 2), [], []
    try:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        for listener in listeners:
            listener.setblocking(False)
            taken.append(0)
            with suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    taken[-1] += 1
        assert sum(taken) == 60
        assert min(taken) > 5
        with pytest.raises(OSError, match="in use"):  # another program's port is not shared unnoticed
            open_listeners("127.0.0.1", port, 2)
    finally:
        for each in [*listeners, *clients]:
            each.close()


def test_a_socket_that_nobody_would_take_from_is_refused(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as second, tempfile.TemporaryFile() as output:
        process = spawn(
            [sys.executable, "-m", "web.serve", "--workers", "1"],
            environ={**os.environ, **NO_STORES},
            output=output,
            listeners=[listener.fileno(), second.fileno()],
        )
        assert process.wait(60) == 2
        output.seek(0)
        assert output.read() == b"2 sockets, and --workers 1: nobody would take from one\n"


def test_the_supervisor_opens_as_many_sockets_as_the_web_has_processes() -> None:
    assert f"web: python -m web.serve --workers {LISTENERS}\n" in (PROJECT_ROOT / "Procfile").read_text()
    socket_unit = (PROJECT_ROOT / "docs" / "operations" / "systemd" / "seonchak-web.socket").read_text()
    assert socket_unit.count("ListenStream=") == LISTENERS


def test_readiness_is_told_to_whoever_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.setblocking(False)
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        tell_ready()
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        tell_ready()
        assert manager.recv(100) == b"READY=1"
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/nobody")
        tell_ready()  # nobody listens: no reason to stop


def test_a_port_that_is_taken_is_said_in_words(listener: socket.socket) -> None:
    port = str(listener.getsockname()[1])
    finished = subprocess.run(
        [sys.executable, "-m", "web.serve"],
        env={**os.environ, **NO_STORES, "PORT": port},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 2
    assert finished.stderr == f"port {port} on 127.0.0.1 cannot be listened on: Address already in use\n"
