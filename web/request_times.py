"""How long requests take, by route: counted at the door, once per request of a rush, so it has to cost next to nothing.

A process counts for itself and hands its numbers over twice a second; one that is killed in between takes half a
second of them with it. Decisions are not counted here, and lose nothing.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from engine.telemetry.metrics import HTTP_FAULTS, HTTP_SECONDS, beat
from engine.telemetry.tallied_histogram import LocalTally

HAND_OVER_SECONDS = 0.5

SHORT, VIEWS = "short", "views"
_BY_PATH = {
    "/api/v1/orders": "orders",
    "/api/v1/products": "products",
    "/api/v1/products/popular": "popular",
    "/metrics": "operations",
    "/healthz": "operations",
    "/readyz": "operations",
}
_BY_FOLDER = {"coupons": "issue", "requests": "requests", "users": "users", "orders": "orders", "admin": "admin"}
OTHER = "other"
FAULT = 500


def route_of(path: str) -> str:
    """The route a path belongs to: one of a dozen names, however many ids there are."""
    known = _BY_PATH.get(path)
    if known is not None:
        return known
    parts = path.split("/", 4)
    return _BY_FOLDER.get(parts[3], OTHER) if len(parts) > 4 and parts[1] == "api" else OTHER


class RequestTimes:
    """The times of the requests that one event loop answered."""

    def __init__(self) -> None:
        self._tally = LocalTally(HTTP_SECONDS)
        self._handing_over: asyncio.TimerHandle | None = None

    def begin(self) -> float:
        """A request is here; what :meth:`end` wants to know of it."""
        return perf_counter()

    def end(self, begun: float, path: str, way: str, status: int) -> None:
        """The request is answered."""
        self._tally.observe((route_of(path), way, str(status)), perf_counter() - begun)
        if status == FAULT:
            HTTP_FAULTS.inc()
        if self._handing_over is None:
            self._handing_over = asyncio.get_running_loop().call_later(HAND_OVER_SECONDS, self.hand_over)

    def hand_over(self) -> None:
        """Let everybody see what was counted."""
        self._handing_over = None
        self._tally.hand_over()


class LoopPulse:
    """Tells every second that the event loop goes round: one that is blocked is not heard."""

    SECONDS = 1.0

    def __init__(self) -> None:
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat, now and from now on; from the loop."""
        beat("web")
        self._next = asyncio.get_running_loop().call_later(self.SECONDS, self.start)

    def stop(self) -> None:
        """Beat no more."""
        if self._next is not None:
            self._next.cancel()
