"""Ids as texts: in paths, in tokens."""

from __future__ import annotations

import re

MAX_SAFE_INTEGER = 2**53 - 1
"""What every client, JavaScript's included, can tell from its neighbours."""

_FORM = re.compile(r"[1-9][0-9]{0,15}")


def id_in(text: str) -> int | None:
    """The id that a text is: a positive integer of at most 2**53 - 1 without sign, leading zeros or digits of other
    scripts; None for anything else."""
    if not _FORM.fullmatch(text):
        return None
    number = int(text)
    return number if number <= MAX_SAFE_INTEGER else None
