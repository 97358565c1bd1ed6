"""One HTTP exchange as the door sees it: a request that has arrived whole, an answer as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from web.languages import DEFAULT_LANGUAGE, Language, language_for
from web.problems import PROBLEM_MEDIA_TYPE, RETRY_AFTER_SECONDS, problem_document
from web.strict_json import write_json

JSON_MEDIA_TYPE = "application/json"
Header = tuple[bytes, bytes]


class Asked(NamedTuple):
    """A request. ``headers`` are by lower-case name, the last one of a name; ``repeated`` says that one came twice.
    ``peer`` is the address at the other end of the connection."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    repeated: bool
    body: bytes
    peer: str = ""

    @property
    def language(self) -> Language:
        """What the reader of the answer asks for."""
        wish = self.headers.get(b"accept-language")
        return DEFAULT_LANGUAGE if wish is None else language_for(wish.decode("latin-1"))


class Answered(NamedTuple):
    """An answer, its headers in ASGI's form."""

    status: int
    headers: Sequence[Header]
    body: bytes


def json_answer(status: int, body: Mapping[str, Any], *headers: Header) -> Answered:
    """As ``web.answers.answer``: the same headers, the same bytes."""
    return _answered(status, JSON_MEDIA_TYPE, body, headers)


def worded_answer(
    status: int, body: Mapping[str, Any], language: Language, has_words: bool, *headers: Header
) -> Answered:
    """As ``web.answers.in_words`` of such an answer."""
    return _answered(status, JSON_MEDIA_TYPE, body, (*headers, *_words(language, has_words)))


def problem_answer(
    code: str,
    language: Language,
    members: Mapping[str, Any] | None = None,
    *,
    status: int | None = None,
    retry_after_seconds: int = RETRY_AFTER_SECONDS,
) -> Answered:
    """As the views' problem documents; 429 and 503 come with Retry-After."""
    found, document = problem_document(code, language, status=status, members=members)
    retry = [(b"retry-after", b"%d" % retry_after_seconds)] if found in (429, 503) else []
    return _answered(found, PROBLEM_MEDIA_TYPE, document, (*retry, *_words(language, has_words=True)))


def _words(language: Language, has_words: bool) -> list[Header]:
    vary = (b"vary", b"Accept-Language")
    return [vary, (b"content-language", language.encode())] if has_words else [vary]


def _answered(status: int, media_type: str, body: Mapping[str, Any], headers: Sequence[Header]) -> Answered:
    content = write_json(body).encode()
    fixed = (
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
    )
    return Answered(status, [*fixed, *headers], content)
