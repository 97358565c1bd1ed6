"""The turnstile: whoever comes while others are on their way waits for them to return; then all who wait go together.

A decision costs microseconds, being alone in a round trip a hundred times that. So the asks that wait in one process go
in one call, in order of arrival. While one call is on its way the next ones gather; there is no timer, and who comes
alone goes at once.

Bounded in every way: a call takes so many asks at most, so many may wait at most and for so long at most, and when a
call fails because its store is away, everybody who waits behind it is told so at once instead of finding out by
themselves, one time-out after the other. Whoever is told that they waited for too long was not passed on, and never
will be.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from engine.errors import BrokenContract, EngineError, GateUnavailable, LedgerUnavailable
from engine.telemetry import metrics

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

PATIENCE_SECONDS = 1.0
"""How long an ask may wait for its turn: then its call's own time-out still fits into what a client waits for."""

logger = logging.getLogger(__name__)

Told = Callable[[Answer | EngineError], None]
"""Hears the outcome of one ask, in the turnstile's thread: it must not block."""
Deliver = Callable[[Sequence[tuple[Told[Answer], Answer | EngineError]]], None]


class Passed(NamedTuple, Generic[Answer]):
    """What became of the asks of one call, in their order; ``afterwards`` is done once everybody has been told."""

    outcomes: Sequence[Answer | EngineError]
    afterwards: Callable[[], object] | None = None


class Turnstile(Generic[Ask, Answer]):
    """Passes asks on, many at once. Thread-safe; has a thread of its own, which begins with the first ask."""

    def __init__(
        self,
        pass_on: Callable[[Sequence[Ask]], Passed[Answer]],
        *,
        at_once: int,
        places: int,
        name: str = "turnstile",
        deliver: Deliver[Answer] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pass_on`` takes at most ``at_once`` asks in order of arrival and gives an outcome for each, or raises an
        EngineError for all. ``places`` is how many may wait. ``deliver``, if given, is called once per call instead of
        the ``told`` of each: an event loop wants to be woken once for all. Who has waited for ``patience_seconds`` when
        their turn comes is told to come again instead."""
        self._pass_on = pass_on
        self._at_once = at_once
        self._places = places
        self._name = name
        self._deliver = deliver or tell_each
        self._patience_seconds = patience_seconds
        self._now = now
        self._waiting: deque[tuple[Ask, Told[Answer], float]] = deque()
        self._came = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, ask: Ask, told: Told[Answer]) -> None:
        """Let the ask go with the next call. Raises GateUnavailable, at once, when all places are taken, or when the
        first in line has run out of patience: whoever comes now would, too."""
        now = self._now()
        with self._came:
            if self._closed or len(self._waiting) >= self._places:
                metrics.TURNED_AWAY.inc()
                raise GateUnavailable(f"{self._name}: too many are waiting")
            if self._waiting and self._waiting[0][2] < now - self._patience_seconds:
                metrics.TURNED_AWAY.inc()
                raise GateUnavailable(f"{self._name}: they wait for too long")
            self._waiting.append((ask, told, now))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif len(self._waiting) == 1:
                self._came.notify()

    def close(self) -> None:
        """Take nobody more; who waits is still passed on."""
        with self._came:
            self._closed = True
            self._came.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._came:
                while not self._waiting:
                    if self._closed:
                        return
                    self._came.wait()
                late = self._take_late()
                count = min(len(self._waiting), self._at_once)
                batch = [self._waiting.popleft() for _ in range(count)]
            if late:
                metrics.TURNED_AWAY.inc(len(late))
                too_late = GateUnavailable(f"{self._name}: waited for too long")
                self._deliver([(told, too_late) for told in late])
            if batch:
                self._pass(batch)

    def _take_late(self) -> list[Told[Answer]]:
        """Those whose turn it would be, had it not come too late. To be called with the lock held."""
        since = self._now() - self._patience_seconds
        late = []
        while self._waiting and self._waiting[0][2] < since:
            late.append(self._waiting.popleft()[1])
        return late

    def _pass(self, batch: Sequence[tuple[Ask, Told[Answer], float]]) -> None:
        told = [each for _, each, _ in batch]
        try:
            passed = self._pass_on([ask for ask, _, _ in batch])
        except (GateUnavailable, LedgerUnavailable) as error:
            with self._came:
                told += [each for _, each, _ in self._waiting]
                self._waiting.clear()
            self._deliver([(each, error) for each in told])
        except EngineError as error:
            self._deliver([(each, error) for each in told])
        except Exception as error:  # a fault of ours must reach those who wait, and must not end the thread
            logger.exception("%s failed", self._name)
            fault = BrokenContract(f"{self._name}: {type(error).__name__}: {error}")
            self._deliver([(each, fault) for each in told])
        else:
            self._deliver(list(zip(told, passed.outcomes, strict=True)))
            if passed.afterwards is not None:
                passed.afterwards()


def tell_each(pairs: Sequence[tuple[Told[Answer], Answer | EngineError]]) -> None:
    """What a turnstile does unless it is told otherwise: tell one after the other."""
    for told, outcome in pairs:
        told(outcome)
