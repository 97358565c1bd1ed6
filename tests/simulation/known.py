"""Faults that are known and wait to be mended: met again, they are counted and do not make a history fail.

Whoever mends one takes it out of here; then every history that meets it fails again, and the fault stays mended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.record import Record


@dataclass(frozen=True)
class Known:
    """One fault: its name in the summary, and whether something that is off is nothing but this."""

    name: str
    is_met: Callable[[Record, str, str], bool]
    """Told of the record, of what is off and of the request that it is about ('' for none)."""


KNOWN: tuple[Known, ...] = ()


def known_fault(record: Record, violation: str, request_id: str) -> str | None:
    """The name of the fault that this is, if it is one that is known."""
    return next((each.name for each in KNOWN if each.is_met(record, violation, request_id)), None)
