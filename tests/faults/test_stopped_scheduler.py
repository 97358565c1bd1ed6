"""A scheduler that is stopped, not killed, must not stay the active one: nobody would guard the lanes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from engine.context import Engine
from ops.processes import PROJECT_ROOT, dying_with_us
from scheduler.main import SCHEDULER_LOCK, SILENCE_SECONDS
from tests.conftest import EngineMaker
from tests.stack.stack_driver import wait_until

HOLDER = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted")


@pytest.fixture
def start_scheduler(make_engine: EngineMaker) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    settings = make_engine().settings
    environ = {
        **os.environ,
        "REDIS_URL": settings.redis_url,
        "QUEUE_REDIS_URL": settings.redis_url,
        "DATABASE_URL": settings.database_url,
    }
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = dying_with_us([sys.executable, "-m", "scheduler.main"])
        started.append(subprocess.Popen(command, cwd=PROJECT_ROOT, env=environ))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def holder(engine: Engine) -> int | None:
    """The Postgres session that has the lock."""
    with engine.ledger.read() as connection:
        found: int | None = connection.execute(HOLDER, {"key": SCHEDULER_LOCK}).scalar()
        return found


def test_a_standby_takes_over_from_a_scheduler_that_is_stopped(
    engine: Engine, start_scheduler: Callable[[], subprocess.Popen[bytes]]
) -> None:
    first = start_scheduler()
    wait_until(lambda: holder(engine) is not None, "the first one is active")
    session = holder(engine)
    start_scheduler()
    os.kill(first.pid, signal.SIGSTOP)
    wait_until(lambda: holder(engine) not in (None, session), "the standby is active", seconds=SILENCE_SECONDS + 15.0)
    second = holder(engine)
    os.kill(first.pid, signal.SIGCONT)
    engine.gate.client.flushdb()
    wait_until(lambda: engine.gate.inspect(0).ready, "the standby guards the lanes")
    assert holder(engine) == second
    assert first.poll() is None, "who wakes up stands by"
