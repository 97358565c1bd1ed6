"""The values that commands take, checked as the HTTP API checks them."""

from __future__ import annotations

import math
import re
from typing import Any

import click
from pydantic import ConfigDict, TypeAdapter, ValidationError

from engine.ids import MAX_SAFE_INTEGER, id_in

MOST_HOURS = 100_000
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,19})")


class IdType(click.ParamType[int]):
    """An id as the API takes it in a path."""

    name = "id"

    def __init__(self, example: str) -> None:
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number = id_in(str(value))
        if number is None:
            self.fail(f"{value!r} is no id from 1 to {MAX_SAFE_INTEGER}; for example: {self._example}", param, ctx)
        return number


USER_ID = IdType("make token USER=7")
COUPON_ID = IdType("python -m ops coupon show 1")
OUTCOME_ID = IdType("python -m ops quarantine retry 1")
FOLLOWUP_ID = IdType("python -m ops deliveries requeue 1")


class FieldType(click.ParamType[int]):
    """A number with the bounds that a member of the API's bodies has."""

    def __init__(self, name: str, field: Any) -> None:
        self.name = name
        self._field: TypeAdapter[int] = TypeAdapter(field, config=ConfigDict(strict=True))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return self._field.validate_python(whole_number(value))
        except ValidationError as error:
            self.fail(f"{value!r}: {error.errors()[0]['msg']}", param, ctx)


def whole_number(text: Any) -> Any:
    """The number that a text is, written as JSON would write it; any other text as it is, for a form to refuse."""
    return int(text) if isinstance(text, str) and _WHOLE_NUMBER.fullmatch(text) else text


class HoursType(click.ParamType[float]):
    """A length of time that a moment can be away, also in the past."""

    name = "hours"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            hours = float(value)
        except ValueError:
            hours = math.nan
        if not abs(hours) <= MOST_HOURS:  # which NaN is not, either
            self.fail(f"{value!r} is no number of hours up to {MOST_HOURS:,}", param, ctx)
        return hours


HOURS = HoursType()
