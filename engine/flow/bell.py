"""The bell: an RQ job that says only "drain this lane" or "work off follow-ups".

It carries no outcome, so a lost one costs time, no data.
"""

from __future__ import annotations

import logging

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from engine.gate.clients import connect_queue
from engine.gate.gate import unavailability_translated
from engine.telemetry import metrics

DRAIN_QUEUE = "drain"
DRAIN_JOB = "workers.drain.drain_lane"
FOLLOWUPS_QUEUE = "followups"
FOLLOWUPS_JOB = "workers.followups.work_off_followups"
JOB_TIMEOUT_SECONDS = 60
RESULT_TTL_SECONDS = 10
FAILURE_TTL_SECONDS = 3600
QUEUED_TTL_SECONDS = 60

logger = logging.getLogger(__name__)


class Bell:
    """Rings for lanes and for follow-ups. Thread-safe."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._queue = Queue(DRAIN_QUEUE, connection=client, serializer=JSONSerializer)
        self._followups = Queue(FOLLOWUPS_QUEUE, connection=client, serializer=JSONSerializer)

    @classmethod
    def connect(cls, url: str) -> Bell:
        """A bell on the queue's Redis; nothing is sent before the first ring."""
        return cls(connect_queue(url))

    def close(self) -> None:
        self._client.close()

    def ring(self, lane: int) -> bool:
        """Ask for a drain of ``lane``; whether the queue took it.

        Never raises: the decision is taken and in the outbox, and the scheduler rings again for a head that gets old.
        The job's id is random, because RQ refuses a fixed id long after its job is done.
        """
        return self._enqueue(self._queue, DRAIN_JOB, lane)

    def ring_for_followups(self) -> bool:
        """Ask for follow-ups to be worked off, unless somebody has asked and no worker has come yet; never raises.

        Call it after the commit that planned them: the job that waits starts later than that and sees them.
        """
        if self.followups_waiting() > 0:
            metrics.BELL_RINGS.labels(FOLLOWUPS_QUEUE, "spared").inc()
            return True
        return self._enqueue(self._followups, FOLLOWUPS_JOB)

    def waiting(self) -> int:
        """How many rings for drains no worker has answered yet; 0 when the queue cannot be asked."""
        return _count(self._queue)

    def followups_waiting(self) -> int:
        """How many rings for follow-ups no worker has answered yet; 0 when the queue cannot be asked."""
        return _count(self._followups)

    def jobs(self) -> dict[tuple[str, str], int]:
        """How many jobs there are by (queue, state): queued, failed. Raises GateUnavailable."""
        with unavailability_translated():
            return {
                (queue.name, state): int(count)
                for queue in (self._queue, self._followups)
                for state, count in (("queued", queue.count), ("failed", queue.failed_job_registry.count))
            }

    def _enqueue(self, queue: Queue, job: str, *arguments: int) -> bool:
        try:
            queue.enqueue(
                job,
                *arguments,
                job_timeout=JOB_TIMEOUT_SECONDS,
                result_ttl=RESULT_TTL_SECONDS,
                failure_ttl=FAILURE_TTL_SECONDS,
                ttl=QUEUED_TTL_SECONDS,
            )
        except redis.RedisError as error:
            metrics.BELL_RINGS.labels(queue.name, "failed").inc()
            logger.warning("the bell for %s%s could not be rung (%s); the scheduler will", job, arguments, error)
            return False
        metrics.BELL_RINGS.labels(queue.name, "rung").inc()
        return True


def _count(queue: Queue) -> int:
    try:
        return int(queue.count)
    except redis.RedisError:
        return 0
