"""The plan of a history: what it starts with, and concrete instructions.

An instruction names everything that it needs, so a plan can be played without the chance that made it, and with parts
left out: an instruction for an actor that is not there does nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

TO_ITS_END = 10_000
"""As many round trips as it takes."""


@dataclass(frozen=True)
class Profile:
    """A family of histories: how many lanes, how Redis forgets, what happens how often."""

    name: str
    lanes: tuple[int, ...] = (1,)
    story: str = "sleeper"
    """What seven of ten histories tell of (see ``stories.py``); the others are made by pure chance."""
    haste: float = 0.8
    """How many of the clients' calls go through at once, rather than in pieces between those of others."""
    shards: bool = False
    """Whether every lane is on a server of its own, which fails and forgets alone."""
    weights: dict[str, int] = field(default_factory=dict)
    """How often a verb or an errand is chosen, where it differs from what is usual (see ``planner.py``)."""


REMEMBERING = {"forget": 0, "restart": 0, "copy": 0, "crash": 5, "fault": 8, "charge": 6, "cancel": 14, "follow up": 8}
"""Redis forgets nothing, but much else goes wrong."""

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("one-lane"),
        Profile("lanes", lanes=(2, 2, 3, 4)),
        Profile("shards", lanes=(2, 2, 3, 4), shards=True),
        Profile("rebuilding", lanes=(1, 1, 2), story="two rebuilds"),
        Profile("repeating", lanes=(1, 1, 2), story="once more"),
        Profile("repeating-shards", lanes=(3, 4), story="once more on a shard", shards=True),
        Profile("remembering", story="interruption", haste=0.3, weights=REMEMBERING),
    )
}


@dataclass(frozen=True)
class Instruction:
    """What the history does next."""

    verb: str
    actor: int = 0
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shop:
    """What a history starts with; ids are 1, 2, 3 … in the order given."""

    lanes: int
    coupons: tuple[int, ...]
    """How many there are of each."""
    products: tuple[tuple[int, int], ...]
    """Price and units of each."""
    balances: tuple[int | None, ...]
    """KRW of each user; None for somebody without an account."""


def draw_shop(chance: random.Random, profile: Profile) -> Shop:
    """A small shop: so little of everything that actors get into each other's way."""
    return Shop(
        lanes=chance.choice(profile.lanes),
        coupons=tuple(chance.randint(1, 4) for _ in range(chance.randint(1, 2))),
        products=tuple((chance.choice((100, 300)), chance.randint(1, 4)) for _ in range(chance.randint(1, 3))),
        balances=tuple(
            chance.choice((0, 300, 1000, 1000, 5000, 5000, 5000, None)) for _ in range(chance.randint(3, 5))
        ),
    )
