"""The members of requests: path ids and headers."""

from __future__ import annotations

import re
from typing import Any

from flask import abort, request
from pydantic.alias_generators import to_camel

from engine.ids import MAX_SAFE_INTEGER, id_in
from web.bounds import oversize
from web.problems import INVALID_USER_ID, InvalidRequest

IDEMPOTENCY_KEY_CHARACTERS = 128

VISIBLE_ASCII = re.compile(rf"[\x21-\x7e]{{1,{IDEMPOTENCY_KEY_CHARACTERS}}}")
_TEXT_VARIABLES = frozenset({"request_id"})


def is_path_id(variable: str) -> bool:
    """Whether a path variable of this name is a number: every ``…_id`` is, except the request's, which is opaque."""
    return variable.endswith("_id") and variable not in _TEXT_VARIABLES


def refuse_oversize(_endpoint: str | None, _variables: dict[str, Any] | None) -> None:
    """Before anything of a request is looked at (a ``url_value_preprocessor``). Raises 414 and 431."""
    status = oversize(request.environ)
    if status is not None:
        abort(status)


def read_path_ids(_endpoint: str | None, variables: dict[str, Any] | None) -> None:
    """Turn the ids in a path into integers before any view runs (a ``url_value_preprocessor``).

    Raises InvalidRequest for what is not written as a positive integer of at most 2**53 - 1 without sign, leading
    zeros or digits of other scripts: with code INVALID_USER_ID for a user, INVALID_REQUEST for anything else.
    """
    for variable, text in (variables or {}).items():
        if is_path_id(variable):
            number = id_in(text)
            if number is None:
                reason = f"must be an integer from 1 to {MAX_SAFE_INTEGER}"
                if variable == "user_id":
                    raise InvalidRequest("userId", reason, code=INVALID_USER_ID)
                raise InvalidRequest(to_camel(variable), reason)
            variables[variable] = number  # type: ignore[index]


def idempotency_key() -> str | None:
    """The current request's ``Idempotency-Key``, or None. Raises InvalidRequest when it is too long or not visible."""
    key: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not VISIBLE_ASCII.fullmatch(key):
        raise InvalidRequest("Idempotency-Key", f"must be 1 to {IDEMPOTENCY_KEY_CHARACTERS} visible ASCII characters")
    return key
