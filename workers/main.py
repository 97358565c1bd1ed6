"""Run one RQ worker on one queue: ``python -m workers.main drain``.

One queue per worker: RQ loses a job when a worker that listens on several is killed between taking and starting it.
Jobs run in the worker's own process, because a drain lives on its warm connections, and because a work horse outlives
a killed worker.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from engine.config import Settings
from engine.errors import InvalidSettings
from engine.flow.bell import DRAIN_QUEUE, FOLLOWUPS_QUEUE
from engine.gate.clients import connect_queue
from engine.telemetry import metrics
from engine.telemetry.logs import configure_logs
from workers import process

QUEUES = (DRAIN_QUEUE, FOLLOWUPS_QUEUE)


class Worker(SimpleWorker):
    """An RQ worker that tells the job at work when it is asked to stop, and counts jobs that fail."""

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
    connection = connect_queue(settings.queue_redis_url)
    queue: Any = Queue(arguments[0], connection=connection, serializer=JSONSerializer)
    worker = Worker([queue], connection=connection, serializer=JSONSerializer)
    worker.work(logging_level="WARNING")
    process.engine_of_this_process().close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
