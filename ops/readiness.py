"""Watching ``//readyz`` until the stack can take orders."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable

PAUSE_SECONDS = 0.1


def host_in_url(host: str) -> str:
    """IPv6 addresses need brackets in a URL."""
    return f"[{host}]" if ":" in host else host


def reachable_host(host: str) -> str:
    """The address at which a server bound to ``host`` can be asked from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


class ReadinessWatch:
    """Asks in a thread of its own until the answer is 200, then calls ``ready`` once and ends.

    Every ``patience_seconds`` without success it calls ``waiting`` with what readyz says is missing.
    """

    def __init__(
        self, host: str, port: int, ready: Callable[[], None], waiting: Callable[[str], None], patience_seconds: float
    ) -> None:
        self._host = reachable_host(host)
        self._port = port
        self._ready = ready
        self._waiting = waiting
        self._patience_seconds = patience_seconds
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="readiness", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _watch(self) -> None:
        asking_since = time.monotonic()
        while not self._stopped.wait(PAUSE_SECONDS):
            missing = self._ask()
            if self._stopped.is_set():
                return
            if missing is None:
                self._ready()
                return
            if time.monotonic() - asking_since >= self._patience_seconds:
                asking_since = time.monotonic()
                self._waiting(missing)

    def _ask(self) -> str | None:
        """None when ready, otherwise what is missing."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            body = " ".join(response.read(4096).decode(errors="replace").split())
        except (OSError, http.client.HTTPException) as error:
            return f"nobody answers at {self._host}:{self._port} ({error or type(error).__name__})"
        finally:
            connection.close()
        return None if response.status == http.client.OK else f"readyz answers {response.status}: {body[:500]}"
