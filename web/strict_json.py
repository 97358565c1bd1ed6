"""JSON as the contract wants it: nothing is guessed, repaired or silently dropped.

Flask's two extension points are used: the request class decides whether a body is read at all, the JSON provider how
its text is understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import Request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge, UnsupportedMediaType

from engine.moments import render_moment
from web.problems import InvalidRequest

MAX_BODY_BYTES = 64 * 1024
INTEGER_LITERAL_CHARACTERS = 20


class MalformedJson(ValueError):
    """The text is not the JSON we accept. ``field`` is the member at fault, or "body"."""

    def __init__(self, reason: str, field: str = "body") -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class StrictJSONProvider(DefaultJSONProvider):
    """Reads strictly, writes compactly; a datetime is written as RFC 3339 in UTC."""

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """As :func:`read_json`."""
        return read_json(s)

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """As :func:`write_json`."""
        return write_json(obj)


def read_json(source: str | bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises MalformedJson for what RFC 8259 leaves to the parser and we do not take: duplicate keys, NaN and
    Infinity, NUL and lone surrogates in strings, nesting deeper than the interpreter's stack. An integer of more
    than 20 characters becomes a shorter one that is still outside every limit: the member that holds it is refused
    by name, and no quadratic conversion is run for a stranger.
    """
    try:
        text = source.decode("utf-8") if isinstance(source, bytes) else source
        value = _DECODER.decode(text)
        # UTF-8 has no surrogates and JSON no raw control characters: only an escape can smuggle them in.
        if "\\u" in text:
            _refuse_unstorable_text(value)
    except UnicodeDecodeError as error:
        raise MalformedJson("must be UTF-8") from error
    except json.JSONDecodeError as error:
        raise MalformedJson(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise MalformedJson("nested too deeply") from error
    return value


def write_json(value: Any) -> str:
    """A JSON text without spaces, its members in the order given."""
    return _ENCODER.encode(value)


class StrictRequest(Request):
    """A request whose JSON body must be there as promised: right type, known length, not too long, one object."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """The body, a dict. Raises 415, 411, 413 and InvalidRequest; ``force`` and ``silent`` have no say."""
        if not _is_json(self.environ.get("CONTENT_TYPE", ""), self):
            raise UnsupportedMediaType
        # A chunked body has no length to check beforehand, and Werkzeug would cut it off without a word.
        if "HTTP_TRANSFER_ENCODING" in self.environ or self.content_length is None:
            raise LengthRequired
        if self.content_length > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if len(self.get_data()) != self.content_length:
            # Servers that end the stream themselves do not tell us that the client went away in the middle.
            raise InvalidRequest("body", "not as long as its Content-Length says")
        value = super().get_json(force=True, cache=cache)
        if not isinstance(value, dict):
            raise InvalidRequest("body", "must be a JSON object")
        return value

    def on_json_loading_failed(self, e: ValueError | None) -> Any:
        """Called by Werkzeug when the text could not be understood."""
        if isinstance(e, MalformedJson):
            raise InvalidRequest(e.field, e.reason) from e
        raise InvalidRequest("body", "not JSON") from e


def _is_json(content_type: str, request: Request) -> bool:
    if content_type == "application/json":  # what nearly everybody sends; parsing the header costs more
        return True
    charset = request.mimetype_params.get("charset", "utf-8")
    return request.mimetype == "application/json" and charset.lower() == "utf-8"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                _refuse_unstorable_text(name)
                raise MalformedJson("given more than once", name[:100])
            seen.add(name)
    return members


def _integer(literal: str) -> int:
    if len(literal) > INTEGER_LITERAL_CHARACTERS:
        literal = literal[0] + "9" * INTEGER_LITERAL_CHARACTERS
    return int(literal)


def _constant(literal: str) -> Any:
    raise MalformedJson(f"{literal} is not a number")


def _refuse_unstorable_text(value: Any) -> None:
    """Postgres stores neither NUL nor lone surrogates, and UTF-8 cannot write the latter into an answer."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            if "\x00" in part:
                raise MalformedJson("a string contains NUL")
            if not part.isascii():
                try:
                    part.encode()
                except UnicodeEncodeError as error:
                    raise MalformedJson("a string contains half a surrogate pair") from error
        elif isinstance(part, dict):
            waiting += part.keys()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _encodable(value: Any) -> Any:
    if isinstance(value, Mapping):  # the engine hands out read-only ones, and the encoder knows only dict
        return dict(value)
    if isinstance(value, datetime):
        return render_moment(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=_encodable
)
