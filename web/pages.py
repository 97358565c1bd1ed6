"""Paging through lists that are newest first: ``?limit=`` and ``?cursor=``.

A cursor is for handing back as it came. It is legible all the same, so that the document can say exactly what is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flask import request

from web.problems import InvalidRequest

DEFAULT_LIMIT = 20
MOST_PER_PAGE = 100

Row = TypeVar("Row")

_LIMIT = re.compile(r"[1-9][0-9]{0,2}")
CURSOR_PATTERN = "before-([1-9][0-9]{0,15})"


@dataclass(frozen=True)
class Page:
    """What a client asked for: at most ``limit`` rows, older than ``before_id`` if that is set."""

    limit: int
    before_id: int | None


def requested_page() -> Page:
    """The page the current request asks for. Raises InvalidRequest for a limit or cursor that is none of ours."""
    limit = request.args.get("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit) or int(limit) > MOST_PER_PAGE:
        raise InvalidRequest("limit", f"must be an integer from 1 to {MOST_PER_PAGE}")
    cursor = request.args.get("cursor")
    return Page(int(limit), None if cursor is None else _id_in(cursor))


def page_of(rows: Sequence[Row], page: Page, id_of: Callable[[Row], int]) -> tuple[Sequence[Row], str | None]:
    """The rows to show and the next page's cursor, None on the last; ``rows`` were read with a limit one higher."""
    shown = rows[: page.limit]
    if len(rows) <= page.limit:
        return shown, None
    return shown, _cursor_before(id_of(shown[-1]))


def _cursor_before(row_id: int) -> str:
    return f"before-{row_id}"


def _id_in(cursor: str) -> int:
    match = re.fullmatch(CURSOR_PATTERN, cursor)
    if match is None:
        raise InvalidRequest("cursor", "is not one that was given out here")
    return int(match[1])
