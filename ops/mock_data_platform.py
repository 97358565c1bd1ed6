"""A stand-in for the data platform: ``python -m ops.mock_data_platform``, a part of the local stack. Loopback only.

``POST /events``
    takes a delivery as ``engine.flow.data_platform`` says: 201 for a new event, 200 for a repeated one, 401 for a
    wrong signature, 400 for a body that is no event.
``GET /events``
    ``{"count", "repeated", "refused", "mode", "last": [event, …]}``: different events, repetitions, refusals.
``POST /behaviour`` with ``{"mode": "ok" | "fail" | "hang" | "garbage" | "flaky"}``
    how deliveries are answered from now on. Only "ok", and "flaky" every other time, take them.

PLATFORM_PORT says where it listens, DATA_PLATFORM_SECRET what deliveries are signed with.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engine.flow.data_platform import SIGNATURE_HEADER, is_signed

BODY_BYTES = 1024 * 1024
REMEMBERED_EVENTS = 100_000
SHOWN_EVENTS = 20
LONGEST_HANG_SECONDS = 60.0
IDLE_SECONDS = 30.0
JUNK = b"junk " * 200_000


class Mode(StrEnum):
    """How deliveries are answered."""

    OK = "ok"
    FAIL = "fail"
    HANG = "hang"
    GARBAGE = "garbage"
    FLAKY = "flaky"


class MockDataPlatform(ThreadingHTTPServer):
    """Listens on 127.0.0.1; port 0 picks a free one. ``serve_forever()`` in a thread, then ``stop()``."""

    daemon_threads = True

    def __init__(self, port: int, secret: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.secret = secret
        self.requests = 0
        self._lock = threading.Lock()
        self._mode = Mode.OK
        self._mode_changed = threading.Event()
        self._events: OrderedDict[str, None] = OrderedDict()
        self._last: deque[Any] = deque(maxlen=SHOWN_EVENTS)
        self._count = 0
        self._repeated = 0
        self._refused = 0

    @property
    def url(self) -> str:
        """Where deliveries go."""
        return f"http://127.0.0.1:{self.server_port}/events"

    def stop(self) -> None:
        """End ``serve_forever()``; whoever is left hanging is let go."""
        self.behave(Mode.OK)
        self.shutdown()
        self.server_close()

    def behave(self, mode: Mode) -> None:
        """Answer deliveries like this from now on."""
        with self._lock:
            self._mode = mode
            self._mode_changed.set()
            self._mode_changed = threading.Event()

    def begin(self) -> tuple[Mode, int, threading.Event]:
        """A delivery came: how to answer it, its number, and what ends a hang."""
        with self._lock:
            self.requests += 1
            return self._mode, self.requests, self._mode_changed

    def receive(self, key: str, signature: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and answer for a delivery, which is remembered if it is in order; ``key`` is its Idempotency-Key."""
        with self._lock:
            if not is_signed(signature, body, self.secret, time.time()):
                self._refused += 1
                return 401, {"error": "the signature is wrong or too old"}
            event = _event(body)
            if event is None or event.get("eventId") != key:
                self._refused += 1
                return 400, {"error": "this is no event, or its id is not the Idempotency-Key"}
            if key in self._events:
                self._repeated += 1
                return 200, {"received": key, "repeated": True}
            self._events[key] = None
            if len(self._events) > REMEMBERED_EVENTS:
                self._events.popitem(last=False)
            self._last.append(event)
            self._count += 1
            return 201, {"received": key, "repeated": False}

    def received(self) -> dict[str, Any]:
        """What ``GET /events`` shows."""
        with self._lock:
            return {
                "count": self._count,
                "repeated": self._repeated,
                "refused": self._refused,
                "mode": self._mode.value,
                "last": list(self._last),
            }


class _Handler(BaseHTTPRequestHandler):
    server: MockDataPlatform
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path == "/events":
            self._answer(200, self.server.received())
        else:
            self._answer(404, {"error": "there is only /events and /behaviour"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_BYTES:
            self.close_connection = True
            self._answer(413, {"error": f"send a Content-Length, at most {BODY_BYTES}"})
            return
        body = self.rfile.read(int(length))
        if self.path == "/behaviour":
            self._change_behaviour(body)
        elif self.path == "/events":
            self._take_delivery(body)
        else:
            self._answer(404, {"error": "there is only /events and /behaviour"})

    def _change_behaviour(self, body: bytes) -> None:
        try:
            mode = Mode(json.loads(body)["mode"])
        except (ValueError, KeyError, TypeError):
            self._answer(400, {"error": f'send {{"mode": one of {", ".join(Mode)}}}'})
            return
        self.server.behave(mode)
        self._answer(200, {"mode": mode.value})

    def _take_delivery(self, body: bytes) -> None:
        mode, number, mode_changed = self.server.begin()
        if mode is Mode.HANG:
            mode_changed.wait(LONGEST_HANG_SECONDS)
            self.close_connection = True
        elif mode is Mode.GARBAGE:
            self._answer_garbage(number, mode_changed)
        elif mode is Mode.FAIL or (mode is Mode.FLAKY and number % 2):
            self._answer(500, {"error": "as asked"})
        else:
            key, signature = self.headers.get("Idempotency-Key", ""), self.headers.get(SIGNATURE_HEADER, "")
            self._answer(*self.server.receive(key, signature, body))

    def _answer_garbage(self, number: int, mode_changed: threading.Event) -> None:
        """In turn: no HTTP at all, a redirect to itself, an error longer than anyone should read, a trickle."""
        self.close_connection = True
        try:
            if number % 4 == 0:
                self.wfile.write(b"\x00\xff this is not HTTP\r\n\r\n")
            elif number % 4 == 1:
                head = f"HTTP/1.1 307 Moved\r\nLocation: {self.path}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                self.wfile.write(head.encode())
            elif number % 4 == 2:
                self.wfile.write(b"HTTP/1.1 500 Broken\r\nContent-Type: application/json\r\n\r\n")
                for _ in range(100):
                    self.wfile.write(JUNK)
            else:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for place in range(600):
                    self.wfile.write(f"X-Trickle-{place}: x\r\n".encode())
                    self.wfile.flush()
                    if mode_changed.wait(0.1):
                        break
        except OSError:
            return  # they had enough of it, which is what the mode is for

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: one line for each delivery would drown the stack's other lines."""


def _event(body: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(body)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def main() -> int:
    """Serve until stopped; the exit code."""
    port = os.environ.get("PLATFORM_PORT", "")
    secret = os.environ.get("DATA_PLATFORM_SECRET", "")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535 or not secret:
        print("PLATFORM_PORT (a port) and DATA_PLATFORM_SECRET have to be set", file=sys.stderr)
        return 2
    platform = MockDataPlatform(int(port), secret)
    # shutdown() waits for serve_forever() to end, so it cannot be called in the thread that serves.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=platform.stop).start())
    print(f"listens on {platform.url}", flush=True)
    platform.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
