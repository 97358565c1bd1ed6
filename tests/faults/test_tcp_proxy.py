"""The proxy that stands between processes and stores: every way in which it may fail does fail."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ops.processes import free_port
from tests.faults.tcp_proxy import DELAY_SECONDS, Mode, Proxy, Route
from tests.stack.stack_driver import wait_until

SOON_SECONDS = 0.3


class Echo:
    """A server that answers what it is sent, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1000):
                self.heard += data
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy({"ours": Route(free_port(), echo.port), "others": Route(free_port(), echo.port)}) as proxy:
        yield proxy


def dial(proxy: Proxy, name: str = "ours") -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.routes[name].port), timeout=5)


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(1000)


def assert_silent(client: socket.socket) -> None:
    client.settimeout(SOON_SECONDS)
    with pytest.raises(TimeoutError):
        client.recv(1000)
    client.settimeout(5)


def test_it_forwards_both_ways(proxy: Proxy) -> None:
    with dial(proxy) as client:
        assert ask(client, b"hello") == b"hello"
        assert ask(client, b"again") == b"again"


def test_a_cut_resets_what_is_open_and_what_comes_and_leaves_other_routes_alone(proxy: Proxy) -> None:
    with dial(proxy) as client, dial(proxy, "others") as other:
        assert ask(client, b"hello") == b"hello"
        assert ask(other, b"hello") == b"hello"
        proxy.put(["ours"], Mode.CUT)
        with pytest.raises(ConnectionResetError):
            client.recv(1000)
        with pytest.raises(ConnectionResetError), dial(proxy) as late:
            late.recv(1000)
        assert ask(other, b"again") == b"again"
    proxy.put(["ours"], Mode.PASS)
    with dial(proxy) as client:
        assert ask(client, b"hello") == b"hello"


def test_a_delay_delays_each_way(proxy: Proxy) -> None:
    with dial(proxy) as client:
        assert ask(client, b"hello") == b"hello"
        proxy.put(["ours"], Mode.DELAY)
        started = time.monotonic()
        assert ask(client, b"slowly") == b"slowly"
        assert time.monotonic() - started >= 2 * DELAY_SECONDS


def test_what_falls_into_a_hole_arrives_when_the_network_is_back(proxy: Proxy, echo: Echo) -> None:
    with dial(proxy) as client:
        proxy.put(["ours"], Mode.HOLE)
        client.sendall(b"late")
        assert_silent(client)
        assert echo.heard == b""
        proxy.put(["ours"], Mode.PASS)
        assert client.recv(1000) == b"late"


def test_a_deaf_client_s_words_are_heard_and_the_connection_breaks_in_the_end(proxy: Proxy, echo: Echo) -> None:
    with dial(proxy) as client:
        assert ask(client, b"hello") == b"hello"
        proxy.put(["ours"], Mode.DEAF)
        client.sendall(b" done")
        wait_until(lambda: echo.heard == b"hello done", "the server has heard it")
        assert_silent(client)
        proxy.put(["ours"], Mode.PASS)
        with pytest.raises(ConnectionResetError):
            client.recv(1000)
