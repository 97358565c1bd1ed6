"""Makes every round trip that an actor takes to a store a step of its own, and gives actors a clock of the simulation.

Nothing here knows what the engine asks the stores: redis-py's two ways to send something and psycopg's one are
replaced while a simulation runs. Whoever is not an actor talks to the stores as ever.
"""

from __future__ import annotations

import os
import random
import secrets
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any
from unittest import mock

import psycopg
import redis
from psycopg.pq import TransactionStatus
from redis.client import Pipeline

from engine.gate import scripts
from tests.simulation.actors import acting

ROUND_TRIP_SECONDS = 0.001
LABEL_CHARACTERS = 90


@dataclass
class Clock:
    """The time that actors see, in seconds: it goes on with round trips, sleeps and what the history decides."""

    now: float = 1000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Listener:
    """Who wants to know of every answer of Redis, the ones that its asker never hears included."""

    heard: Callable[[object], None] = field(default=lambda _: None)


@contextmanager
def stepwise(clock: Clock, listener: Listener, seed: int) -> Iterator[None]:
    """While this lasts, actors stop before every round trip, and chance comes from the seed."""
    names = _script_names()
    sleep, monotonic = time.sleep, time.monotonic
    chance = random.Random(seed)
    state = random.getstate()

    def simulated_monotonic() -> float:
        return clock.now if acting() else monotonic()

    def seeded_uuid() -> uuid.UUID:
        return uuid.UUID(bytes=chance.randbytes(16))

    with (
        mock.patch.object(redis.Redis, "execute_command", _stepwise_command(clock, listener, names)),
        mock.patch.object(Pipeline, "execute", _stepwise_pipeline(clock, listener, names)),
        mock.patch.object(psycopg.Connection, "wait", _stepwise_wait(clock)),
        mock.patch.object(ThreadPoolExecutor, "submit", _at_once),
        mock.patch.object(time, "sleep", lambda seconds: clock.advance(seconds) if acting() else sleep(seconds)),
        mock.patch.object(time, "monotonic", simulated_monotonic),
        mock.patch.object(os, "urandom", chance.randbytes),
        mock.patch.object(uuid, "uuid1", seeded_uuid),
        mock.patch.object(secrets, "token_hex", lambda size=32: chance.randbytes(size).hex()),
    ):
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)


def _stepwise_command(clock: Clock, listener: Listener, names: Mapping[str, str]) -> Callable[..., Any]:
    send: Any = redis.Redis.execute_command

    def execute_command(client: redis.Redis, *arguments: Any, **options: Any) -> Any:
        actor = acting()
        if actor is None:
            return send(client, *arguments, **options)
        arguments, patience_seconds = _without_waiting(arguments)

        def perform() -> Any:
            reply = send(client, *arguments, **options)
            listener.heard(reply)
            return reply

        clock.advance(ROUND_TRIP_SECONDS)
        reply = actor.redis_round_trip(_label(names, arguments), perform)
        if not reply:
            clock.advance(patience_seconds)
        return reply

    return execute_command


def _stepwise_pipeline(clock: Clock, listener: Listener, names: Mapping[str, str]) -> Callable[..., Any]:
    send_all: Any = Pipeline.execute

    def execute(pipeline: Pipeline, raise_on_error: bool = True) -> Any:
        actor = acting()
        if actor is None:
            return send_all(pipeline, raise_on_error)
        sent = "; ".join(_label(names, command[0]) for command in pipeline.command_stack[:3])

        def perform() -> Any:
            replies = send_all(pipeline, raise_on_error)
            listener.heard(replies)
            return replies

        clock.advance(ROUND_TRIP_SECONDS)
        return actor.redis_round_trip(f"[{sent}]"[:LABEL_CHARACTERS], perform)

    return execute


def _stepwise_wait(clock: Clock) -> Callable[..., Any]:
    wait = psycopg.Connection.wait

    def wait_for(
        connection: psycopg.Connection[Any], steps: Generator[Any, Any, Any], *others: Any, **options: Any
    ) -> Any:
        actor = acting()
        label = None if actor is None else _statement(connection, steps)
        if actor is None or label is None:
            return wait(connection, steps, *others, **options)
        clock.advance(ROUND_TRIP_SECONDS)
        return actor.postgres_round_trip(label, connection, steps)

    return wait_for


def _at_once(_: ThreadPoolExecutor, work: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
    """What would be done side by side is done here and now: a thread would be out of the simulation's hands."""
    future: Future[Any] = Future()
    try:
        future.set_result(work(*arguments, **options))
    except Exception as error:
        future.set_exception(error)
    return future


def _without_waiting(arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], float]:
    """The same command, answered at once, and how many seconds it would have waited for something to come."""
    if arguments[0] not in ("XREAD", "XREADGROUP"):
        return arguments, 0.0
    for place, argument in enumerate(arguments):
        if argument in ("BLOCK", b"BLOCK"):
            return arguments[:place] + arguments[place + 2 :], int(arguments[place + 1]) / 1000
    return arguments, 0.0


def _script_names() -> Mapping[str, str]:
    return {
        sha1(path.read_bytes(), usedforsecurity=False).hexdigest(): path.stem
        for path in sorted(scripts.LUA_DIRECTORY.glob("*.lua"))
    }


def _label(names: Mapping[str, str], arguments: tuple[Any, ...]) -> str:
    """A command as a reader wants to see it: the script's name, the key, and the values that are short."""
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in arguments]
    if words[0] == "EVALSHA":
        count = int(words[2])
        values = [word for word in words[3 + count :] if len(word) <= 12]
        words = [names.get(words[1], "lease script"), *words[3 : 3 + min(count, 1)], *values]
    return " ".join(words)[:LABEL_CHARACTERS]


def _statement(connection: psycopg.Connection[Any], steps: Any) -> str | None:
    """What psycopg is about to send; None for what is no step: nothing is sent, or the server does it by itself."""
    name = steps.gi_code.co_name
    idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    if name in ("_rollback_gen", "_close_gen") or name.startswith("_set_") or (name == "_commit_gen" and idle):
        return None
    if name == "_commit_gen":
        return "COMMIT"
    query = steps.gi_frame.f_locals.get("query") if steps.gi_frame else None
    return name if query is None else " ".join(str(query).split())[:LABEL_CHARACTERS]
