"""Run one RQ worker on one queue: ``python -m workers.main drain``.

One queue per worker: RQ loses a job when a worker that listens on several is killed between taking and starting it.
Jobs run in the worker's own process, because a drain lives on its warm connections, and because a work horse outlives
a killed worker.
"""

from __future__ import annotations

import logging
import sys
from types import FrameType
from typing import Any

import redis
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer

from engine.config import Settings
from engine.errors import InvalidSettings
from engine.flow.bell import DRAIN_QUEUE, FOLLOWUPS_QUEUE
from engine.gate.clients import connect_queue
from engine.gate.heartbeat import Pulse
from engine.service_manager import tell_ready
from engine.telemetry import metrics
from engine.telemetry.logs import configure_logs
from workers import process

QUEUES = (DRAIN_QUEUE, FOLLOWUPS_QUEUE)


AGAIN_SECONDS = 1.0
WORKER_TTL_SECONDS = 18
"""RQ waits for a job 15 s less than this, and 10 s longer than that for an answer: with its own seven minutes, a worker
would wait that long for a server that hangs, or that was cut off when another one took over."""

logger = logging.getLogger("workers")


class Worker(SimpleWorker):
    """An RQ worker that tells the job at work when it is asked to stop, and counts jobs that fail."""

    max_connection_wait_time = 2.0  # RQ's own is a minute: so long it would sleep on when the queue is back

    def register_birth(self) -> None:
        """RQ does this when it begins to work, and again when the queue has been away."""
        super().register_birth()  # type: ignore[no-untyped-call]
        tell_ready()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        process.stop()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def handle_job_failure(self, job: Any, queue: Any, *arguments: Any, **named: Any) -> None:
        metrics.JOB_FAILURES.labels(queue.name).inc()
        super().handle_job_failure(job, queue, *arguments, **named)


def main(arguments: list[str]) -> int:
    """Work until stopped; the exit code."""
    if len(arguments) != 1 or arguments[0] not in QUEUES:
        print(f"usage: python -m workers.main {{{'|'.join(QUEUES)}}}", file=sys.stderr)
        return 2
    try:
        settings = Settings.from_environment()
    except InvalidSettings as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs(arguments[0], settings.log_format, settings.log_level)
    process.start_pulse(arguments[0])
    pulse = Pulse(process.engine_of_this_process().gate, arguments[0]).start()
    while not process.is_stopping():
        try:
            _work(arguments[0], settings.queue_redis_url)
        except StopRequested:
            break
        except redis.RedisError as error:
            logger.warning("the queue does not answer: %s", error)
        process.wait_for_stop(AGAIN_SECONDS)
    pulse.stop()
    process.engine_of_this_process().close()
    return 0


def _work(queue_name: str, url: str) -> None:
    """Work until stopped, or until RQ gives up. It does when a server goes away at the wrong moment: left to a
    supervisor, an outage of a minute would look like a program that keeps dying."""
    connection = connect_queue(url)
    try:
        queue: Any = Queue(queue_name, connection=connection, serializer=JSONSerializer)
        worker = Worker([queue], connection=connection, serializer=JSONSerializer, worker_ttl=WORKER_TTL_SECONDS)
        worker.work(logging_level="WARNING")
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
