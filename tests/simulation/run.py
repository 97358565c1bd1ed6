"""Histories from their seeds to their verdicts, one or many, and how to say what became of them."""

from __future__ import annotations

import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.simulation.checks import Judge
from tests.simulation.history import History, Line
from tests.simulation.plan import PROFILES, Instruction, Profile
from tests.simulation.record import Record
from tests.simulation.shrinking import shrunk
from tests.simulation.stores import Stores

SHARES = {
    "one-lane": 4,
    "lanes": 2,
    "shards": 2,
    "remembering": 2,
    "repeating": 2,
    "repeating-shards": 1,
    "rebuilding": 1,
}
"""How many histories of a mixture are of which profile."""


@dataclass(frozen=True)
class Verdict:
    """A history that was played, and all that was off with it."""

    history: History
    violations: tuple[str, ...]

    @property
    def command(self) -> str:
        """What plays it again."""
        history = self.history
        return (
            f"python -m tests.simulation --profile {history.profile.name} --seed {history.seed} --histories 1 --verbose"
        )

    def __str__(self) -> str:
        lines = [
            f"history {self.history.seed} of the profile {self.history.profile.name}:",
            *map(str, self.history.lines),
        ]
        return "\n".join([*lines, "", "what is off:", *(f"  - {each}" for each in self.violations), "", self.command])


@dataclass
class Summary:
    """What became of many histories."""

    histories: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count one more."""
        profile = verdict.history.profile.name
        self.histories[profile] += 1
        self.failed[profile] += bool(verdict.violations)
        self.events.update(verdict.history.counts)
        self.violations.update({violation.split(":")[0] for violation in verdict.violations})

    def __str__(self) -> str:
        rows: list[tuple[str, str | int]] = [
            ("histories", ""),
            *self.histories.items(),
            ("", ""),
            ("what happened in them", ""),
        ]
        rows += self.events.most_common()
        rows += [("", ""), ("histories with something off", str(sum(self.failed.values())))]
        rows += [(f"  {name}", count) for name, count in self.violations.most_common()]
        return "\n".join(f"{name:72s} {count:>10}" for name, count in rows)


def profile_of(seed: int, name: str | None = None) -> Profile:
    """The named profile, or the one that this seed has in a mixture of all."""
    if name is not None:
        return PROFILES[name]
    return PROFILES[random.Random(seed).choices(list(SHARES), list(SHARES.values()))[0]]


def play(
    stores: Stores,
    seed: int,
    profile: Profile,
    plan: Sequence[Instruction] | None = None,
    say: Callable[[Line], None] | None = None,
) -> Verdict:
    """Play the history of this seed, or the one of a given plan, and judge it."""
    history = History(stores, seed, profile, plan, say=say)
    with _heard_by(_Log(history.record)):
        history.play()
        judge = Judge(history)
        violations = tuple(judge.violations())
        history.counts.update(judge.outcomes())
        return Verdict(history, violations)


def play_many(stores: Stores, seeds: Sequence[int], profile: str | None = None) -> Iterator[Verdict]:
    """One history after the other."""
    for seed in seeds:
        yield play(stores, seed, profile_of(seed, profile))


def first_found(stores: Stores, profile: str, most: int, seed: int = 1) -> tuple[Verdict | None, int]:
    """The first history of this profile with something off, and how many it took; None if none of so many has."""
    for number, verdict in enumerate(play_many(stores, range(seed, seed + most), profile), 1):
        if verdict.violations:
            return verdict, number
    return None, most


def minimal(stores: Stores, verdict: Verdict, most_tries: int = 600) -> Verdict:
    """A history as short as can be that fails in the first of the ways in which this one does."""
    history = verdict.history
    wanted = verdict.violations[0].split(":")[0]

    def fails(plan: Sequence[Instruction]) -> bool:
        found = play(stores, history.seed, history.profile, plan)
        return any(violation.startswith(wanted) for violation in found.violations)

    best = shrunk(history.plan, fails, most_tries)
    return play(stores, history.seed, history.profile, best)


class _Log(logging.Handler):
    """Takes what the engine says when actors die, which would fill pages, and remembers what the judge has to know."""

    LEFT_BEHIND = re.compile(r"lane (\d+) is rebuilt without what waits in lane (\d+)")

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        found = self.LEFT_BEHIND.search(record.getMessage())
        if found:
            self._record.left_behind.append(frozenset(int(lane) for lane in found.groups()))


@contextmanager
def _heard_by(log: _Log) -> Iterator[None]:
    """While this lasts nobody else hears what the engine says."""
    logger = logging.getLogger("engine")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [log], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before
