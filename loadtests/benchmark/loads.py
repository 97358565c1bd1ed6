"""What came back from one stretch of load, whoever sent it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GOOD = range(200, 300)


@dataclass(frozen=True)
class Load:
    """Answers by status, and how long they took. ``unanswered`` are requests that were sent and got no answer."""

    seconds: float
    answers: Mapping[int, int]
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu_share: float
    """How much of the cores that the generator has threads for it used: at 1 it could not have sent more."""
    broken: int = 0
    unanswered: int = 0
    processor_us: Mapping[str, float] = field(default_factory=dict)
    """What an answer cost each process of the stack, in microseconds of processor time."""

    @property
    def answered(self) -> int:
        """Answers of any status."""
        return sum(self.answers.values())

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds

    def count(self, *statuses: int) -> int:
        """Answers of these statuses."""
        return sum(self.answers.get(status, 0) for status in statuses)

    def others_than(self, *statuses: int) -> dict[int, int]:
        """Answers of any other status."""
        return {status: times for status, times in self.answers.items() if status not in statuses}
