"""Taking turns: how many calls somebody may make, counted at the gate, so for all processes together."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

from engine.gate import keys
from engine.gate.gate import Gate

PERIOD_SECONDS = 60
"""A limit is so many calls at once, and as many again in this time at an even pace."""


def take_turn(gate: Gate, limits: Mapping[str, int]) -> int:
    """Count one call against every limit, ``{who: calls per minute}``; 0, or the milliseconds to wait.

    Where the limits live in different lanes, one that refuses leaves those in lower lanes counted. Raises
    GateUnavailable.
    """
    by_lane: dict[int, list[str]] = {}
    for who in limits:
        by_lane.setdefault(crc32(who.encode()) % gate.lanes, []).append(who)
    for lane, names in sorted(by_lane.items()):
        paces = [PERIOD_SECONDS * 1_000_000 // limits[who] for who in names]
        arguments = [
            number for pace, who in zip(paces, names, strict=True) for number in (pace, pace * (limits[who] - 1))
        ]
        reply = gate.run("take_turn", [keys.turns(lane, who) for who in names], arguments)
        if reply[0] == "wait":
            return int(reply[1])
    return 0
