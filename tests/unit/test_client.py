"""The client against a shop that answers as a test says: what it asks again, with which key, and when it gives up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from client import Lost, Refused, Shop, StillPending, Unanswered, UnexpectedAnswer, exchange
from client.exchange import SPREAD

BUSY = (503, {"code": "BUSY", "message": "잠시 후"}, {"Retry-After": "1"})
SUBMITTED = (202, {"requestId": "0.1.1.c", "kind": "coupon_issue", "status": "PENDING", "sequence": 3}, {})
PENDING = (200, {"requestId": "0.1.1.c", "kind": "coupon_issue", "status": "PENDING"}, {"Retry-After": "1"})
COUPON = {"userCouponId": 5, "couponId": 1, "userId": 7, "sequence": 3, "issuedAt": "2030-01-01T00:00:00.5Z"}
COMPLETED = (200, {"kind": "coupon_issue", "status": "COMPLETED", "result": COUPON, "error": None}, {})

Scripted = tuple[int, Any, dict[str, str]] | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Asked:
    """One request as the shop saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ScriptedShop:
    """Answers in the order given, the last one for ever."""

    answers: list[Scripted] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    address: str = ""

    def serves(self, *answers: Scripted) -> None:
        self.answers[:] = answers

    @property
    def keys(self) -> list[str | None]:
        return [each.headers.get("Idempotency-Key") for each in self.asked if each.method == "POST"]


@pytest.fixture
def scripted() -> Iterator[ScriptedShop]:
    shop = ScriptedShop()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            shop.asked.append(Asked(self.command, self.path, dict(self.headers), json.loads(data) if data else None))
            found = shop.answers.pop(0) if len(shop.answers) > 1 else shop.answers[0]
            if callable(found):
                found(self)
                return
            status, body, headers = found
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    shop.address = f"http://127.0.0.1:{server.server_port}"
    yield shop
    server.shutdown()
    server.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it slept, without sleeping; the clock goes on as if it had."""
    slept: list[float] = []
    began = time.monotonic()
    monkeypatch.setattr(exchange.time, "sleep", slept.append)
    monkeypatch.setattr(exchange.time, "monotonic", lambda: began + sum(slept))
    return slept


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """The connection breaks before an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def test_a_wish_is_submitted_followed_and_typed(scripted: ScriptedShop) -> None:
    scripted.serves(SUBMITTED, COMPLETED)
    with Shop(scripted.address + "/") as shop:
        won = shop.issue_coupon(1, 7)
    assert (won.user_coupon_id, won.sequence, won.issued_at.isoformat()) == (5, 3, "2030-01-01T00:00:00.500000+00:00")
    submission, look = scripted.asked
    assert (submission.method, submission.path, submission.body) == ("POST", "/api/v1/coupons/1/issue", {"userId": 7})
    assert (look.method, look.path) == ("GET", "/api/v1/requests/0.1.1.c")
    assert "Prefer" not in look.headers


def test_one_key_is_made_for_a_wish_and_kept_over_its_retries(scripted: ScriptedShop, pauses: list[float]) -> None:
    scripted.serves(BUSY, hang_up, (429, {"code": "TOO_MANY_REQUESTS"}, {"Retry-After": "3"}), SUBMITTED)
    with Shop(scripted.address) as shop:
        submitted = shop.submit_coupon(1, 7)
        assert set(scripted.keys) == {submitted.key}
        assert len(scripted.keys) == 4
        other = shop.submit_coupon(1, 8)
        own = shop.submit_coupon(1, 9, key="mine")
    assert other.key != submitted.key
    assert own.key == scripted.keys[-1] == "mine"


def test_it_comes_again_when_it_is_told_to_and_not_with_everybody_else(
    scripted: ScriptedShop, pauses: list[float]
) -> None:
    scripted.serves(BUSY, (429, {"code": "TOO_MANY_REQUESTS"}, {"Retry-After": "3"}), SUBMITTED)
    reasons: list[str] = []
    with Shop(scripted.address, told_to_wait=reasons.append) as shop:
        shop.submit_coupon(1, 7)
    assert reasons == ["BUSY", "TOO_MANY_REQUESTS"]
    assert 1 <= pauses[0] <= 1 + SPREAD
    assert 3 <= pauses[1] <= 3 * (1 + SPREAD)


def test_without_a_word_about_when_it_comes_ever_more_rarely(scripted: ScriptedShop, pauses: list[float]) -> None:
    scripted.serves(*[(502, b"<html>", {})] * 4, (500, {"code": "TEMPORARY_ERROR"}, {}), SUBMITTED)
    with Shop(scripted.address) as shop:
        shop.submit_coupon(1, 7)
    for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.8, 1.6), strict=True):
        assert least <= pause <= least * (1 + SPREAD)


def test_a_no_is_final_and_told_with_its_code(scripted: ScriptedShop) -> None:
    closed = {"type": "/docs", "title": "Coupon closed", "status": 409, "code": "COUPON_CLOSED", "message": "마감"}
    closed |= {"reason": "SOLD_OUT"}
    scripted.serves((409, closed, {}))
    with Shop(scripted.address) as shop, pytest.raises(Refused) as no:
        shop.issue_coupon(1, 7)
    assert (no.value.status, no.value.code, no.value.message) == (409, "COUPON_CLOSED", "마감")
    assert no.value.details == {"reason": "SOLD_OUT"}
    assert len(scripted.asked) == 1


@pytest.mark.parametrize(("code", "kind"), [("TEMPORARY_ERROR", Lost), ("INSUFFICIENT_BALANCE", Refused)])
def test_a_request_that_failed_says_whether_a_new_wish_makes_sense(
    scripted: ScriptedShop, code: str, kind: type[Refused]
) -> None:
    failed = {"kind": "order", "status": "FAILED", "result": None, "error": {"code": code, "message": "…"}}
    scripted.serves(SUBMITTED, (200, failed, {}))
    with Shop(scripted.address) as shop, pytest.raises(Refused) as no:
        shop.place_order(7, {1: 2})
    assert type(no.value) is kind
    assert (no.value.code, no.value.status) == (code, 0)


def test_what_is_pending_is_waited_for_by_the_shop_and_looked_at_rarely_where_it_has_no_place(
    scripted: ScriptedShop, pauses: list[float]
) -> None:
    waited = (*PENDING[:2], {"Preference-Applied": "wait=10", "Retry-After": "1"})
    scripted.serves(SUBMITTED, PENDING, waited, PENDING, COMPLETED)
    with Shop(scripted.address) as shop:
        shop.issue_coupon(1, 7)
    assert [each.headers.get("Prefer") for each in scripted.asked[1:]] == [None, *["wait=10"] * 3]
    assert len(pauses) == 1


def test_when_the_patience_is_over_the_key_or_the_request_is_told(scripted: ScriptedShop, pauses: list[float]) -> None:
    scripted.serves(BUSY)
    with Shop(scripted.address, patience_seconds=10) as shop:
        with pytest.raises(Unanswered, match="BUSY") as silence:
            shop.issue_coupon(1, 7, key="mine")
        assert silence.value.key == "mine"
        assert 5 <= sum(pauses) <= 10
        scripted.serves(SUBMITTED, PENDING)
        with pytest.raises(StillPending) as pending:
            shop.issue_coupon(1, 7, key="mine")
        assert (pending.value.request_id, pending.value.key) == ("0.1.1.c", "mine")
        scripted.serves(SUBMITTED, BUSY)
        with pytest.raises(StillPending):
            shop.issue_coupon(1, 7)


def test_a_shop_that_is_silent_or_away_costs_no_more_than_the_patience(scripted: ScriptedShop) -> None:
    released = threading.Event()
    scripted.serves(lambda _handler: released.wait(10) and None)
    started = time.monotonic()
    with Shop(scripted.address, patience_seconds=0.6, timeout_seconds=0.3) as shop, pytest.raises(Unanswered):
        shop.balance(7)
    released.set()
    with Shop("http://127.0.0.1:1", patience_seconds=0.3) as shop, pytest.raises(Unanswered, match="silent"):
        shop.balance(7)
    assert time.monotonic() - started < 5


def test_a_connection_that_was_closed_while_it_lay_idle_is_no_news(scripted: ScriptedShop, pauses: list[float]) -> None:
    def answer_and_go(handler: BaseHTTPRequestHandler) -> None:
        text = json.dumps({"userId": 7, "balance": 5}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
        handler.wfile.flush()
        hang_up(handler)

    scripted.serves(answer_and_go)
    with Shop(scripted.address) as shop:
        assert [shop.balance(7).balance for _ in range(3)] == [5, 5, 5]
    assert pauses == []


def test_the_token_and_the_language_go_along(scripted: ScriptedShop) -> None:
    scripted.serves((200, {"userId": 7, "balance": 5}, {}))
    tokens = iter(["first", "second"])
    with Shop(scripted.address, token=lambda: next(tokens), language="en") as shop:
        shop.balance(7)
        shop.balance(7)
    with Shop(scripted.address, token="fixed") as shop:
        shop.balance(7)
    with Shop(scripted.address) as shop:
        shop.balance(7)
    sent = [each.headers.get("Authorization") for each in scripted.asked]
    assert sent == ["Bearer first", "Bearer second", "Bearer fixed", None]
    assert [each.headers.get("Accept-Language") for each in scripted.asked] == ["en", "en", None, None]


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>hello</html>", {}),
        (200, [], {}),
        (404, b"nothing here", {}),
        (404, {"detail": "nothing here"}, {}),
        (200, {"userId": 7}, {}),
        (302, b"", {"Location": "/elsewhere"}),
    ],
)
def test_what_is_not_this_api_is_told_as_that(scripted: ScriptedShop, answer: Scripted) -> None:
    scripted.serves(answer)
    with Shop(scripted.address) as shop, pytest.raises(UnexpectedAnswer):
        shop.balance(7)


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://localhost", "http://", ""])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Shop(address)


def test_threads_ask_side_by_side(scripted: ScriptedShop) -> None:
    together = threading.Barrier(4)

    def meet(handler: BaseHTTPRequestHandler) -> None:
        together.wait(5)
        text = json.dumps({"userId": 7, "balance": 5}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    scripted.serves(meet)
    found: list[int] = []
    with Shop(scripted.address) as shop:
        threads = [threading.Thread(target=lambda: found.append(shop.balance(7).balance)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [5] * 4
