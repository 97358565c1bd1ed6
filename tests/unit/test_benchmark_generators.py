"""What sends the load: the bytes, reading the answers, and both generators against a small server."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from loadtests.benchmark.answers import AnswerReader, is_busy_told_well
from loadtests.benchmark.plans import Count, Cycle, get, post, post_counting, requests_of, write_plan
from loadtests.benchmark.senders import (
    FILES_OF_OUR_OWN,
    PROCESSES,
    Senders,
    Sending,
    most_connections,
    shares,
    volley_of,
)
from loadtests.benchmark.wrk import GeneratorFailed, Wrk, parse_result, version_of_wrk
from ops.processes import free_port

GENERATORS = [Senders] if version_of_wrk() is None else [Senders, Wrk]
BUSY = b'{"code":"BUSY"}'
ANSWER = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'

Answering = Callable[[str, Any], tuple[int, dict[str, str], bytes]]


class SmallServer(ThreadingHTTPServer):
    """Answers as ``answering`` says, given the path and the body; remembers every body."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answering: Answering) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answering = answering
        self.bodies: list[Any] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Senders that leave at the end of their time are no news; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SmallServer

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self._answer(body)

    def _answer(self, body: Any) -> None:
        status, headers, answer = self.server.answering(self.path, body)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        # In one piece, as real servers answer: in two, the second waits for the first one's acknowledgement.
        self.wfile.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(answer)}\r\n{head}\r\n".encode() + answer)


@pytest.fixture
def serve() -> Iterator[Callable[[Answering], SmallServer]]:
    servers: list[SmallServer] = []

    def start(answering: Answering) -> SmallServer:
        servers.append(SmallServer(answering))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_requests_are_whole_and_a_number_does_not_change_their_length() -> None:
    plan = post_counting("/coupons/1/issue", "userId")
    head, _, body = plan.request(7).partition(b"\r\n\r\n")
    assert json.loads(body) == {"userId": plan.first + 7}
    assert f"Content-Length: {len(body)}".encode() in head
    assert len({len(plan.request(number)) for number in (0, 9, 9_999_999)}) == 1
    assert get("/healthz") == b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def test_no_two_plans_share_a_number() -> None:
    first, second = post_counting("/a", "userId"), post_counting("/a", "userId")
    assert second.first - first.first >= 10_000_000


@pytest.mark.parametrize("plan", [Cycle((get("/a"), get("/b"), post("/c", {"n": 1}))), post_counting("/a", "userId")])
def test_processes_share_a_plan_without_sending_anything_twice(tmp_path: Path, plan: Cycle | Count) -> None:
    write_plan(plan, tmp_path / "plan")
    alone = list(islice(requests_of(tmp_path / "plan", 0, 1), 12))
    pair = [list(islice(requests_of(tmp_path / "plan", offset, 2), 6)) for offset in (0, 1)]
    assert sorted([*pair[0], *pair[1]]) == sorted(alone)
    assert alone[0] == (plan.requests[0] if isinstance(plan, Cycle) else plan.request(0))


@pytest.mark.parametrize("size", [1, 7, 60, len(ANSWER)])
def test_an_answer_is_read_however_it_is_cut(size: int) -> None:
    reader = AnswerReader()
    for _ in range(2):  # one connection, two answers
        complete = [reader.take(ANSWER[start : start + size]) for start in range(0, len(ANSWER), size)]
        assert complete == [False] * (len(complete) - 1) + [True]
        assert (reader.status, reader.body) == (202, b'{"a":1}')


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ANSWER + b"x",
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        AnswerReader().take(data)


@pytest.mark.parametrize(
    ("status", "headers", "body", "well"),
    [
        (503, b"Retry-After: 1\r\n", BUSY, True),
        (503, b"", BUSY, False),
        (503, b"Retry-After: 1\r\n", b'{"code":"TEMPORARY_ERROR"}', False),
        (429, b"Retry-After: 1\r\n", BUSY, False),
    ],
)
def test_busy_is_told_with_its_code_and_when_to_come_again(
    status: int, headers: bytes, body: bytes, well: bool
) -> None:
    reader = AnswerReader()
    assert reader.take(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body))
    assert is_busy_told_well(reader) is well


def test_the_result_of_wrk_is_its_last_line() -> None:
    line = (
        'RESULT {"seconds": 2.5, "answers": {"202": 90, "503": 10}, "broken": 1, "p50_us": 900, "p99_us": 2500, '
        '"longest_us": 9000}'
    )
    load = parse_result(f"Running 2s test\n{line}\n", cpu_seconds=0.5)
    assert load.answers == {202: 90, 503: 10}
    assert (load.per_second, load.p50_ms, load.p99_ms, load.longest_ms) == (40.0, 0.9, 2.5, 9.0)
    assert (load.broken, load.cpu_share) == (1, 0.2)
    assert load.others_than(202) == {503: 10}


@pytest.mark.parametrize("output", ["", "unable to connect", "RESULT {", 'RESULT {"seconds": 0, "answers": {}}'])
def test_a_wrk_without_a_result_is_no_load_of_zero(output: str) -> None:
    with pytest.raises(GeneratorFailed):
        parse_result(output, 1.0)


def test_the_senders_share_all_that_is_to_be_sent() -> None:
    jobs = shares(Sending(1, Cycle((get("/"),)), 1.0, 65, rate=1000.0), Path("plan"), Path())
    assert len(jobs) == PROCESSES
    assert sum(job["connections"] for job in jobs) == 65
    assert sum(job["rate"] for job in jobs) == pytest.approx(1000.0)
    assert [job["offset"] for job in jobs] == list(range(PROCESSES))
    assert {job["step"] for job in jobs} == {PROCESSES}
    assert len(shares(Sending(1, Cycle((get("/"),)), 1.0, 1), Path("plan"), Path())) == 1


def test_who_is_never_answered_counts_as_having_waited() -> None:
    sent: Any = {
        "sent": 3, "answers": {"202": 2}, "good_in_time": 1, "busy_told_well": 0, "broken": 0, "unanswered": 1,
        "oldest_unanswered_us": 7_000_000, "elapsed": 8.0, "cpu_seconds": 0.8,
    }  # fmt: skip
    volley = volley_of(Sending(1, Cycle((get("/"),)), 2.0, 64, rate=1.5), [sent], [1000, 3_000_000], [], [])
    assert volley.load.longest_ms == 7000.0
    assert volley.load.unanswered == 1
    assert (volley.goodput, volley.good_within_limit) == (0.5, 1)
    assert volley.load.per_second == 1.0  # of the time of arrivals, not of the time that answers took
    assert volley.load.cpu_share == pytest.approx(0.1)


def test_no_more_connections_are_wanted_than_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_000, 1_000))
    assert most_connections(10) == 10
    assert most_connections(100_000) == PROCESSES * (1_000 - FILES_OF_OUR_OWN)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert most_connections(100_000) == 100_000


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_counts_every_answer_and_sends_no_number_twice(
    kind: type[Senders] | type[Wrk], tmp_path: Path, serve: Callable[[Answering], SmallServer]
) -> None:
    server = serve(lambda _, body: (202 if body["userId"] % 2 else 409, {}, b"{}"))
    load = kind(tmp_path).run(server.port, post_counting("/issue", "userId"), seconds=1, connections=8)
    users = [body["userId"] for body in server.bodies]
    assert len(set(users)) == len(users)
    assert set(load.answers) == {202, 409}
    assert len(users) - 8 <= load.answered <= len(users)  # wrk leaves without its last answers
    assert load.broken == 0
    assert load.per_second == pytest.approx(load.answered / load.seconds)
    assert 0 < load.p50_ms <= load.p99_ms <= load.longest_ms
    assert 0 < load.cpu_share < 1


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_goes_through_a_cycle(
    kind: type[Senders] | type[Wrk], tmp_path: Path, serve: Callable[[Answering], SmallServer]
) -> None:
    paths: list[str] = []
    server = serve(lambda path, _: (paths.append(path), (200, {}, b"{}"))[1])
    kind(tmp_path).run(server.port, Cycle((get("/a"), get("/b"), get("/c"))), seconds=1, connections=1)
    assert set(paths) == {"/a", "/b", "/c"}
    assert max(map(paths.count, set(paths))) - min(map(paths.count, set(paths))) <= 1


@pytest.mark.parametrize("kind", GENERATORS)
def test_nobody_there_is_no_load(kind: type[Senders] | type[Wrk], tmp_path: Path) -> None:
    try:
        load = kind(tmp_path).run(free_port(), Cycle((get("/"),)), seconds=1, connections=2)
    except GeneratorFailed:
        return
    assert load.answered == 0
    assert load.broken > 0


def test_open_arrivals_come_at_their_rate_and_all_are_told_of(
    tmp_path: Path, serve: Callable[[Answering], SmallServer]
) -> None:
    answers = {202: (202, {}, b'{"requestId": "r"}'), 503: (503, {"Retry-After": "1"}, BUSY), 500: (500, {}, b"{}")}

    def answering(_: str, body: Any) -> tuple[int, dict[str, str], bytes]:
        return answers[500 if body["userId"] % 10 == 0 else 503 if body["userId"] % 2 else 202]

    server = serve(answering)
    plan = post_counting("/issue", "userId")
    volley = Senders(tmp_path).send(Sending(server.port, plan, 1.5, 200, rate=200.0, keep_bodies=True))
    assert volley.sent == len(server.bodies)
    assert 200 <= volley.sent <= 400  # 300 by chance, give or take
    assert volley.load.answered == volley.sent
    assert volley.busy_told_well == volley.load.count(503)
    assert len(volley.bodies) == volley.load.count(202)
    assert set(volley.bodies) == {b'{"requestId": "r"}'}


def test_open_arrivals_that_have_to_wait_for_a_connection_are_seen_to_wait(
    tmp_path: Path, serve: Callable[[Answering], SmallServer]
) -> None:
    """With a closed loop the answers would take 50 ms each; who comes while others are served waits for them, too."""

    def slow(_: str, __: Any) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.05)
        return 202, {}, b"{}"

    server = serve(slow)
    volley = Senders(tmp_path).send(Sending(server.port, post_counting("/", "userId"), 1.0, PROCESSES, rate=80.0))
    assert volley.load.answered == volley.sent
    assert volley.load.longest_ms > 200
    assert volley.good_in_time < volley.sent


def test_arrivals_that_a_sender_slept_through_have_waited_since_they_were_due(
    tmp_path: Path, serve: Callable[[Answering], SmallServer]
) -> None:
    server = serve(lambda _, __: (202, {}, b"{}"))
    sending = Sending(server.port, post_counting("/", "userId"), 1.5, 200, rate=200.0)
    with Senders(tmp_path).sending(sending) as running:
        while not server.bodies:
            time.sleep(0.01)
        for pid in running.pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)  # what is measured: how long they sleep
        for pid in running.pids:
            os.kill(pid, signal.SIGCONT)
        volley = running.volley()
    assert volley.load.answered == volley.sent
    assert volley.load.longest_ms > 350


def test_a_server_that_hangs_up_breaks_what_was_on_its_way(
    tmp_path: Path, serve: Callable[[Answering], SmallServer]
) -> None:
    def hang_up(_: str, body: Any) -> tuple[int, dict[str, str], bytes]:
        if body["userId"] % 3 == 0:
            raise ConnectionAbortedError
        return 202, {}, b"{}"

    server = serve(hang_up)
    volley = Senders(tmp_path).send(Sending(server.port, post_counting("/", "userId"), 1.0, 50, rate=100.0))
    assert volley.load.broken > 0
    assert volley.load.answered + volley.load.broken + volley.load.unanswered == volley.sent
