"""Reading bodies within their time.

Nearly every body arrives with its headers, and a timer for each would cost more than reading it. So those that are
being read are only noted down with their deadline, and one task looks once a second who is late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

BODY_SECONDS = 10.0
"""How long a body may take to arrive: it fits into a few packets."""
LOOK_SECONDS = 1.0

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class BodyTooSlow(Exception):
    """The body's time is over."""


class ClientGone(Exception):
    """The client went away before its request had arrived."""


class Bodies:
    """The bodies that are on their way to one process. Used from one event loop."""

    def __init__(self, seconds: float = BODY_SECONDS, look_seconds: float = LOOK_SECONDS) -> None:
        self._seconds = seconds
        self._look_seconds = look_seconds
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._looking: asyncio.Task[None] | None = None

    async def read(self, receive: Receive) -> bytes:
        """The whole body. Raises BodyTooSlow, at most a second late, and ClientGone."""
        task = asyncio.current_task()
        if task is None:  # an event loop runs nothing else
            raise RuntimeError("bodies are read in tasks")
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        self._deadlines[task] = time.monotonic() + self._seconds
        try:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                return bytes(message.get("body", b""))
            return await _read_on(message, receive)
        except asyncio.CancelledError:
            if task in self._deadlines:
                raise
            raise BodyTooSlow from None
        finally:
            self._deadlines.pop(task, None)

    async def _look(self) -> None:
        """Cancel whoever is late; taking them off the list first tells them why."""
        while True:
            await asyncio.sleep(self._look_seconds)
            now = time.monotonic()
            for task, deadline in list(self._deadlines.items()):
                if deadline < now:
                    del self._deadlines[task]
                    task.cancel()


async def _read_on(message: MutableMapping[str, Any], receive: Receive) -> bytes:
    chunks = []
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise ClientGone
