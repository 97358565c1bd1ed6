"""One history from its seed to its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation.checks import Judge
from tests.simulation.history import History, Line
from tests.simulation.plan import PROFILES, Instruction, Profile
from tests.simulation.stores import Stores


@dataclass(frozen=True)
class Verdict:
    """A history that was played, and all that was off with it."""

    history: History
    violations: tuple[str, ...]


def play(
    stores: Stores,
    seed: int,
    profile: Profile = PROFILES["one-lane"],
    plan: Sequence[Instruction] | None = None,
    say: Callable[[Line], None] | None = None,
) -> Verdict:
    """Play the history of this seed, or the one of a given plan, and judge it."""
    history = History(stores, seed, profile, plan, say=say)
    history.play()
    return Verdict(history, tuple(Judge(history).violations()))
