"""Points in time as the contract writes them: RFC 3339, in with any offset, out in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""The gate counts milliseconds from here and compares them as numbers; nothing on offer began earlier."""


def parse_moment(text: str) -> datetime:
    """An aware datetime in UTC. What is finer than a microsecond is cut off.

    Raises ValueError for everything but RFC 3339 with an offset, for moments before 1970, and for leap seconds, which
    a datetime cannot hold.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("must be an RFC 3339 date-time with an offset, such as 2030-01-01T09:00:00+09:00")
    *numbers, fraction, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    year, month, day, hour, minute, second = map(int, numbers)
    try:
        local = datetime(
            year,
            month,
            day,
            hour,
            minute,
            second,
            int((fraction or "").ljust(6, "0")[:6]),
            tzinfo=timezone(-offset if sign == "-" else offset),
        )
        moment = local.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("must be a moment that exists in the calendar") from error
    if moment < EARLIEST:
        raise ValueError("must not be before 1970-01-01T00:00:00Z")
    return moment


def render_moment(moment: datetime) -> str:
    """RFC 3339 in UTC, ending in Z."""
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def _moment_from_json(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("moment", "must be a string")
    try:
        return parse_moment(value)
    except ValueError as error:
        raise PydanticCustomError("moment", "{reason}", {"reason": str(error)}) from error


_DOCUMENTED = {"type": "string", "format": "date-time", "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-"}
Moment = Annotated[datetime, BeforeValidator(_moment_from_json), WithJsonSchema(_DOCUMENTED)]
"""A member of a request body that is a point in time."""
