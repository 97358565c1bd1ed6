"""What a generator sends: whole HTTP/1.1 requests as bytes, prepared before anything is measured.

Both generators read the same file, so that both send the same bytes. Its parts are separated by NUL, which no request
contains: ``cycle`` and then requests that are sent again and again; or ``count``, the first number, what comes before
the number in a request and what comes after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

SEPARATOR = b"\0"
FIRST_NUMBER = 1_000_000_000
NUMBERS_OF_ONE_PLAN = 10_000_000
"""Numbers have ten digits each, so that a request's length does not depend on them."""

_places = count()


@dataclass(frozen=True)
class Cycle:
    """Some requests, sent one after the other and then again from the first."""

    requests: tuple[bytes, ...]


@dataclass(frozen=True)
class Count:
    """One request with a number in it that is never sent twice."""

    before: bytes
    after: bytes
    first: int

    def request(self, number: int) -> bytes:
        """The request with this number, counted from 0."""
        return self.before + str(self.first + number).encode() + self.after


Plan = Cycle | Count


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: Any) -> bytes:
    """A POST request with a JSON body."""
    return _post(path, json.dumps(body).encode())


def post_counting(path: str, member: str, first: int | None = None) -> Count:
    """POST requests whose body is ``{member: number}``; the numbers are this plan's own unless the first is given."""
    first = FIRST_NUMBER + next(_places) * NUMBERS_OF_ONE_PLAN if first is None else first
    before, _, after = _post(path, json.dumps({member: FIRST_NUMBER}).encode()).rpartition(str(FIRST_NUMBER).encode())
    return Count(before, after, first)


def write_plan(plan: Plan, path: Path) -> None:
    """Put a plan into a file for a generator."""
    if isinstance(plan, Cycle):
        parts = [b"cycle", *plan.requests]
    else:
        parts = [b"count", str(plan.first).encode(), plan.before, plan.after]
    path.write_bytes(SEPARATOR.join(parts))


def requests_of(path: Path, offset: int, step: int) -> Iterator[bytes]:
    """The requests of the plan in a file without end, beginning with number ``offset`` and then every ``step``-th."""
    kind, *parts = path.read_bytes().split(SEPARATOR)
    if kind == b"cycle":
        return (parts[number % len(parts)] for number in count(offset, step))
    first, before, after = parts
    plan = Count(before, after, int(first))
    return (plan.request(number) for number in count(offset, step))


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body
