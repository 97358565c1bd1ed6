"""The data platform: order events sent to somebody else's HTTP endpoint, signed, each bounded in time and size.

A delivery is a POST of JSON (``eventId`` and the event's payload) with these headers:

``Idempotency-Key``
    the event id. A delivery may be repeated: the receiver keeps the first and answers 2xx to the others.
``X-Seonchak-Signature``
    ``t=<unix seconds>,v1=<hex>``: the HMAC-SHA256, under the shared secret, of the bytes ``<unix seconds>.<body>``.
    The receiver computes the same and refuses what differs or is older than :data:`SIGNATURE_SECONDS`
    (:func:`is_signed` is that check). Every attempt is signed anew.

Any 2xx is an acknowledgement, whatever its body says; everything else, a redirect included, is a failure. Events of one
order may arrive in any order.

This talks through httpcore, the transport under httpx: httpx bounds each single read, so a peer that sends a byte now
and then could hold a worker for hours, and only httpcore lets us put one deadline on the whole exchange.
"""

from __future__ import annotations

import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from types import TracebackType
from typing import Any

import httpcore

from engine.ledger.order_events import OrderEvent

SIGNATURE_HEADER = "X-Seonchak-Signature"
SIGNATURE_SECONDS = 300
ANSWER_SECONDS = 3.0
"""One exchange, from the connection to the end of the answer."""
ANSWER_BYTES = 64 * 1024
"""As much of an answer as is read to keep its connection; a longer one costs the connection."""
THREADS = 8

_SIGNATURE = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})", re.ASCII)


class DeliveryFailed(Exception):
    """The platform did not take the event, or we do not know that it did; ``str()`` says why."""


class DataPlatform:
    """Delivers events over connections that are kept alive. Use it as a context manager; one per run."""

    def __init__(self, url: str, secret: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._url = url
        self._secret = secret
        self._answer_seconds = answer_seconds
        self._deadline = _Deadline()
        self._pool = httpcore.ConnectionPool(
            max_connections=THREADS,
            max_keepalive_connections=THREADS,
            keepalive_expiry=5.0,
            retries=0,
            network_backend=_DeadlineBackend(self._deadline),
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="data-platform")

    def __enter__(self) -> DataPlatform:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._pool.close()

    def deliver_all(
        self, events: Sequence[OrderEvent], keep_going: Callable[[], bool] = lambda: True
    ) -> dict[str, str | None]:
        """Deliver several at once; by event id, why it failed, or None for a success.

        ``keep_going`` is asked before each; events that it stops are missing from the result.
        """

        def attempt(event: OrderEvent) -> tuple[str, str | None] | None:
            if not keep_going():
                return None
            try:
                self.deliver(event)
            except DeliveryFailed as failure:
                return event.event_id, str(failure)
            return event.event_id, None

        return dict(result for result in self._threads.map(attempt, events) if result is not None)

    def deliver(self, event: OrderEvent) -> None:
        """Deliver one event. Raises DeliveryFailed, within :data:`ANSWER_SECONDS` (name resolution not counted)."""
        body = json.dumps({"eventId": event.event_id, **event.payload}, ensure_ascii=False).encode()
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": "application/json",
            "User-Agent": "seonchak",
            "Idempotency-Key": event.event_id,
            SIGNATURE_HEADER: signature(self._secret, int(time.time()), body),
        }
        # The pool's own wait for a connection is the one thing that the deadline cannot see.
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._answer_seconds)
        self._deadline.set(self._answer_seconds)
        try:
            with self._pool.stream(
                "POST", self._url, headers=headers, content=body, extensions={"timeout": timeouts}
            ) as response:
                status = response.status
                _read_some(response)
        except _FAILURES as error:
            raise DeliveryFailed(_reason(error)) from error
        if not 200 <= status < 300:
            raise DeliveryFailed(f"HTTP {status}")


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The signature header of a body sent at ``timestamp`` (unix seconds)."""
    return f"t={timestamp},v1={_digest(secret, timestamp, body)}"


def is_signed(header: str, body: bytes, secret: str, now: float) -> bool:
    """Whether the header was made for this body by somebody who knows the secret, and not long before ``now``."""
    match = _SIGNATURE.fullmatch(header)
    if match is None or abs(now - int(match[1])) > SIGNATURE_SECONDS:
        return False
    return hmac.compare_digest(match[2], _digest(secret, int(match[1]), body))


def _digest(secret: str, timestamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, sha256).hexdigest()


_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,  # TLS and name resolution
)


def _read_some(response: httpcore.Response) -> None:
    """Read the answer's body, so that the connection can be used again; the status has said all that counts."""
    taken = 0
    try:
        for chunk in response.iter_stream():
            taken += len(chunk)
            if taken > ANSWER_BYTES:
                return
    except _FAILURES:
        return


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


class _Deadline(threading.local):
    """When the exchange of this thread has to be over (monotonic seconds); each runs in one thread."""

    at = 0.0

    def set(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def left(self, timeout: float | None, expired: type[httpcore.TimeoutException]) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise expired("no complete answer in time")
        return left if timeout is None else min(left, timeout)


class _DeadlineStream(httpcore.NetworkStream):
    """A stream on which no single step waits longer than the exchange may still take."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    """Connects as usual; see :class:`_DeadlineStream`."""

    def __init__(self, deadline: _Deadline) -> None:
        self._backend = httpcore.SyncBackend()
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(
            self._backend.connect_tcp(host, port, left, local_address, socket_options), self._deadline
        )
