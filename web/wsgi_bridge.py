"""Flask behind an event loop: a request that has arrived whole is answered on a thread of a pool.

The whole body is there before a thread is taken, so a client that sends half of it costs no thread; and answers are
small, so they come back whole. That is all of WSGI (PEP 3333) that is needed here.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

from web.exchange import Answered

THREADS = 16
PLACES = 500
"""How many may be at work or wait for a thread; whoever comes then is told to come again, at once."""

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


PATIENCE_SECONDS = 1.0
"""How long a request may wait for a thread. One that waited longer is not begun: its client is about to give up."""


class TooManyWaiting(Exception):
    """All threads are busy, and all places taken, or the wait for one was too long. Nothing was done."""


class WsgiBridge:
    """Answers requests with a WSGI application. Used from one event loop."""

    def __init__(
        self,
        application: WsgiApplication,
        threads: int = THREADS,
        places: int = PLACES,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flask")
        self._places = places
        self._patience_seconds = patience_seconds
        self._taken = 0

    async def answer(self, scope: Mapping[str, Any], body: bytes) -> Answered:
        """The application's answer to an ASGI request whose body is given. Raises TooManyWaiting."""
        if self._taken >= self._places:
            raise TooManyWaiting
        self._taken += 1
        try:
            until = time.monotonic() + self._patience_seconds
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, _environ(scope, body), until)
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Finish what is at work."""
        self._pool.shutdown(wait=True, cancel_futures=False)

    def _run(self, environ: dict[str, Any], until: float) -> Answered:
        if time.monotonic() > until:
            raise TooManyWaiting
        status, headers = 500, []

        def start_response(line: str, fields: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], object]:
            nonlocal status, headers
            status = int(line.split(" ", 1)[0])
            headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
            return written.append

        written: list[bytes] = []
        chunks = self._application(environ, start_response)
        try:
            written.extend(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return Answered(status, headers, b"".join(written))


def _environ(scope: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    server, client = scope.get("server") or ("", 0), scope.get("client") or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" in name:
            # Here a dash becomes an underscore, so X_Forwarded_For would pass for the header that our proxy wrote.
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        # A header that came twice is one with both values (RFC 9110, 5.3).
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ
