"""Emptying the outboxes, beside the workers or in their place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.context import Engine
from engine.errors import EngineError
from engine.flow.drain import drain
from engine.gate import outbox
from engine.upkeep.lane_rounds import LaneRounds

LOOK_AGAIN_SECONDS = 0.1


@dataclass
class Emptied:
    """What was drained here (workers count for themselves), and what is left: entries, and lanes that did not answer
    with the reason."""

    recorded: int = 0
    quarantined: int = 0
    forgotten: int = 0
    left: int = 0
    unavailable: dict[int, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.left and not self.unavailable


def empty_outboxes(
    engine: Engine, patience_seconds: float, told: Callable[[int], None] = lambda _left: None
) -> Emptied:
    """Drain every lane until all outboxes are empty at one look, or the time is over.

    ``told`` hears how many entries are left. Lanes whose server is away are told of in the result. In traffic there is
    always something new: then it ends with the time.
    """
    emptied = Emptied()
    deadline = time.monotonic() + patience_seconds
    rounds = LaneRounds(lambda lane: drain(engine, lane, linger_seconds=0), range(engine.gate.lanes))
    try:
        while True:
            reports, errors = rounds.go(max(0.0, deadline - time.monotonic()))
            for report in reports.values():
                emptied.recorded += report.recorded
                emptied.quarantined += report.quarantined
                emptied.forgotten += report.forgotten
            emptied.unavailable = {lane: str(error) for lane, error in errors.items()}
            emptied.unavailable |= dict.fromkeys(rounds.away, "still at work")
            emptied.left = _left(engine, emptied)
            told(emptied.left)
            if emptied.is_empty or time.monotonic() >= deadline:
                return emptied
            time.sleep(LOOK_AGAIN_SECONDS)
    finally:
        rounds.close()


def _left(engine: Engine, emptied: Emptied) -> int:
    try:
        return outbox.backlog(engine.gate)
    except EngineError as error:
        # What waits on a server that is away is not known; it is not nothing.
        emptied.unavailable = emptied.unavailable or {0: str(error)}
        return emptied.left
