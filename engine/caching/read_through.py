"""Reading through a cache: of all who miss at the same moment, in all processes, one asks the ledger."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from engine.caching.single_flight import SingleFlight
from engine.context import Engine
from engine.errors import EngineError
from engine.gate import filling

Value = TypeVar("Value")
Ticket = TypeVar("Ticket", bound=Hashable)

PATIENCE_SECONDS = 1.0
"""How long to wait for another process that asks the ledger, before asking it, too."""
LOOK_AGAIN_SECONDS = 0.02


@dataclass(frozen=True)
class Found(Generic[Value]):
    """A value, and whether Redis answered when it was looked for there: if not, asking it more costs a time-out."""

    value: Value
    redis_answers: bool


class ReadThrough(ABC, Generic[Value, Ticket]):
    """Something that is cached in Redis and found in Postgres. Thread-safe.

    Without Redis the ledger answers, one question at a time in each process; without Postgres the cache does.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._looks: SingleFlight[tuple[Value | None, Ticket]] = SingleFlight()
        self._flights: SingleFlight[Value] = SingleFlight()

    @abstractmethod
    def look(self, engine: Engine) -> tuple[Value | None, Ticket]:
        """What is cached, None if nothing is, and what :meth:`keep` needs to know of this moment.

        Who misses with different tickets does not share an answer: the ledger may have changed in between.
        """

    @abstractmethod
    def ask(self, engine: Engine) -> Value:
        """What the ledger says."""

    @abstractmethod
    def keep(self, engine: Engine, value: Value, ticket: Ticket) -> None:
        """Cache what the ledger said; ``ticket`` is from a look before it was asked."""

    def get(self, engine: Engine) -> Value:
        """The value. Raises LedgerUnavailable when it is not cached and the ledger does not answer."""
        return self.find(engine).value

    def find(self, engine: Engine) -> Found[Value]:
        """As :meth:`get`, and how Redis was found to be."""
        try:
            # Together, because a crowd would wait for connections in vain and take that for an outage of Redis; afresh,
            # because a change that was answered before we came has to be seen.
            cached, ticket = self._looks.do_afresh(engine, lambda: self.look(engine))
        except EngineError:
            return Found(self._flights.do(engine, lambda: self.ask(engine)), redis_answers=False)
        if cached is None:
            cached = self._flights.do((engine, ticket), lambda: self._fill(engine))
        return Found(cached, redis_answers=True)

    def _fill(self, engine: Engine) -> Value:
        """Ask the ledger and cache the answer, unless another process does. Redis may go away at any step."""
        try:
            our_turn, cached, ticket = self._wait_for_turn(engine)
        except EngineError:
            return self.ask(engine)
        try:
            if cached is not None:
                return cached
            value = self.ask(engine)
            with suppress(EngineError):
                self.keep(engine, value, ticket)
            return value
        finally:
            if our_turn:
                with suppress(EngineError):
                    filling.end(engine.gate, self.name)

    def _wait_for_turn(self, engine: Engine) -> tuple[bool, Value | None, Ticket]:
        """Whether it is our turn to ask, and the value if it came meanwhile; neither, when it took too long."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            # In this order: who had the turn before us has left its answer by the time we get it.
            our_turn = filling.begin(engine.gate, self.name)
            cached, ticket = self.look(engine)
            if our_turn or cached is not None or time.monotonic() >= give_up_at:
                return our_turn, cached, ticket
            time.sleep(LOOK_AGAIN_SECONDS)
