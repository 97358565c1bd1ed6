"""Actors: pieces of work that run one round trip at a time, and what may happen to them in between.

An actor is a greenlet. Before every round trip to a store it gives the word back to the history, which may let it go
on at once, after everybody else, or never. So it can be stopped exactly where a process can sleep or die.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Generator
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypeVar

import psycopg
import redis.exceptions
from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

Result = TypeVar("Result")

ANSWERS_IN_SECONDS = 0.003
"""A statement that takes longer may be waiting for a lock, and then the history goes on without it."""
ATTEMPTS_OF_THE_DEAD = 50
"""Whoever goes on trying after its end without coming to one is ended by force."""


_USERS: dict[int, Actor] = {}
"""Who last used a connection, by its identity: pooled connections live as long as the simulation."""


class Fault(StrEnum):
    """What may happen to a round trip."""

    UNREACHABLE = "does not reach the store"
    ANSWER_LOST = "is done, but its answer is lost"
    DELAYED = "is given up by its sender, and arrives later"


class Actor:
    """One piece of work. ``about_to`` says what its next round trip is; ``failure`` what it ended with, if by that."""

    def __init__(self, number: int, name: str, work: Callable[[], None]) -> None:
        self.number = number
        self.name = name
        self.about_to = "begin"
        self.crashed = False
        self.finished = False
        self.waits_for: psycopg.Connection[Any] | None = None
        """The connection whose statement waits for a lock that another actor holds."""
        self.failure: Exception | None = None
        self.at_redis = False
        self.outcome: object = None
        self.delayed: list[tuple[str, Callable[[], object]]] = []
        self._work = work
        self._fault: Fault | None = None
        self._sessions: dict[int, psycopg.Connection[Any]] = {}
        self._cut = False
        self._attempts_after_death = 0
        self._greenlet = ActorGreenlet(self)

    def __str__(self) -> str:
        return self.name

    @property
    def in_transaction(self) -> bool:
        """Whether it has a transaction open in which it does nothing now."""
        return any(each.pgconn.transaction_status == TransactionStatus.INTRANS for each in self._own_sessions())

    # -- what the history does with an actor

    def go_on(self, fault: Fault | None = None) -> None:
        """Do the next round trip, up to the one after it; with ``fault``, this happens to it."""
        self._fault = fault
        self.outcome = None
        self._greenlet.switch()

    def crash(self) -> None:
        """End it here: nothing that it does from now on reaches a store, and its open transactions are rolled back."""
        self.crashed = True
        self._roll_back()
        while not self.finished:
            self._greenlet.switch()

    def lose_sessions(self) -> None:
        """Postgres ends its sessions: it slept in a transaction for too long. It finds out when it wants to go on."""
        if self.in_transaction:
            self._cut = True
            self._roll_back()

    def cancel_statement(self) -> None:
        """The statement that waits for a lock has waited for long enough."""
        if self.waits_for is not None:
            self.waits_for.cancel_safe()
            while not self.is_answered(ANSWERS_IN_SECONDS):
                continue

    def is_answered(self, timeout_seconds: float = 0.0) -> bool:
        """Whether the statement that was waited for has ended."""
        assert self.waits_for is not None
        return bool(select.select([self.waits_for.fileno()], [], [], timeout_seconds)[0])

    @property
    def backend(self) -> int:
        """The Postgres process at work for the statement that waits."""
        assert self.waits_for is not None
        return self.waits_for.info.backend_pid

    # -- what the actor does, called in its own greenlet

    def run(self) -> None:
        """The work from its begin to its end, however it ends."""
        try:
            self._work()
        except Exception as error:  # the history judges it
            if not self.crashed:
                self.failure = error
        except GreenletExit:
            if not self.crashed:
                raise
        finally:
            self.finished = True

    def redis_round_trip(self, label: str, perform: Callable[[], Result]) -> Result:
        """Give the word away, then do it, or have happen to it what the history wants."""
        self.at_redis = True
        fault = self._pause(label)
        if self.crashed or fault is Fault.UNREACHABLE:
            raise redis.exceptions.ConnectionError("the simulation cut the connection")
        if fault is Fault.DELAYED:
            self.delayed.append((label, perform))
            raise redis.exceptions.TimeoutError("the simulation held the command up")
        result = perform()
        self.outcome = result
        if fault is Fault.ANSWER_LOST:
            raise redis.exceptions.TimeoutError("the simulation lost the answer")
        return result

    def postgres_round_trip(
        self, label: str, connection: psycopg.Connection[Any], steps: Generator[Wait, Ready, Result]
    ) -> Result:
        """As :meth:`redis_round_trip`; a statement that waits for another's lock gives the word away while it does."""
        self.at_redis = False
        _USERS[id(connection)] = self
        self._sessions[id(connection)] = connection
        fault = self._pause(label)
        if self.crashed or self._cut or fault in (Fault.UNREACHABLE, Fault.DELAYED):
            steps.close()
            self._end_session(connection)
            raise psycopg.OperationalError("the simulation ended the session")
        result = self._driven(connection, steps)
        if fault is Fault.ANSWER_LOST:
            self._end_session(connection)
            raise psycopg.OperationalError("the simulation lost the answer")
        return result

    def _pause(self, label: str) -> Fault | None:
        if self.crashed:
            self._attempts_after_death += 1
            if self._attempts_after_death > ATTEMPTS_OF_THE_DEAD:
                raise GreenletExit
            return None
        self.about_to = label
        self._greenlet.parent.switch()
        fault, self._fault = self._fault, None
        return fault

    def _driven(self, connection: psycopg.Connection[Any], steps: Generator[Wait, Ready, Result]) -> Result:
        """What ``psycopg.waiting`` does, with a way out when the answer does not come."""
        try:
            wanted = next(steps)
            while True:
                reading = [connection.fileno()] if wanted & Wait.R else []
                writing = [connection.fileno()] if wanted & Wait.W else []
                readable, writable, _ = select.select(reading, writing, [], ANSWERS_IN_SECONDS)
                if readable or writable:
                    wanted = steps.send(Ready((Ready.R if readable else 0) | (Ready.W if writable else 0)))
                else:
                    self.waits_for = connection
                    self._greenlet.parent.switch()
                    self.waits_for = None
        except StopIteration as stop:
            result: Result = stop.value
            return result

    def _end_session(self, connection: psycopg.Connection[Any]) -> None:
        self._cut = False
        _roll_back(connection)

    def _roll_back(self) -> None:
        for connection in self._own_sessions():
            _roll_back(connection)

    def _own_sessions(self) -> list[psycopg.Connection[Any]]:
        """Those that went back to the pool may be somebody else's now."""
        return [each for number, each in self._sessions.items() if _USERS[number] is self]


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    """What the server does when a session ends; past psycopg's own lock, which the actor holds while it sleeps."""
    if connection.pgconn.transaction_status != TransactionStatus.IDLE:
        connection.pgconn.exec_(b"ROLLBACK")


class ActorGreenlet(greenlet):  # type: ignore[misc]
    """The greenlet of an actor."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor.run)
        self.actor = actor


def acting() -> Actor | None:
    """The actor whose code is running; None for the history itself."""
    current = getcurrent()
    return current.actor if isinstance(current, ActorGreenlet) else None


def arrive(perform: Callable[[], object]) -> None:
    """Do what its sender gave up long ago; nobody hears the answer."""
    with suppress(redis.exceptions.RedisError):
        perform()
