"""The generator of our own: some processes of ``sender``, each with its share of the load."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from loadtests.benchmark.loads import Load
from loadtests.benchmark.plans import Plan, write_plan
from loadtests.benchmark.sender import READY, Job, Sent
from loadtests.benchmark.wrk import GeneratorFailed
from loadtests.figures import percentile
from ops.processes import PROJECT_ROOT, dying_with_us

PROCESSES = min(2, os.cpu_count() or 1)
HEAD_START_SECONDS = 0.05
GRACE_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
LIMIT_SECONDS = 2.0
"""Nobody is to wait longer than this for any answer."""
FILES_OF_OUR_OWN = 200


@dataclass(frozen=True)
class Sending:
    """A load that this generator is to send: closed loop, or with a ``rate`` per second an open one."""

    port: int
    plan: Plan
    seconds: float
    connections: int
    rate: float | None = None
    keep_bodies: bool = False


@dataclass(frozen=True)
class Volley:
    """What became of a :class:`Sending`, in more detail than a load has; ``bodies`` are those of good answers.

    Of those, ``good_within_limit`` came within the limit, and ``good_in_time`` also before the load ended.
    """

    load: Load
    sent: int
    good_in_time: int
    good_within_limit: int
    busy_told_well: int
    good_p99_ms: float
    others_p99_ms: float
    bodies: tuple[bytes, ...]

    @property
    def goodput(self) -> float:
        """Good answers per second that came within the limit and before the load ended.

        What is answered afterwards does not count: while nothing more comes, a queue empties at a rate that says
        nothing of what was served under load.
        """
        return self.good_in_time / self.load.seconds


class Senders:
    """Sends by processes of our own."""

    name = "sender"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, port: int, plan: Plan, *, seconds: float, connections: int) -> Load:
        """A closed loop for so many seconds. Raises GeneratorFailed."""
        return self.send(Sending(port, plan, seconds, connections)).load

    @contextmanager
    def running(self, port: int, plan: Plan, *, seconds: float, connections: int) -> Iterator[RunningSenders]:
        """A closed loop beside what the caller does meanwhile; ended with the context."""
        with self.sending(Sending(port, plan, seconds, connections)) as running:
            yield running

    def send(self, sending: Sending) -> Volley:
        """Send all of it. Raises GeneratorFailed."""
        with self.sending(sending) as running:
            return running.volley()

    @contextmanager
    def sending(self, sending: Sending) -> Iterator[RunningSenders]:
        """Begin to send; ended with the context. Raises GeneratorFailed."""
        plan = self._folder / "senders.plan"
        write_plan(sending.plan, plan)
        with ExitStack() as exits:
            processes = []
            for job in shares(sending, plan, self._folder):
                path = self._folder / f"job-{job['offset']}.json"
                path.write_text(json.dumps(job))
                processes.append(_start(path))
                exits.callback(_end, processes[-1])
            running = RunningSenders(sending, self._folder, processes)
            running.begin()
            yield running


def shares(sending: Sending, plan: Path, folder: Path) -> list[Job]:
    """What each process does: together, what was to be sent."""
    processes = max(1, min(PROCESSES, sending.connections))
    return [
        {
            "port": sending.port,
            "plan": str(plan),
            "offset": number,
            "step": processes,
            "open": sending.rate is not None,
            "rate": (sending.rate or 0.0) / processes,
            "connections": sending.connections // processes + (number < sending.connections % processes),
            "seconds": sending.seconds,
            "grace_seconds": GRACE_SECONDS,
            "limit_seconds": LIMIT_SECONDS,
            "good_latencies": str(folder / f"good-{number}"),
            "other_latencies": str(folder / f"other-{number}"),
            "bodies": str(folder / f"bodies-{number}") if sending.keep_bodies else None,
            "seed": number,
        }
        for number in range(processes)
    ]


def most_connections(wanted: int) -> int:
    """As many connections as wanted, or as the limit on open files lets the processes have, together."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, PROCESSES * (hard - FILES_OF_OUR_OWN)) if hard != resource.RLIM_INFINITY else wanted


class RunningSenders:
    """Senders on their way."""

    def __init__(self, sending: Sending, folder: Path, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._sending = sending
        self._folder = folder
        self._processes = processes

    @property
    def pids(self) -> list[int]:
        """The processes that send."""
        return [process.pid for process in self._processes]

    def begin(self) -> None:
        """Wait until all are ready, then let them begin at one moment. Raises GeneratorFailed."""
        for process in self._processes:
            if _line(process).strip() != READY:
                raise GeneratorFailed("a sender did not become ready")
        start_at = time.monotonic() + HEAD_START_SECONDS
        for process in self._processes:
            if process.stdin is not None:
                print(start_at, file=process.stdin, flush=True)

    def finish(self) -> Load:
        """Wait for the end. Raises GeneratorFailed."""
        return self.volley().load

    def volley(self) -> Volley:
        """Wait for the end; all that is known. Raises GeneratorFailed."""
        sent: list[Sent] = []
        for process in self._processes:
            try:
                sent.append(json.loads(_line(process, self._sending.seconds + GRACE_SECONDS)))
            except ValueError as error:
                raise GeneratorFailed("a sender told no result") from error
        number = range(len(self._processes))
        good = _latencies([self._folder / f"good-{each}" for each in number])
        others = _latencies([self._folder / f"other-{each}" for each in number])
        kept = [self._folder / f"bodies-{each}" for each in number] if self._sending.keep_bodies else []
        bodies = [body for path in kept for body in path.read_bytes().split(b"\n") if body]
        return volley_of(self._sending, sent, good, others, bodies)


def volley_of(
    sending: Sending, sent: Sequence[Sent], good: Sequence[int], others: Sequence[int], bodies: Sequence[bytes]
) -> Volley:
    """Put together what the processes tell; latencies in microseconds, ascending or not."""
    answers: Counter[int] = Counter()
    for each in sent:
        answers.update({int(status): times for status, times in each["answers"].items()})
    ascending = sorted([*good, *others])
    oldest = max(each["oldest_unanswered_us"] for each in sent)
    elapsed = max(each["elapsed"] for each in sent)
    load = Load(
        # A closed loop ends when the last one has its answer; of an open one, only the time of arrivals counts.
        seconds=sending.seconds if sending.rate is not None else elapsed,
        answers=dict(answers),
        p50_ms=percentile(ascending, 0.50) / 1000,
        p99_ms=percentile(ascending, 0.99) / 1000,
        longest_ms=max([oldest, *ascending[-1:]]) / 1000,
        cpu_share=sum(each["cpu_seconds"] for each in sent) / (elapsed * len(sent)),
        broken=sum(each["broken"] for each in sent),
        unanswered=sum(each["unanswered"] for each in sent),
    )
    return Volley(
        load=load,
        sent=sum(each["sent"] for each in sent),
        good_in_time=sum(each["good_in_time"] for each in sent),
        good_within_limit=sum(latency <= LIMIT_SECONDS * 1e6 for latency in good),
        busy_told_well=sum(each["busy_told_well"] for each in sent),
        good_p99_ms=percentile(sorted(good), 0.99) / 1000,
        others_p99_ms=percentile(sorted(others), 0.99) / 1000,
        bodies=tuple(bodies),
    )


def _latencies(paths: Sequence[Path]) -> list[int]:
    found = array("Q")
    for path in paths:
        found.frombytes(path.read_bytes())
    return list(found)


def _start(job: Path) -> subprocess.Popen[str]:
    command: list[Any] = dying_with_us([sys.executable, "-m", "loadtests.benchmark.sender", str(job)])
    return subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _line(process: subprocess.Popen[str], seconds: float = 0.0) -> str:
    """The next line that the process says, '' if it ends or stays silent for longer than it may."""
    guard = Timer(seconds + PATIENCE_SECONDS, process.kill)
    guard.start()
    try:
        return process.stdout.readline() if process.stdout is not None else ""
    finally:
        guard.cancel()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    with suppress(OSError):
        process.communicate()
