"""Taking turns: how many calls somebody may make, counted at the gate, so for all processes together.

A submission takes its turns in the script that decides it, in the lane that it is decided in; any other call in one of
its own, in the lane of whoever calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from zlib import crc32

from engine.gate import keys
from engine.gate.gate import Gate

PERIOD_SECONDS = 60
"""A limit is so many calls at once, and as many again in this time at an even pace."""

TurnLimits = tuple[tuple[str, int], ...]
"""(who, calls per minute): what one call counts against, all of it or nothing."""


def take_turn(gate: Gate, limits: Mapping[str, int]) -> int:
    """Count one call against every limit, ``{who: calls per minute}``; 0, or the milliseconds to wait.

    Where the limits live in different lanes, one that refuses leaves those in lower lanes counted. Raises
    GateUnavailable.
    """
    by_lane: dict[int, list[str]] = {}
    for who in limits:
        by_lane.setdefault(crc32(who.encode()) % gate.lanes, []).append(who)
    for lane, names in sorted(by_lane.items()):
        arguments = [number for who in names for number in pace_and_ahead(limits[who])]
        reply = gate.run("take_turn", [keys.turns(lane, who) for who in names], arguments)
        if reply[0] == "wait":
            return int(reply[1])
    return 0


@lru_cache(maxsize=64)
def pace_and_ahead(calls_per_minute: int) -> tuple[int, int]:
    """What the scripts want to know of a limit, in microseconds: from one turn to the next, and how many may be taken
    ahead of that pace."""
    pace = PERIOD_SECONDS * 1_000_000 // calls_per_minute
    return pace, pace * (calls_per_minute - 1)


def limits_text(limits: TurnLimits, separator: str) -> str:
    """The limits of one ask as an argument of the script that decides it."""
    return separator.join(f"{pace},{ahead}" for pace, ahead in (pace_and_ahead(calls) for _, calls in limits))
