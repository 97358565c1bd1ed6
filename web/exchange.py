"""One HTTP exchange as the door sees it: a request that has arrived whole, an answer as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from web.problems import BUSY, PROBLEM_MEDIA_TYPE, RETRY_AFTER_SECONDS, problem_document
from web.strict_json import write_json

JSON_MEDIA_TYPE = "application/json"


class Asked(NamedTuple):
    """A request. ``headers`` are by lower-case name, the last one of a name; ``repeated`` says that one came twice."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    repeated: bool
    body: bytes


class Answered(NamedTuple):
    """An answer, its headers in ASGI's form."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def json_answer(status: int, body: Mapping[str, Any], *headers: tuple[bytes, bytes]) -> Answered:
    """As ``web.answers.answer``: the same headers, the same bytes."""
    return _answered(status, JSON_MEDIA_TYPE, body, headers)


def problem_answer(code: str, members: Mapping[str, Any] | None = None, *, status: int | None = None) -> Answered:
    """As the views' problem documents; 503 comes with Retry-After."""
    found, document = problem_document(code, status=status, members=members)
    retry = [(b"retry-after", b"%d" % RETRY_AFTER_SECONDS)] if found == 503 else []
    return _answered(found, PROBLEM_MEDIA_TYPE, document, retry)


def busy_answer() -> Answered:
    """Come again in a moment."""
    return problem_answer(BUSY)


def _answered(
    status: int, media_type: str, body: Mapping[str, Any], headers: list[tuple[bytes, bytes]] | tuple[Any, ...]
) -> Answered:
    content = write_json(body).encode()
    fixed = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
    ]
    return Answered(status, [*fixed, *headers], content)
