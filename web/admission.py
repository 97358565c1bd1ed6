"""Who is let in: of each kind of hot request so many are at work in a process at a time, and whoever comes when all
places are taken is told at once to come again.

The kinds have places of their own, so that a flood of one never keeps the other out. What is turned away costs a few
microseconds: nothing of it is read but its method, its path and its language. What is not hot is bounded where it waits
for a thread (``web/wsgi_bridge.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from web.exchange import Answered, problem_answer
from web.languages import DEFAULT_LANGUAGE, LANGUAGES, language_for
from web.problems import BUSY

SUBMISSION_PLACES = 1000
READ_PLACES = 1000
"""What two cores let through in less than half a second: enough to ride out a hiccup, and nobody waits for long."""

_POPULAR = "/api/v1/products/popular"


class Share:
    """The places of one kind of requests. Used from one event loop."""

    __slots__ = ("name", "places", "taken")

    def __init__(self, name: str, places: int) -> None:
        self.name = name
        self.places = places
        self.taken = 0

    @property
    def is_full(self) -> bool:
        """Whether whoever comes now has to be sent away."""
        return self.taken >= self.places

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *_error: object) -> None:
        self.taken -= 1


class Admission:
    """The places of one process."""

    def __init__(self, submissions: int = SUBMISSION_PLACES, reads: int = READ_PLACES) -> None:
        self.submissions = Share("submissions", submissions)
        self.reads = Share("reads", reads)

    def share_of(self, method: str, path: str) -> Share | None:
        """Whose place such a request would take; None for what is not hot."""
        if method == "POST":
            if path.endswith("/issue") and path.startswith("/api/v1/coupons/"):
                return self.submissions
            return self.submissions if path == "/api/v1/orders" else None
        if method == "GET" and (path.startswith("/api/v1/requests/") or path in ("/api/v1/products", _POPULAR)):
            return self.reads
        return None


_BUSY = {language: problem_answer(BUSY, language) for language in LANGUAGES}


def busy_answer(headers: Sequence[tuple[bytes, bytes]]) -> Answered:
    """What somebody with these headers is told when there is no place for them."""
    for name, wish in headers:
        if name == b"accept-language":
            return _BUSY[language_for(wish.decode("latin-1"))]
    return _BUSY[DEFAULT_LANGUAGE]
