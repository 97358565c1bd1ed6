"""Somebody who falls asleep at a certain line, while everybody else goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def sleeps_before(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, meanwhile: Callable[[], None]
) -> Callable[[], bool]:
    """Let the first call of ``where.name`` wait until ``meanwhile`` is over; the result tells whether it has been."""
    original, happened = getattr(where, name), []

    def sleeping(*arguments: Any, **named: Any) -> Any:
        if not happened:
            happened.append(True)
            meanwhile()
        return original(*arguments, **named)

    monkeypatch.setattr(where, name, sleeping)
    return lambda: bool(happened)
