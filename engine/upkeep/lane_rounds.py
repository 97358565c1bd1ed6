"""The same work for many lanes, side by side: a lane whose server is away holds up none of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from engine.errors import EngineError

Result = TypeVar("Result")

MOST_AT_ONCE = 32


class LaneRounds(Generic[Result]):
    """Rounds of one kind of work. A lane that has not come back from an earlier round is left out of the next.

    Not thread-safe: one caller makes the rounds.
    """

    def __init__(self, work: Callable[[int], Result], lanes: Iterable[int]) -> None:
        self._work = work
        self._lanes = tuple(lanes)
        self._pool = ThreadPoolExecutor(max(1, min(len(self._lanes), MOST_AT_ONCE)), thread_name_prefix="lane")
        self._under_way: dict[int, Future[Result]] = {}

    def go(self, patience_seconds: float | None = None) -> tuple[dict[int, Result], dict[int, EngineError]]:
        """One round: results and errors by lane, of those that came back in time; without a limit, of all.

        What is no EngineError is raised, once everybody else has come back or the time is over.
        """
        for lane in self._lanes:
            if lane not in self._under_way:
                self._under_way[lane] = self._pool.submit(self._work, lane)
        wait(self._under_way.values(), timeout=patience_seconds)
        results: dict[int, Result] = {}
        errors: dict[int, EngineError] = {}
        faults: list[BaseException] = []
        for lane, future in list(self._under_way.items()):
            if not future.done():
                continue
            del self._under_way[lane]
            error = future.exception()
            if error is None:
                results[lane] = future.result()
            elif isinstance(error, EngineError):
                errors[lane] = error
            else:
                faults.append(error)
        if faults:
            raise faults[0]
        return results, errors

    @property
    def away(self) -> tuple[int, ...]:
        """The lanes that have not come back."""
        return tuple(sorted(self._under_way))

    def close(self) -> None:
        """Begin nothing more; what is under way comes to its end by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
