"""A TCP proxy between processes and their stores, whose connections are cut, delayed or swallowed when we say so.

Runs in a process of its own, so that it forwards while its owner is busy; ends when its owner does.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection
from types import TracebackType

CHUNK_BYTES = 65_536
DELAY_SECONDS = 0.15


class Mode(StrEnum):
    """What happens to the bytes of a route."""

    PASS = "pass"
    """They are forwarded. What a hole held back arrives now, late, as after a network that comes back."""
    CUT = "cut"
    """Connections are reset, new ones at once."""
    DELAY = "delay"
    """Every piece waits for DELAY_SECONDS, each way."""
    HOLE = "hole"
    """Nothing arrives, neither way; connections stay open and new ones are accepted."""
    DEAF = "deaf"
    """What clients send arrives and is done; the answers are lost."""


@dataclass(frozen=True)
class Route:
    """Listens on 127.0.0.1:``port`` and forwards to 127.0.0.1:``target``."""

    port: int
    target: int


class Proxy:
    """``Proxy({"web to redis": Route(…)})`` as a context; :meth:`put` changes how routes behave, at once."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self.routes = dict(routes)
        spawning = multiprocessing.get_context("spawn")
        self._ours, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(self.routes, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._await_done()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()
        self._process.close()

    def put(self, names: Iterable[str], mode: Mode) -> None:
        """From now on these routes behave like this; done when it returns."""
        self._ours.send((list(names), mode))
        self._await_done()

    def _await_done(self) -> None:
        if not self._ours.poll(10):
            raise TimeoutError("the proxy does not answer")
        self._ours.recv()


@dataclass(eq=False)
class _Link:
    """One connection: the client's side and the server's."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def abort(self) -> None:
        for writer in (self.client, self.server):
            _reset(writer)

    def close(self) -> None:
        for writer in (self.client, self.server):
            writer.close()


@dataclass
class _Gatekeeper:
    """How one route behaves, and the links that are open on it."""

    target: int
    mode: Mode = Mode.PASS
    links: set[_Link] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self, mode: Mode) -> None:
        before, self.mode = self.mode, mode
        if mode is Mode.CUT or before is Mode.DEAF:
            for link in list(self.links):
                link.abort()
        self.changed.set()
        self.changed = asyncio.Event()

    async def accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.mode is Mode.CUT:
            _reset(client)
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(client)
            return
        link = _Link(client, server)
        self.links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, server, answers=False))
                both.create_task(self._forward(answers, client, answers=True))
        except* OSError:
            pass
        finally:
            self.links.discard(link)
            link.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(CHUNK_BYTES):
            while self.mode is Mode.HOLE:
                await self.changed.wait()
            if self.mode is Mode.DELAY:
                await asyncio.sleep(DELAY_SECONDS)
            if self.mode is Mode.DEAF and answers:
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one side is done: so is the other, as both stores' clients never half-close


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST and not with a FIN, as a server's machine that went away would answer."""
    if not writer.transport.is_closing():
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _serve(routes: Mapping[str, Route], owner: Connection) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_all(routes, owner))


async def _serve_all(routes: Mapping[str, Route], owner: Connection) -> None:
    keepers = {name: _Gatekeeper(route.target) for name, route in routes.items()}
    servers = [
        await asyncio.start_server(keepers[name].accept, "127.0.0.1", route.port) for name, route in routes.items()
    ]
    ended = asyncio.Event()

    def obey() -> None:
        try:
            names, mode = owner.recv()
        except (EOFError, OSError):
            ended.set()
            return
        for name in names:
            keepers[name].change(mode)
        owner.send("done")

    asyncio.get_running_loop().add_reader(owner.fileno(), obey)
    owner.send("done")
    await ended.wait()
    for server in servers:
        server.close()
    for keeper in keepers.values():
        keeper.change(Mode.CUT)
