"""A worker process outlives its queue: it does not end when the server is away, and goes on when it is back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from engine.flow.bell import DRAIN_QUEUE
from ops.processes import PROJECT_ROOT, dying_with_us
from tests.cluster.members import Member, data_server, paused
from tests.cluster.scenarios import url_of
from tests.stack.stack_driver import wait_until

HANGING_PATIENCE_SECONDS = 30.0


@dataclass
class WorkerProcess:
    process: subprocess.Popen[bytes]
    output: Path

    def complaints(self) -> int:
        """How often it has said that the queue is away."""
        assert self.process.poll() is None, self.output.read_text()
        text = self.output.read_text()
        return text.count("the queue does not answer") + text.count("could not connect to Redis")


@pytest.fixture
def queue_server(tmp_path: Path) -> Iterator[Member]:
    with data_server(tmp_path, "queue") as server:
        server.await_answer()
        yield server


@pytest.fixture
def worker(queue_server: Member, redis_url: str, database_url: str, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker of the drain queue; the queue's server is down when it starts."""
    queue_server.kill()
    environ = {"REDIS_URL": redis_url, "QUEUE_REDIS_URL": url_of(queue_server), "DATABASE_URL": database_url}
    output = tmp_path / "worker.txt"
    with open(output, "wb") as file:
        process = subprocess.Popen(
            dying_with_us([sys.executable, "-m", "workers.main", "drain"]),
            cwd=PROJECT_ROOT,
            env={**os.environ, **environ},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    yield WorkerProcess(process, output)
    process.kill()
    process.wait()


def assert_works(server: Member, seconds: float = 10.0) -> None:
    """A job that is put into the queue now is done."""
    with redis.Redis.from_url(url_of(server)) as client:
        queue = Queue(DRAIN_QUEUE, connection=client, serializer=JSONSerializer)
        job = queue.enqueue("operator.add", 1, 2)
        wait_until(lambda: job.get_status(refresh=True) == "finished", "the job is done", seconds)


def test_a_worker_waits_for_its_queue_and_finds_it_again_after_every_outage(
    worker: WorkerProcess, queue_server: Member
) -> None:
    wait_until(lambda: worker.complaints() >= 2, "the worker has tried")
    for _ in range(2):
        queue_server.start()
        assert_works(queue_server)
        before = worker.complaints()
        queue_server.kill()
        wait_until(lambda seen=before: worker.complaints() > seen + 1, "the worker has tried again")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(10) == 0, worker.output.read_text()


def test_a_worker_does_not_wait_for_ever_for_a_server_that_hangs(worker: WorkerProcess, queue_server: Member) -> None:
    queue_server.start()
    assert_works(queue_server)
    before = worker.complaints()
    with paused(queue_server):
        wait_until(lambda: worker.complaints() > before, "the worker has noticed", HANGING_PATIENCE_SECONDS)
    assert_works(queue_server, HANGING_PATIENCE_SECONDS)
