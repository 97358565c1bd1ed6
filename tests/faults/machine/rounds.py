"""Rounds: several faults at once, under load, until all of them happened; then everything heals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from engine.errors import EngineError
from tests.faults.machine.faults import KILL, SLEEP, Disturbance, Point
from tests.faults.machine.machine import Machine
from tests.faults.machine.outcomes import Round
from tests.faults.machine.process import SLEEP_SECONDS

TAKING_PATIENCE_SECONDS = 10.0
"""A point that nobody reaches by then is left to a later round."""
PROVOCATION_PAUSE_SECONDS = 2.5
CALM_SECONDS = 0.5
"""After a round, so that what it left shows itself as its own."""


@dataclass(frozen=True)
class Injection:
    """A point and what happens there: KILL or SLEEP."""

    point: Point
    action: str


@dataclass(frozen=True)
class Plan:
    """One round. ``meanwhile`` happens while the sleepers sleep, or at once when nobody does.

    ``together``: all orders are given at once. Else the scheduler's are taken first, because a drain that sleeps in its
    transaction keeps a rebuild waiting, for as long as Postgres lets it.
    """

    injections: tuple[Injection, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()
    meanwhile: Callable[[Machine], None] | None = None
    together: bool = True
    sleep_seconds: float = SLEEP_SECONDS


def run_round(machine: Machine, plan: Plan) -> Round:
    """Inject, wait until all is taken, heal; what did happen. Raises TimeoutError when the stack does not heal."""
    begin = time.monotonic()
    for each in plan.disturbances:
        each.begin(machine)
    first = [each for each in plan.injections if each.point.process == "scheduler"]
    others = [each for each in plan.injections if each not in first]
    for some in ([*first, *others],) if plan.together else (first, others):
        for injection in some:
            machine.points.order(injection.point.name, injection.action, injection.point.process)
        _await_taken(machine, some)
    if plan.meanwhile is not None:
        plan.meanwhile(machine)
    _wait_out(machine, plan, begin)
    for each in plan.disturbances:
        each.end(machine)
    injected = [(each.name, "others") for each in plan.disturbances]
    for injection in plan.injections:
        if machine.points.withdraw(injection.point.name) is not None:
            injected.append((injection.point.name, "kills" if injection.action == KILL else "sleeps"))
    machine.stack.await_ready()
    time.sleep(CALM_SECONDS)
    return Round(begin, time.monotonic(), tuple(injected))


def _await_taken(machine: Machine, injections: Sequence[Injection]) -> None:
    """Wait until every order is taken or patience ends; make somebody come by where the crowd does not."""
    deadline = time.monotonic() + TAKING_PATIENCE_SECONDS
    waiting, next_provocation = list(injections), 0.0
    while waiting and time.monotonic() < deadline:
        if time.monotonic() >= next_provocation:
            next_provocation = time.monotonic() + PROVOCATION_PAUSE_SECONDS
            for provoke in dict.fromkeys(each.point.provoke for each in waiting):
                if provoke is not None:
                    _try(provoke, machine)
        time.sleep(0.02)
        for injection in list(waiting):
            if machine.points.taken(injection.point.name) is not None:
                waiting.remove(injection)
                if injection.point.process == "scheduler" and injection.action == SLEEP:
                    _try(lambda each: each.stack.unseat_scheduler(), machine)


def _wait_out(machine: Machine, plan: Plan, begin: float) -> None:
    """Until sleepers have slept, and disturbances lasted, long enough."""
    asleep = any(
        injection.action == SLEEP and machine.points.taken(injection.point.name) is not None
        for injection in plan.injections
    )
    lasting = max((each.seconds for each in plan.disturbances), default=0.0)
    until = max(begin + lasting, time.monotonic() + plan.sleep_seconds if asleep else 0.0)
    while time.monotonic() < until:
        time.sleep(0.05)


def _try(act: Callable[[Machine], None], machine: Machine) -> None:
    """A provocation that does not get through now is repeated later."""
    try:
        act(machine)
    except (EngineError, RedisError, SQLAlchemyError):
        return
