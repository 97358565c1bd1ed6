"""Loaded by the fuzzer: what is no fault, and what no JSON Schema can say."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import schemathesis

MOMENTS = ("startsAt", "endsAt")


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """To JSON Schema 1.0 is an integer; here it is refused, as the contract says and ``test_strict_json.py`` shows.
    And that a coupon ends after it starts the document says in words, because no schema compares two members."""
    return not _has_whole_float(body) and not _may_end_before_it_starts(
        body, changes=context.operation.method == "patch"
    )


def _may_end_before_it_starts(body: Any, changes: bool) -> bool:
    """A change of one moment alone is up against the other one, which the coupon has already."""
    if not isinstance(body, dict):
        return False
    given = [body[name] for name in MOMENTS if body.get(name) is not None]
    try:
        moments = [datetime.fromisoformat(moment) for moment in given]
        return (changes and len(moments) == 1) or (len(moments) == 2 and not moments[0] < moments[1])
    except (TypeError, ValueError):  # no moments at all: to be refused as such
        return False


def _has_whole_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_whole_float(member) for member in value.values())
    if isinstance(value, list):
        return any(_has_whole_float(member) for member in value)
    return isinstance(value, float) and value.is_integer()
