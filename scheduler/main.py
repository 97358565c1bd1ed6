"""Run the scheduler: ``python -m scheduler.main``. Exactly one is active; the others stand by.

Who is active holds an advisory lock in Postgres, on a connection of its own: it is gone the moment the process or the
connection is, or a few seconds after the process has stopped moving, and a standby takes over. A job that fails is
logged and due again; a scheduler thread that dies ends the process, for the supervisor to start anew.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from engine.config import Settings
from engine.context import Engine
from engine.errors import EngineError, InvalidSettings, LaneCountMismatch
from engine.gate import heartbeat
from engine.service_manager import tell_ready
from engine.telemetry import metrics
from engine.telemetry.logs import configure_logs
from scheduler import jobs

SCHEDULER_LOCK = 0x5EC1
"""Advisory lock: who holds it is the active scheduler."""
SILENCE_SECONDS = 5
"""An active scheduler that has not been heard for so long has stopped: Postgres ends its session, and the lock is free.
When it wakes it may be in the middle of anything; what it still writes is refused where it is stale."""
STANDBY_SECONDS = 1.0
PULSE_SECONDS = 1.0

logger = logging.getLogger("scheduler")


def main() -> int:
    """Stand by, then be active, until stopped; the exit code."""
    try:
        settings = Settings.from_environment()
    except InvalidSettings as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs("scheduler", settings.log_format, settings.log_level)
    engine = Engine.connect(settings, patient=True)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    pulse = heartbeat.Pulse(engine.gate, "scheduler").start()
    try:
        while not stopped.is_set():
            metrics.beat("scheduler")
            _stand_by_and_run(engine, stopped)
            stopped.wait(STANDBY_SECONDS)
    except LaneCountMismatch as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        pulse.stop()
        engine.close()
    return 0


def _stand_by_and_run(engine: Engine, stopped: threading.Event) -> None:
    """Be active for as long as the lock is ours, if it is to be had now."""
    try:
        with engine.ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"SET idle_session_timeout = '{SILENCE_SECONDS}s'"))
            ours = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": SCHEDULER_LOCK}).scalar_one()
            tell_ready()  # standing by is its work, too
            if ours:
                _be_active(engine, connection, stopped)
                connection.invalidate()
    except SQLAlchemyError as error:
        logger.warning("the ledger does not answer, so nobody is the active scheduler: %s", type(error).__name__)


def _be_active(engine: Engine, connection: Connection, stopped: threading.Event) -> None:
    """Run the jobs until stopped or until the connection that holds the lock is lost (SQLAlchemyError)."""
    scheduler = BackgroundScheduler(job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 30})
    fatal: list[BaseException] = []
    for job, seconds in (
        (jobs.watch_lanes, 1.0),
        (jobs.ring_old_bells, 0.5),
        (jobs.publish_changes, 1.0),
        (jobs.expire_holds, 1.0),
        (jobs.sweep_followups, 1.0),
        (jobs.observe_lanes, 1.0),
        (jobs.observe_ledger, 5.0),
        (jobs.observe_queues, 5.0),
        (jobs.rebuild_ranking, 60.0),
        (jobs.auditing(lambda: not stopped.is_set()), 60.0),
        (jobs.forget_idempotency_keys, 3600.0),
    ):
        # The first time at once: a standby that takes over does not know for how long nobody did it.
        scheduler.add_job(
            _guarded(job, engine, fatal),
            "interval",
            seconds=seconds,
            id=job.__name__,
            next_run_time=datetime.now(UTC),
        )
    try:
        # A fresh stack is ready as soon as its lanes are: do not wait for the first tick.
        _guarded(jobs.watch_lanes, engine, fatal)()
        scheduler.start()
        logger.info("active")
        while not stopped.wait(PULSE_SECONDS):
            connection.execute(text("SELECT 1"))
            if fatal:
                raise fatal[0]
            thread = scheduler._thread
            if thread is None or not thread.is_alive():
                raise SystemExit("the scheduler's thread died")
            metrics.beat("scheduler")
    finally:
        jobs.close_rounds()
        if scheduler.running:
            scheduler.shutdown(wait=True)


def _guarded(job: Callable[[Engine], object], engine: Engine, fatal: list[BaseException]) -> Callable[[], None]:
    """The job, its failure logged instead of raised: it is due again soon."""

    def run() -> None:
        try:
            job(engine)
        except LaneCountMismatch as error:
            fatal.append(error)
        except EngineError as error:
            logger.warning("%s: %s", job.__name__, error)
        except Exception:
            logger.exception("%s failed", job.__name__)

    return run


if __name__ == "__main__":
    sys.exit(main())
