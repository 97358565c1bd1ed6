"""Asking the shop over HTTP: what was asked, when, and what was answered."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_SECONDS = 3.0
NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer. Times are ``time.monotonic()``; ``status`` is NO_ANSWER when there was none."""

    begin: float
    end: float
    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""

    @property
    def unknown(self) -> bool:
        """Whether the asker cannot know what became of it."""
        return self.status == NO_ANSWER or self.status >= 500

    @property
    def accepted(self) -> bool:
        """Whether a submission was promised or done."""
        return self.status in (201, 202)

    @property
    def code(self) -> str:
        """Of a problem document, else ''."""
        return str(self.body.get("code", ""))


class Asker:
    """One client: a connection to one of the web processes at a time, another one when that fails. Not thread-safe."""

    def __init__(self, ports: Sequence[int], first: int = 0) -> None:
        self._ports = ports
        self._turn = first
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        wait_seconds: int = 0,
    ) -> Exchange:
        """Ask once. Never raises for a shop that does not answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        if wait_seconds:
            headers["Prefer"] = f"wait={wait_seconds}"
        payload = None if body is None else json.dumps(body).encode()
        begin = time.monotonic()
        try:
            connection = self._connected()
            connection.request(method, f"/api/v1{path}", payload, headers)
            with connection.getresponse() as response:
                content = response.read()
                answer = json.loads(content) if content else {}
        except (OSError, http.client.HTTPException, ValueError):
            self.hang_up()
            return Exchange(begin, time.monotonic(), NO_ANSWER)
        end = time.monotonic()
        if response.will_close:
            self.hang_up()
        location = response.headers.get("Location", "")
        return Exchange(begin, end, response.status, answer, location.rpartition("/")[2])

    def hang_up(self) -> None:
        """Give the connection up; the next question goes to the next web process."""
        self.close()
        self._turn += 1

    def close(self) -> None:
        """Leave nothing open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            port = self._ports[self._turn % len(self._ports)]
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        return self._connection
