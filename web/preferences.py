"""``Prefer: wait=N`` (RFC 7240): a client may ask to be answered only when the outcome is final."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import parse_http_list

LONGEST_WAIT_SECONDS = 10
WAITING_PLACES = 8
"""How many requests of one process may wait at a time: half of its threads (``web.wsgi_bridge.THREADS``),
so that the other half is always there to take submissions."""
LONGEST_HEADER = 1000
_DIGITS_READ = 9


class WaitingRoom:
    """The places of one process for those who wait. Thread-safe."""

    def __init__(self, places: int = WAITING_PLACES) -> None:
        self._places = threading.BoundedSemaphore(places)

    @contextmanager
    def granted(self, prefer: str | None) -> Iterator[int]:
        """The seconds to wait, as the ``Prefer`` header asks; 0 when it does not ask or no place is free.

        The place is kept until the context ends.
        """
        seconds = wanted_wait_seconds(prefer)
        if seconds == 0 or not self._places.acquire(blocking=False):
            yield 0
            return
        try:
            yield seconds
        finally:
            self._places.release()


def wanted_wait_seconds(prefer: str | None) -> int:
    """What a ``Prefer`` header asks for, at most 10. A malformed or unknown preference is ignored, as RFC 7240 says."""
    if prefer is None or len(prefer) > LONGEST_HEADER:
        return 0
    for preference in parse_http_list(prefer):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":  # of a preference given twice, the first counts
            return _seconds(value.strip())
    return 0


def _seconds(value: str) -> int:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not (value.isascii() and value.isdigit()):
        return 0
    digits = value.lstrip("0")
    return min(int(digits[:_DIGITS_READ] or 0), LONGEST_WAIT_SECONDS)
