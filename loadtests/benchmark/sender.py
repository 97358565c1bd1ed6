"""One process of the generator of our own: ``python -m loadtests.benchmark.sender JOB``, a file of JSON.

Raw sockets and one loop over epoll, because what sends must cost less than what is measured. Two ways:

closed  each of ``connections`` sends its next request when its last one is answered
open    requests come at ``rate`` per second by chance (exponential gaps), whether earlier ones are answered or not;
        each takes an idle connection or opens one, at most ``connections``; past that it waits here, and its time runs

In the open way a request's time begins when it was due, not when it could be sent: what makes others wait is seen (no
coordinated omission). The result is JSON on stdout; latencies in microseconds and bodies go to the files the job names.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import select
import socket
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from loadtests.benchmark.answers import AnswerReader, is_busy_told_well
from loadtests.benchmark.loads import GOOD
from loadtests.benchmark.plans import requests_of

ADDRESS = "127.0.0.1"
RECEIVED_BYTES = 65_536
MOST_EVENTS = 1024
LONGEST_POLL_SECONDS = 0.1
READY = "ready"


class Job(TypedDict):
    """What one sender does."""

    port: int
    plan: str
    offset: int
    step: int
    open: bool
    rate: float
    connections: int
    seconds: float
    grace_seconds: float
    limit_seconds: float
    good_latencies: str
    other_latencies: str
    bodies: str | None
    seed: int


class Sent(TypedDict):
    """What became of one sender's requests. ``good_in_time`` came within the limit, before the end of the load."""

    sent: int
    answers: dict[int, int]
    good_in_time: int
    busy_told_well: int
    broken: int
    unanswered: int
    oldest_unanswered_us: int
    elapsed: float
    cpu_seconds: float


class _Connection:
    __slots__ = ("due", "reader", "rest", "socket", "waits")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.reader = AnswerReader()
        self.waits = False
        self.due = 0.0
        self.rest = b""


class Sender:
    """One process' share of a load."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._requests: Iterator[bytes] = requests_of(Path(job["plan"]), job["offset"], job["step"])
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._waiting: deque[float] = deque()
        self._in_flight = 0
        self._start = self._end = 0.0
        self._answers: Counter[int] = Counter()
        self._good = array("Q")
        self._others = array("Q")
        self._bodies: list[bytes] = []
        self._sent = self._broken = self._good_in_time = self._busy_told_well = 0

    def run(self, start_at: float) -> Sent:
        """Send from ``start_at`` on, by the monotonic clock, which all processes share; wait for the rest; tell."""
        self._start, self._end = start_at, start_at + self._job["seconds"]
        gc.disable()  # nothing here makes cycles, and a pause would be taken for the server's
        time.sleep(max(0.0, start_at - time.monotonic()))
        before = resource.getrusage(resource.RUSAGE_SELF)
        self._loop()
        after = resource.getrusage(resource.RUSAGE_SELF)
        now = time.monotonic()
        unanswered = [each.due for each in self._open.values() if each.waits] + list(self._waiting)
        return {
            "sent": self._sent + len(self._waiting),
            "answers": dict(self._answers),
            "good_in_time": self._good_in_time,
            "busy_told_well": self._busy_told_well,
            "broken": self._broken,
            "unanswered": len(unanswered),
            "oldest_unanswered_us": round((now - min(unanswered, default=now)) * 1e6),
            "elapsed": now - self._start,
            "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        }

    def write(self) -> None:
        """Put latencies and bodies where the job wants them."""
        job = self._job
        for path, latencies in ((job["good_latencies"], self._good), (job["other_latencies"], self._others)):
            Path(path).write_bytes(latencies.tobytes())
        if job["bodies"] is not None:
            Path(job["bodies"]).write_bytes(b"\n".join(self._bodies))

    def _loop(self) -> None:
        job = self._job
        chance = random.Random(job["seed"])
        due = self._start + chance.expovariate(job["rate"]) if job["open"] else self._end
        give_up = self._end + job["grace_seconds"]
        if not job["open"]:
            for _ in range(job["connections"]):
                self._send(time.monotonic())
        while True:
            now = time.monotonic()
            while due <= now and due < self._end:
                self._send(due)
                due += chance.expovariate(job["rate"])
            if now >= self._end and (now >= give_up or not (self._in_flight or self._waiting)):
                return
            until = min(due, self._end) if now < self._end else give_up
            for descriptor, event in self._poll.poll(max(0.0, min(until - now, LONGEST_POLL_SECONDS)), MOST_EVENTS):
                self._attend(self._open[descriptor], event)

    def _send(self, due: float) -> None:
        """Send the next request on an idle connection or a new one; if there may be no more of them, let it wait."""
        if self._idle:
            self._send_on(self._idle.pop(), due)
        elif len(self._open) < self._job["connections"]:
            self._send_on(self._connect(), due)
        else:
            self._waiting.append(due)

    def _connect(self) -> _Connection:
        # Without blocking: a full listen queue must not hold up everybody who comes after.
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.connect_ex((ADDRESS, self._job["port"]))
        connection = _Connection(raw)
        self._open[raw.fileno()] = connection
        self._poll.register(raw.fileno(), select.EPOLLIN)
        return connection

    def _send_on(self, connection: _Connection, due: float) -> None:
        connection.due, connection.waits = due, True
        self._sent += 1
        self._in_flight += 1
        self._write(connection, next(self._requests))

    def _write(self, connection: _Connection, request: bytes) -> None:
        try:
            written = connection.socket.send(request)
        except BlockingIOError:  # not connected yet
            written = 0
        except OSError:
            self._lose(connection)
            return
        had_rest, connection.rest = bool(connection.rest), request[written:]
        if connection.rest and not had_rest:
            self._poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        elif had_rest and not connection.rest:
            self._poll.modify(connection.socket.fileno(), select.EPOLLIN)

    def _attend(self, connection: _Connection, event: int) -> None:
        if event & select.EPOLLOUT and connection.rest:
            self._write(connection, connection.rest)
            return
        try:
            data = connection.socket.recv(RECEIVED_BYTES)
            complete = bool(data) and connection.reader.take(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            data = b""
        if not data:
            self._lose(connection)
        elif complete:
            self._answered(connection)

    def _answered(self, connection: _Connection) -> None:
        now = time.monotonic()
        waited = now - connection.due
        reader = connection.reader
        status = reader.status
        self._answers[status] += 1
        if status in GOOD:
            self._good.append(int(waited * 1e6))
            self._good_in_time += waited <= self._job["limit_seconds"] and now <= self._end
            if self._job["bodies"] is not None:
                self._bodies.append(reader.body)
        else:
            self._others.append(int(waited * 1e6))
            self._busy_told_well += is_busy_told_well(reader)
        connection.waits = False
        self._in_flight -= 1
        self._give_work(connection, now)

    def _give_work(self, connection: _Connection, now: float) -> None:
        """What a connection that has its answer does next. Whoever waits here for one is sent also after the end."""
        if self._waiting:
            self._send_on(connection, self._waiting.popleft())
        elif self._job["open"]:
            self._idle.append(connection)
        elif now < self._end:
            self._send_on(connection, now)

    def _lose(self, connection: _Connection) -> None:
        """A connection broke or was closed; what it was to bring is lost if it had been sent."""
        del self._open[connection.socket.fileno()]
        self._poll.unregister(connection.socket.fileno())
        connection.socket.close()
        if connection.waits:
            self._broken += 1
            self._in_flight -= 1
        else:
            self._idle = [other for other in self._idle if other is not connection]
        now = time.monotonic()
        if self._waiting:
            self._send_on(self._connect(), self._waiting.popleft())
        elif not self._job["open"] and now < self._end:
            self._send_on(self._connect(), now)


def main(path: str) -> int:
    """Do one job, from the moment on that a line on stdin tells once we are ready; the exit code."""
    sender = Sender(json.loads(Path(path).read_text()))
    print(READY, flush=True)
    result = sender.run(float(sys.stdin.readline()))
    sender.write()
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
