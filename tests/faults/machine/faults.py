"""What can be done to the stack: a process that dies or sleeps at a point, a store or a network that goes away."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ops.processes import children_of, signal_quietly
from tests.faults.machine.machine import Machine
from tests.faults.machine.process import SLEEP_SECONDS
from tests.faults.machine.stack import KINDS, STORES, route
from tests.faults.tcp_proxy import Mode

KILL = "kill"
SLEEP = "stop"

Act = Callable[[Machine], None]

SHORT_SECONDS = 3.0
NETWORK_SECONDS = 5.0


@dataclass(frozen=True)
class Point:
    """A fault point, who reaches it, and what makes somebody come by if the crowd does not."""

    name: str
    process: str
    provoke: Act | None = None


WEB_POINTS = tuple(
    Point(name, "web")
    for name in (
        "issue.decided",
        "order.between_lanes",
        "order.decided",
        "charge.committed",
        "cancel.committed",
        "publish.recorded",
        "publish.unmarked",
    )
)
DRAIN_POINTS = tuple(
    Point(name, "worker")
    for name in (
        "drain.after_reading_head",
        "drain.before_commit",
        "drain.after_commit",
        "holds.mid_release",
        "drain.before_removal",
    )
)
FOLLOWUP_POINTS = tuple(
    Point(name, "followups") for name in ("followups.before_commit", "followups.claimed", "followups.unmarked")
)
SCHEDULER_POINTS = (
    Point("sweep.before_expiry", "scheduler", Machine.leave_a_hold),
    Point("sweep.after_expiry", "scheduler", Machine.leave_a_hold),
    Point("guard.before_approval", "scheduler", Machine.restart_redis),
    Point("rebuild.closed", "scheduler", Machine.forget_everything),
    Point("rebuild.begun", "scheduler", Machine.forget_everything),
    Point("rebuild.building", "scheduler", Machine.forget_everything),
    Point("rebuild.before_opening", "scheduler", Machine.forget_everything),
)
POINTS = (*WEB_POINTS, *DRAIN_POINTS, *FOLLOWUP_POINTS, *SCHEDULER_POINTS)


@dataclass(frozen=True)
class Disturbance:
    """Something that begins, lasts and ends."""

    name: str
    begin: Act
    end: Act
    seconds: float
    takes_store_away: bool = False
    """Meanwhile the machine itself cannot do anything to that store, or know whether it was done."""


def _nothing(_: Machine) -> None:
    return


def _set_memory_limit(machine: Machine, limit: int) -> None:
    client: Any = machine.stack.engine.gate.client
    client.config_set("maxmemory", limit)


def _fill_disk(machine: Machine) -> None:
    """Redis can write to its append-only file no more, as on a full disk: a file of ours may not grow any longer."""
    pid = machine.stack.valkey.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, most))


def _free_disk(machine: Machine) -> None:
    pid = machine.stack.valkey.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def _set_clock(machine: Machine, ahead_seconds: int) -> None:
    if machine.stack.clock is not None:
        machine.stack.clock.set(ahead_seconds)


def _pause_redis(machine: Machine) -> None:
    machine.stack.valkey.pause()


def _resume_redis(machine: Machine) -> None:
    machine.stack.valkey.resume()


def _pause_postgres(machine: Machine) -> None:
    machine.stack.postgres.pause()


def _resume_postgres(machine: Machine) -> None:
    machine.stack.postgres.resume()


def _kill_postgres(machine: Machine) -> None:
    machine.stack.postgres.kill()


def _restart_postgres(machine: Machine) -> None:
    machine.stack.restart_postgres()


def _unseat(machine: Machine) -> None:
    machine.stack.unseat_scheduler()


def _network(mode: Mode, routes: Sequence[str], machine: Machine) -> None:
    machine.stack.proxy.put(routes, mode)


def signal_process(number: int, name: str, machine: Machine) -> None:
    """To the process and what it started; granian's children die of their parent's death by the supervisor's hand."""
    pid = machine.stack.pids().get(name)
    if pid is not None:
        for each in (pid, *children_of(pid)):
            signal_quietly(each, number)


REVERTED = Disturbance("Redis back as it was a while ago", Machine.copy_redis_file, Machine.revert_redis, SHORT_SECONDS)

STORE_DISTURBANCES = (
    Disturbance("Redis stopped", _pause_redis, _resume_redis, SLEEP_SECONDS, takes_store_away=True),
    Disturbance("Redis killed", Machine.restart_redis, _nothing, 0.0),
    Disturbance("Redis emptied", Machine.forget_everything, _nothing, 0.0),
    Disturbance("Redis killed, its file lost", Machine.lose_redis_file, _nothing, 0.0),
    REVERTED,
    Disturbance("Redis' disk full", _fill_disk, _free_disk, NETWORK_SECONDS, takes_store_away=True),
    Disturbance(
        "Redis' memory full",
        partial(_set_memory_limit, limit=1),
        partial(_set_memory_limit, limit=0),
        NETWORK_SECONDS,
        takes_store_away=True,
    ),
    Disturbance("Postgres stopped", _pause_postgres, _resume_postgres, SLEEP_SECONDS, takes_store_away=True),
    Disturbance("Postgres killed", _kill_postgres, _restart_postgres, SHORT_SECONDS, takes_store_away=True),
    Disturbance("scheduler's session ended", _unseat, _nothing, 0.0),
)

NETWORK_DISTURBANCES = tuple(
    Disturbance(
        f"{route(kind, store)} {word}",
        partial(_network, mode, [route(kind, store)]),
        partial(_network, Mode.PASS, [route(kind, store)]),
        seconds,
    )
    for kind in KINDS
    for store in STORES
    for mode, word, seconds in (
        (Mode.CUT, "cut", SHORT_SECONDS),
        (Mode.DELAY, "delayed", NETWORK_SECONDS),
        (Mode.HOLE, "black-holed", SLEEP_SECONDS),
        (Mode.DEAF, "deaf", SHORT_SECONDS),
    )
)

PROCESS_DISTURBANCES = tuple(
    disturbance
    for name in ("web", "worker.1", "followups", "scheduler")
    for disturbance in (
        Disturbance(f"{name.partition('.')[0]} killed", partial(signal_process, signal.SIGKILL, name), _nothing, 0.0),
        Disturbance(
            f"{name.partition('.')[0]} stopped",
            partial(signal_process, signal.SIGSTOP, name),
            partial(signal_process, signal.SIGCONT, name),
            SLEEP_SECONDS,
        ),
    )
)

CLOCK_DISTURBANCES = tuple(
    Disturbance(
        f"Redis' clock a minute {word}",
        partial(_set_clock, ahead_seconds=seconds),
        partial(_set_clock, ahead_seconds=0),
        NETWORK_SECONDS,
    )
    for word, seconds in (("ahead", 60), ("behind", -60))
)
"""Only where there is a compiler for the settable clock: see :func:`possible_disturbances`."""


def possible_disturbances(machine: Machine) -> tuple[Disturbance, ...]:
    """All that can be done on this machine."""
    clocks = CLOCK_DISTURBANCES if machine.stack.clock is not None else ()
    return (*STORE_DISTURBANCES, *clocks, *PROCESS_DISTURBANCES, *NETWORK_DISTURBANCES)
