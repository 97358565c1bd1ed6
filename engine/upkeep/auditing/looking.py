"""Looking: how often, how long, and at what moment something that looks off is called off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate.pictures import Blurred
from engine.upkeep.auditing.findings import CheckName, Findings, Off

Seen = TypeVar("Seen")

IDS_PER_LOOK = 200
"""Coupons or products in one picture: what one script may read without keeping decisions waiting."""


@dataclass(frozen=True)
class Patience:
    """How long something may be as it should not be, and how often it is looked at."""

    lasting_seconds: float = 15.0
    """What happens when all is well never stands still for so long: a killed worker's lease and bell, its restart and
    the largest batch together take less."""
    look_again_seconds: float = 0.5
    head_seconds: float = 30.0
    """An older head of an outbox is suspicious; after an outage old heads are what a drain works on."""
    overdue_seconds: float = 60.0
    """The sweeper comes every second; so is a hold that is overdue by more, and a follow-up that nobody works off."""
    confirmations: int = 3
    """So many looks have to find the same thing off, and none may find it right."""
    looks: int = 40
    pause_seconds: float = 0.02


@dataclass
class Looking:
    """One audit at work."""

    engine: Engine
    patience: Patience
    findings: Findings = field(default_factory=Findings)
    keep_going: Callable[[], bool] = lambda: True
    """Asked between looks and pages: a process that stops does not wait for its audit."""
    slept_seconds: float = 0.0
    closed_lanes: set[int] = field(default_factory=set)
    """Lanes that were not open in any look of a page: one look has to do for their other pages."""

    def pause(self, seconds: float) -> None:
        """Wait; that costs nobody anything, so it is no part of what an audit costs."""
        time.sleep(seconds)
        self.slept_seconds += seconds


class NotOpen(Blurred):
    """The lane decides nothing now."""


def while_open(engine: Engine, lane: int, look: Callable[[], Seen]) -> Seen:
    """What ``look`` sees, if the lane was open from before to after it, under one epoch. Raises Blurred otherwise."""
    before = engine.gate.inspect(lane)
    if not before.ready:
        raise NotOpen(f"lane {lane} is not open")
    seen = look()
    after = engine.gate.inspect(lane)
    if not after.ready or after.epoch != before.epoch:
        raise Blurred(f"lane {lane} was opened anew")
    return seen


def look_until_sure(
    looking: Looking,
    lane: int,
    ids: Sequence[int],
    checks: Sequence[CheckName],
    look: Callable[[Sequence[int]], Mapping[int, Sequence[Off]]],
    name: str,
) -> None:
    """Look at these entities of a lane until each was seen to be right once, or to be off as often as it takes.

    ``look`` tells by id what is off, nothing if all is right; ids that it leaves out could not be seen this time, and
    it raises Blurred when none could. What could not be seen in any look is told, too.
    """
    patience, findings = looking.patience, looking.findings
    unsure = list(ids)
    found_off: dict[int, list[Sequence[Off]]] = {each: [] for each in ids}
    reason = ""
    never_open = True
    for _ in range(1 if lane in looking.closed_lanes else patience.looks):
        try:
            seen = look(unsure)
            never_open = False
        except Blurred as blurred:
            seen, reason = {}, str(blurred)
            never_open = never_open and isinstance(blurred, NotOpen)
        for each, found in seen.items():
            found_off[each].append(found)
        sure = {each for each, found in seen.items() if not found or len(found_off[each]) >= patience.confirmations}
        for each in sorted(sure):
            for off in _in_every_look(found_off[each]):
                findings.off(off.check, off.what)
        unsure = [each for each in unsure if each not in sure]
        if not unsure or not looking.keep_going():
            break
        looking.pause(patience.pause_seconds)
    if never_open:
        looking.closed_lanes.add(lane)
    for check in checks:
        findings.looked_at(check, len(ids) - len(unsure))
        if unsure:
            some = ", ".join(map(str, unsure[:3])) + (f" and {len(unsure) - 3} more" if len(unsure) > 3 else "")
            findings.unseen(check, f"{name} {some}: {reason or 'it changed at every look'}")


def by_lane(
    looking: Looking,
    ids_after: Callable[[int, int], Sequence[int]],
    lane_of: Callable[[int], int],
) -> Iterator[tuple[int, list[int]]]:
    """All entities, page by page of their ids and, within a page, lane by lane, as many as go into one look."""
    size = IDS_PER_LOOK * looking.engine.gate.lanes
    after = 0
    while looking.keep_going() and (page := ids_after(after, size)):
        lanes: dict[int, list[int]] = {}
        for each in page:
            lanes.setdefault(lane_of(each), []).append(each)
        for lane, ids in sorted(lanes.items()):
            for start in range(0, len(ids), IDS_PER_LOOK):
                yield lane, ids[start : start + IDS_PER_LOOK]
        after = page[-1]


def look_at_lane(looking: Looking, checks: Sequence[CheckName], what: str, look: Callable[[], None]) -> None:
    """Do ``look``, which is about one of several lanes; a lane that does not answer keeps nobody from the others.

    Raises GateUnavailable where there is one lane only: then there is nothing left to look at.
    """
    try:
        look()
    except GateUnavailable:
        if looking.engine.gate.lanes == 1:
            raise
        for check in checks:
            looking.findings.unseen(check, f"{what}: the lane does not answer")


def _in_every_look(looks: Sequence[Sequence[Off]]) -> list[Off]:
    """What the last look found, as far as every other look found it, too."""
    always = set.intersection(*({off.check for off in found} for found in looks))
    return [off for off in looks[-1] if off.check in always]
