"""The door's places: bounded by kind, told at once when there is none, and nobody who was sent away is decided."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from engine.gate import coupons as gate_coupons
from engine.gate import outbox
from engine.gate.coupons import IssueAsk, IssueDecision, IssueRound
from engine.gate.outbox import Whereabouts
from engine.gate.request_ids import RequestId, repeatable_nonce
from engine.outcomes import IssueStatus, RequestKind
from engine.shop import product_offers
from engine.telemetry import metrics
from web.admission import Admission, Share
from web.app import create_app
from web.door import Door
from web.exchange import problem_answer
from web.problems import BUSY

KEY = "5e" * 32
PLACES = 3
PATIENCE_SECONDS = 10
HOT = [
    ("POST", "/api/v1/coupons/7/issue"),
    ("POST", "/api/v1/orders"),
    ("GET", "/api/v1/requests/x"),
    ("GET", "/api/v1/products"),
    ("GET", "/api/v1/products/popular"),
]


class SlowGate:
    """Issues everything, but only once it is let go on; then all that waited have gone in calls of their own."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.go_on = threading.Event()

    def issue(self, _gate: Any, _lane: int, asks: Sequence[IssueAsk]) -> IssueRound:
        self.asked += [ask.user_id for ask in asks]
        assert self.go_on.wait(PATIENCE_SECONDS)
        return IssueRound([IssueDecision(IssueStatus.ISSUED, 1, "0.1.1.c") for _ in asks], ring=False)

    def find(self, _gate: Any, _lane: int, requests: Sequence[RequestId]) -> list[Whereabouts]:
        assert self.go_on.wait(PATIENCE_SECONDS)
        return [Whereabouts(True, request.epoch, 7) for request in requests]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> SlowGate:
    gate = SlowGate()
    monkeypatch.setattr(gate_coupons, "issue", gate.issue)
    monkeypatch.setattr(outbox, "find", gate.find)
    monkeypatch.setattr("web.current.add_refusals", lambda _gate, _counts: None)
    monkeypatch.setattr(product_offers, "list_products", lambda _engine: [])
    return gate


class Front:
    """A door and those who stand before it, on a loop of their own."""

    def __init__(self, admission: Admission) -> None:
        known = SimpleNamespace(lanes=1, request_key=lambda: KEY, client=None)
        engine: Any = SimpleNamespace(gate=known, ledger=None, bell=SimpleNamespace(ring=lambda _lane: True))
        self.loop = asyncio.new_event_loop()
        self.door = Door(create_app(engine), admission=admission)

    def come(self, method: str, path: str, body: bytes = b"", *headers: tuple[bytes, bytes]) -> asyncio.Task[Any]:
        """A request that is there whole."""

        async def receive() -> Any:
            await asyncio.sleep(0)  # others come while it is fetched
            return {"type": "http.request", "body": body, "more_body": False}

        return self.loop.create_task(self._exchange(method, path, body, headers, receive))

    def come_with_half_a_body(self, path: str) -> asyncio.Task[Any]:
        async def receive() -> Any:
            await asyncio.Event().wait()

        return self.loop.create_task(self._exchange("POST", path, b" " * 50, (), receive))

    def issue(self, user: int, *headers: tuple[bytes, bytes]) -> asyncio.Task[Any]:
        return self.come("POST", "/api/v1/coupons/7/issue", b'{"userId": %d}' % user, *headers)

    def poll(self) -> asyncio.Task[Any]:
        return self.come("GET", f"/api/v1/requests/0.1.1.{repeatable_nonce(KEY, RequestKind.COUPON_ISSUE, 'x')}")

    def settle(self, *tasks: asyncio.Task[Any]) -> list[int]:
        """The statuses of the answers, once they are all there."""
        return [each[0] for each in self.answers(*tasks)]

    def answers(self, *tasks: asyncio.Task[Any]) -> list[Any]:
        async def all_of_them() -> list[Any]:
            return await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_SECONDS)

        return self.loop.run_until_complete(all_of_them())

    def go_round(self) -> None:
        """Let everybody come as far as they can without anybody else's help."""
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))

    def close(self) -> None:
        self.door.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.go_round()
        self.loop.close()

    async def _exchange(self, method: str, path: str, body: bytes, headers: Any, receive: Any) -> Any:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        told = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))] if body else []
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [*told, *headers],
        }
        await self.door(scope, receive, send)
        start, content = sent
        return start["status"], start["headers"], content["body"]


@pytest.fixture
def front(gate: SlowGate) -> Iterator[Front]:
    front = Front(Admission(submissions=PLACES, reads=PLACES))
    yield front
    gate.go_on.set()
    front.close()


def test_who_finds_no_place_is_told_at_once_and_is_never_decided(front: Front, gate: SlowGate) -> None:
    inside = [front.issue(user) for user in range(1, 1 + PLACES)]
    front.go_round()
    outside = [front.issue(user) for user in range(101, 111)]
    assert front.settle(*outside) == [503] * 10
    assert not any(task.done() for task in inside)
    gate.go_on.set()
    assert front.settle(*inside) == [202] * PLACES
    assert sorted(gate.asked) == list(range(1, 1 + PLACES))


def test_those_whose_bodies_arrive_together_do_not_take_more_places_than_there_are(
    front: Front, gate: SlowGate
) -> None:
    together = [front.issue(user) for user in range(1, 21)]
    front.go_round()
    gate.go_on.set()
    assert sorted(front.settle(*together)) == [202] * PLACES + [503] * (20 - PLACES)
    assert len(gate.asked) == PLACES


def test_a_place_comes_free_with_the_answer_and_when_its_client_goes_away(front: Front, gate: SlowGate) -> None:
    inside = [front.issue(user) for user in range(1, 1 + PLACES)]
    front.go_round()
    inside[0].cancel()
    front.go_round()
    another = front.issue(9)
    front.go_round()
    assert not another.done()
    gate.go_on.set()
    assert front.settle(*inside[1:], another) == [202] * PLACES
    assert front.settle(*(front.issue(user) for user in range(20, 20 + PLACES))) == [202] * PLACES


def test_who_is_sent_away_is_told_as_the_views_would_in_their_language(front: Front) -> None:
    for user in range(1, 1 + PLACES):
        front.issue(user)
    front.go_round()
    english = (b"accept-language", b"en")
    (in_korean, in_english) = front.answers(front.issue(9), front.issue(9, english))
    assert in_korean == tuple(problem_answer(BUSY, "ko"))
    assert in_english == tuple(problem_answer(BUSY, "en"))
    assert (b"retry-after", b"1") in in_korean[1]


def test_of_who_is_sent_away_not_even_the_body_is_read(front: Front) -> None:
    for user in range(1, 1 + PLACES):
        front.issue(user)
    front.go_round()
    assert front.settle(front.come_with_half_a_body("/api/v1/coupons/7/issue")) == [503]


def test_everybody_who_is_sent_away_is_counted(front: Front) -> None:
    before = metrics.REGISTRY.get_sample_value("seonchak_turned_away_total") or 0.0
    inside = [front.issue(user) for user in range(1, PLACES)]
    front.go_round()
    together = [front.issue(user) for user in range(10, 13)]  # two of them find that the last place is gone
    front.go_round()
    assert front.settle(front.issue(20)) == [503]
    assert sum(task.done() for task in (*inside, *together)) == 2
    assert metrics.REGISTRY.get_sample_value("seonchak_turned_away_total") == before + 3


def test_half_sent_bodies_take_no_places(front: Front, gate: SlowGate) -> None:
    for _ in range(5 * PLACES):
        front.come_with_half_a_body("/api/v1/coupons/7/issue")
    front.go_round()
    gate.go_on.set()
    assert front.settle(front.issue(1)) == [202]


def test_what_is_not_hot_takes_no_places(front: Front) -> None:
    for user in range(1, 1 + PLACES):
        front.issue(user)
    front.go_round()
    assert front.settle(front.come("GET", "/healthz")) == [200]
    admission = Admission()
    assert admission.share_of("GET", "/healthz") is None
    assert admission.share_of("GET", "/api/v1/coupons/7/issue") is None
    assert admission.share_of("POST", "/api/v1/users/7/balance/charge") is None
    assert all(admission.share_of(*request) is not None for request in HOT)


def flood_both(front: Front, gate: SlowGate) -> tuple[list[int], list[int]]:
    """What submissions come to beside a flood of reads, and reads beside a flood of submissions."""
    reads = [front.poll() for _ in range(5 * PLACES)]
    front.go_round()
    submissions = [front.issue(user) for user in range(1, 5 * PLACES)]
    front.go_round()
    gate.go_on.set()
    return front.settle(*submissions), front.settle(*reads)


def test_a_flood_of_one_kind_keeps_nobody_of_the_other_out(front: Front, gate: SlowGate) -> None:
    submissions, reads = flood_both(front, gate)
    assert submissions.count(202) == PLACES
    assert reads.count(200) == PLACES


def test_with_one_share_for_both_the_flood_is_noticed(gate: SlowGate) -> None:
    """The negative control."""
    admission = Admission()
    admission.submissions = admission.reads = Share("everything", PLACES)
    front = Front(admission)
    submissions, reads = flood_both(front, gate)
    assert (submissions.count(202), reads.count(200)) == (0, PLACES)
    front.close()
