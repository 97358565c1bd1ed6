"""The values that commands take, checked as the HTTP API checks them."""

from __future__ import annotations

import math
from typing import Any

import click

from engine.ids import MAX_SAFE_INTEGER, id_in

MOST_HOURS = 100_000


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
