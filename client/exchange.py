"""One HTTP exchange after the other until an answer is final: what to ask again, when, and for how long."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from client.errors import Refused, Unanswered, UnexpectedAnswer

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
LEAST_SECONDS = 0.2
"""What an exchange gets even when the patience is over: one attempt is always made."""
SPREAD = 0.5
"""Who is told to come again in a second comes after one to one and a half: not everybody at once."""
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that say nothing about the wish."""

TokenSource = str | Callable[[], str] | None


@dataclass(frozen=True)
class Reply:
    """What came back; status 0 when nothing did, and then it is unknown what became of the request."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    retry_after_seconds: float | None = None
    waited: bool = False
    """Whether the shop has waited with its answer, as it was asked to."""


class Exchange:
    """Connections to one shop, one for each thread that asks, kept open. Thread-safe."""

    def __init__(
        self,
        base_url: str,
        token: TokenSource,
        timeout_seconds: float,
        language: str | None,
        told_to_wait: Callable[[str], None],
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no address; for example http://localhost:8000")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/") + "/api/v1"
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._language = language
        self._told_to_wait = told_to_wait
        self._own = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give every connection back. Nobody may be asking any more."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()

    def until_final(
        self,
        method: str,
        path: str,
        *,
        deadline: float,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        prefer: str | None = None,
    ) -> Reply:
        """The answer, with a status below 400. Raises Refused, Unanswered (past ``deadline``, by the monotonic clock).

        Everything but a final answer is asked again: a GET because it changes nothing, a POST because of its key.
        """
        pause = FIRST_PAUSE_SECONDS
        while True:
            reply = self._once(method, path, body, key, prefer, deadline - time.monotonic())
            if reply.status != 0 and reply.status not in AGAIN:
                return _final(reply)
            reason = str(reply.body.get("code") or (f"HTTP {reply.status}" if reply.status else "the shop is silent"))
            wait = pause if reply.retry_after_seconds is None else reply.retry_after_seconds
            wait *= 1 + SPREAD * random.random()
            if time.monotonic() + wait >= deadline:
                raise Unanswered(reason, key)
            self._told_to_wait(reason)
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        key: str | None,
        prefer: str | None,
        seconds_left: float,
    ) -> Reply:
        connection = self._connection()
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers(data, key, prefer)
        lay_idle = connection.sock is not None
        while True:
            try:
                _be_patient(connection, max(LEAST_SECONDS, min(self._timeout_seconds, seconds_left)))
                connection.request(method, self._prefix + path, data, headers)
                response = connection.getresponse()
                raw = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if lay_idle and isinstance(error, ConnectionError):
                    lay_idle = False  # the shop had closed it meanwhile: that is no news about the shop
                    continue
                return Reply(0)
            return Reply(
                response.status,
                _object(raw, response.status),
                _seconds(response.getheader("Retry-After")),
                response.getheader("Preference-Applied") is not None,
            )

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            connection = kind(self._host, self._port, timeout=self._timeout_seconds)
            self._own.connection = connection
            with self._lock:
                self._all.append(connection)
        return connection

    def _headers(self, data: bytes | None, key: str | None, prefer: str | None) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json" if data is not None else None,
            "Authorization": f"Bearer {token}" if token else None,
            "Accept-Language": self._language,
            "Idempotency-Key": key,
            "Prefer": prefer,
        }
        return {name: value for name, value in headers.items() if value is not None}


def _be_patient(connection: http.client.HTTPConnection, seconds: float) -> None:
    """How long it may be silent from now on, whether it is connected already or not."""
    connection.timeout = seconds
    if connection.sock is not None:
        connection.sock.settimeout(seconds)


def _final(reply: Reply) -> Reply:
    if reply.status < 400:
        return reply
    known = ("type", "title", "status", "code", "message")
    details = {name: value for name, value in reply.body.items() if name not in known}
    if "code" not in reply.body:
        raise UnexpectedAnswer(f"HTTP {reply.status} without a code")
    raise Refused(reply.status, str(reply.body["code"]), str(reply.body.get("message", "")), details)


def _object(raw: bytes, status: int) -> Mapping[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    if status in AGAIN:  # what stands in front of the shop answers in its own form
        return {}
    raise UnexpectedAnswer(f"HTTP {status} without a JSON object")


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds, which is the form that the shop uses; a date is as good as none."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
