"""A crowd that keeps its connections and repeats nothing: every request that is not answered is written down.

Each shopper is on a connection of their own, as of a browser or a pool. Before a request they look whether the other
side has closed it, and then open a new one; after the first byte of a request was sent, no answer is a failure,
whatever the reason. Some come with a new connection each time.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loadtests.verdict import NO_ANSWER, Attempt, Purpose

PAUSE_SECONDS = 0.15
ANSWER_SECONDS = 20.0
NEW_CONNECTION_SHARE = 0.2
WAITING_SHARE = 0.2
ORDER_SHARE = 0.2


@dataclass
class Crowd:
    """Who asks for what, and what became of it. ``failures`` are in words, one for each request without its answer."""

    port: int
    coupon_id: int
    product_id: int
    buyers: list[int]
    shoppers: int = 24
    attempts: list[Attempt] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    """Of every order's answer the status and, of a refusal, the code."""
    failures: list[str] = field(default_factory=list)
    last_answers: int = 0
    """How many were told that their connection ends with this answer."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _next_user: int = 0

    @contextmanager
    def at_work(self) -> Iterator[Crowd]:
        """Let the crowd loose until the block is left; then everybody finishes what they are at."""
        thread = threading.Thread(target=lambda: asyncio.run(self._shop()))
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    async def _shop(self) -> None:
        await asyncio.gather(*(self._shopper(random.Random(seed)) for seed in range(self.shoppers)))

    async def _shopper(self, chance: random.Random) -> None:
        connection = _Connection(self)
        while not self._stop.is_set():
            if chance.random() < NEW_CONNECTION_SHARE:
                connection.close()
            if chance.random() < ORDER_SHARE:
                await self._order(connection, chance)
            else:
                await self._issue(connection, chance)
            await asyncio.sleep(chance.random() * PAUSE_SECONDS)
        connection.close()

    async def _issue(self, connection: _Connection, chance: random.Random) -> None:
        self._next_user += 1
        user_id = self._next_user
        headers = {"Prefer": "wait=5"} if chance.random() < WAITING_SHARE else {}
        path = f"/api/v1/coupons/{self.coupon_id}/issue"
        status, body, request_id = await connection.post(path, {"userId": user_id}, headers)
        self.attempts.append(
            Attempt(
                purpose=Purpose.ISSUE,
                user_id=user_id,
                status=status,
                code=body.get("code", ""),
                request_id=request_id,
                sequence=body.get("sequence", 0),
                at=time.time(),
            )
        )

    async def _order(self, connection: _Connection, chance: random.Random) -> None:
        lines = [{"productId": self.product_id, "quantity": 1}]
        order = {"userId": chance.choice(self.buyers), "orderItems": lines}
        status, body, _ = await connection.post("/api/v1/orders", order, {"Prefer": "wait=5"})
        self.orders.append(f"{status} {body.get('code', '')}".rstrip())


class _Connection:
    """One shopper's connection, opened when it is needed."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def post(self, path: str, document: object, headers: dict[str, str]) -> tuple[int, dict[str, Any], str]:
        """Status, body, and the request's id where the answer names one; NO_ANSWER when there is none."""
        body = json.dumps(document)
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items()), "", body]
        doing = "connecting"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await self._open()
                doing = "waiting for the answer"
                writer.write("\r\n".join(lines).encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                doing = "reading the answer"
                answer = await reader.readexactly(int(_header(head, "content-length")))
        except (OSError, EOFError, TimeoutError) as error:
            self._crowd.failures.append(f"{doing}: {type(error).__name__} {error}".rstrip())
            self.close()
            return NO_ANSWER, {}, ""
        if _header(head, "connection") == "close":
            self._crowd.last_answers += 1
            self.close()
        return int(head.split(" ", 2)[1]), json.loads(answer), _header(head, "location").rpartition("/")[2]

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._crowd.port)
        return self._streams


def _header(head: str, name: str) -> str:
    lines = (line.partition(": ") for line in head.split("\r\n"))
    return next((value for written, _, value in lines if written.lower() == name), "")
