"""The short way and the views answer alike: the same requests, right and wrong, are sent both ways and compared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import GateUnavailable, LedgerUnavailable
from engine.flow import requests as engine_requests
from engine.gate import coupons as gate_coupons
from engine.gate import outbox, stock
from engine.gate.coupons import IssueAsk, IssueDecision, IssueRound
from engine.gate.outbox import Whereabouts
from engine.gate.popularity import PopularProduct
from engine.gate.request_ids import RequestId, repeatable_nonce
from engine.gate.stock import Reservation
from engine.gate.turns import TurnLimits
from engine.outcomes import IssueStatus, Refusal, Refused, RequestKind, RequestState, RequestStatus, ReserveStatus
from engine.shop import popularity, product_offers
from engine.shop.product_offers import ProductView
from engine.token_keys import key_of_secret
from tests.unit.bearers import SECRET, bearer
from web import limits as web_limits
from web.app import create_app
from web.door import Door
from web.key_sources import FixedKeys
from web.limits import Limits
from web.short_way import ShortWay
from web.tokens import Authenticator

KEY = "5e" * 32
NONCES = {kind: repeatable_nonce(KEY, kind, "the same in every process") for kind in RequestKind}
LARGEST = 2**53 - 1
Exchange = tuple[int, list[tuple[bytes, bytes]], bytes]
LIMITS: Any = Limits(None, per_user=600, per_address=50, proxies=1)  # type: ignore[arg-type]
COUNTED: list[TurnLimits] = []
"""What each submission that reached the gate was to count against."""


def issue(_gate: Any, _lane: int, asks: Sequence[IssueAsk]) -> IssueRound:
    """Every answer there is, by the user; 99 finds the gate away."""
    statuses = list(IssueStatus)
    decisions = []
    for ask in asks:
        if ask.user_id == 99:
            raise GateUnavailable("away")
        status = statuses[2 + ask.user_id % (len(statuses) - 2)]
        COUNTED.append(ask.limits)
        granted = status in (IssueStatus.ISSUED, IssueStatus.REPLAYED)
        rest = (ask.user_id, f"0.1.{ask.coupon_id}.c{ask.idempotency_key or ''}") if granted else ()
        decisions.append(IssueDecision(status, *rest, wait_ms=1001 if status is IssueStatus.WAIT else 0))
    return IssueRound(decisions, ring=False)


def reserve_many(_gate: Any, lane: int, attempts: Any, *, order_lane: int) -> list[Reservation | GateUnavailable]:
    def answer(attempt: Any, quantities: Any) -> Reservation | GateUnavailable:
        COUNTED.append(attempt.limits)
        match attempt.user_id % 5:
            case 0:
                return GateUnavailable("backlogged")
            case 1:
                return Reservation(ReserveStatus.PRODUCT_NOT_FOUND, lane, missing_product_id=1)
            case 2:
                return Reservation(ReserveStatus.OUT_OF_STOCK, lane, available=dict(quantities))
            case 3:
                return Reservation(ReserveStatus.WAIT, lane, wait_ms=999)
        return Reservation(ReserveStatus.RESERVED, lane, request_id=f"0.1.{len(quantities)}.o{attempt.user_coupon_id}")

    assert order_lane == lane
    return [answer(attempt, quantities) for attempt, quantities in attempts]


def find(_gate: Any, _lane: int, requests: Sequence[RequestId]) -> list[Whereabouts]:
    epochs = {0: 1, 1: None}
    return [Whereabouts(request.number % 5 == 0, epochs.get(request.number % 5, 9), 7) for request in requests]


def recorded_states(_engine: Any, requests: Sequence[RequestId]) -> dict[str, RequestState]:
    states = {}
    for request in requests:
        if request.number == 9:
            raise LedgerUnavailable("away")
        if request.number % 5 == 2:
            result = {"userCouponId": 3, "name": "감귤", "issuedAt": datetime(2030, 1, 1, tzinfo=UTC)}
            states[str(request)] = RequestState(str(request), request.kind, RequestStatus.COMPLETED, result=result)
        if request.number % 5 == 3:
            error = Refused(Refusal.INSUFFICIENT_BALANCE)
            states[str(request)] = RequestState(str(request), request.kind, RequestStatus.FAILED, error=error)
    return states


@pytest.fixture
def both(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[..., tuple[Exchange, Exchange, bool]]]:
    """Sends a request the short way and Flask's way; what came back, and whether the short way recognised it."""
    monkeypatch.setattr(gate_coupons, "issue", issue)
    monkeypatch.setattr(stock, "reserve_many", reserve_many)
    monkeypatch.setattr(stock, "claim_idempotency_keys", lambda _gate, claims: [stock.KeyUse.FIRST] * len(claims))
    monkeypatch.setattr(outbox, "find", find)
    monkeypatch.setattr("web.current.add_refusals", lambda _gate, _counts: None)
    monkeypatch.setattr(engine_requests, "_recorded_states", recorded_states)
    monkeypatch.setattr(engine_requests, "_has_newer_epoch", lambda *_: False)
    shown = [ProductView(1, "제주 감귤", 100, 5, "ACTIVE")]
    monkeypatch.setattr(product_offers, "list_products", lambda _engine: shown)
    monkeypatch.setattr(popularity, "popular_products", lambda _engine: [PopularProduct(1, "감귤", 3)])
    gate = SimpleNamespace(lanes=4, request_key=lambda: KEY, client=None)
    engine: Any = SimpleNamespace(gate=gate, ledger=None, bell=SimpleNamespace(ring=lambda _lane: True))
    recognised: list[bool] = []
    recognise = ShortWay.recognise
    by_views = [False]

    def noted(self: ShortWay, asked: Any) -> Any:
        if by_views[0]:
            return None
        found = recognise(self, asked)
        recognised.append(found is not None)
        return found

    monkeypatch.setattr(ShortWay, "recognise", noted)
    loop = asyncio.new_event_loop()
    monkeypatch.setattr(web_limits, "take_turn", lambda _gate, _limits: 0)
    authenticator = Authenticator(FixedKeys([key_of_secret(SECRET)])) if getattr(request, "param", False) else None
    door = Door(create_app(engine, authenticator, LIMITS))

    def send(*request: Any) -> tuple[Exchange, Exchange, bool]:
        by_views[0] = False
        COUNTED.clear()
        short = loop.run_until_complete(exchange(door, *request))
        counted = list(COUNTED)
        by_views[0] = True
        COUNTED.clear()
        long = loop.run_until_complete(exchange(door, *request))
        assert counted == COUNTED
        return short, long, recognised.pop()

    yield send
    door.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def exchange(
    door: Door, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> Exchange:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": headers,
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 5),
    }
    await asyncio.create_task(door(scope, receive, send))
    start, content = sent
    return start["status"], sorted(start["headers"]), content["body"]


ids = st.one_of(
    st.integers(1, 30).map(str),
    st.sampled_from(
        ["0", "-1", "99", "1.0", "1e3", "01", "x", "", " 1", "1 ", "９", str(LARGEST), str(LARGEST + 1), "9" * 30]
    ),
)
spaces = st.sampled_from(["", " ", "\n", "\t", " \r\n ", "\v"])
values = st.one_of(ids, st.sampled_from(["true", "null", '"7"', "[7]", "{}", "NaN", "7,", "7}"]))
user_bodies = st.builds(
    lambda a, name, b, value, c, more, d: f'{a}{{{b}"{name}"{c}:{value}{more}}}{d}',
    spaces,
    st.sampled_from(["userId", "userId", "userId", "UserId", "user_id", "couponId", "userId\\u0000", "\\u0075serId"]),
    spaces,
    values,
    spaces,
    st.sampled_from(["", "", "", ',"x":1', ',"userId":8', ","]),
    spaces,
)
lines = st.lists(
    st.builds(lambda product, quantity: f'{{"productId":{product},"quantity":{quantity}}}', ids, values), max_size=3
)
order_bodies = st.builds(
    lambda user, items, coupon: f'{{"userId":{user},"orderItems":[{",".join(items)}]{coupon}}}',
    ids,
    lines,
    st.sampled_from(["", ',"userCouponId":4', ',"userCouponId":null', ',"userCouponId":0', ',"more":1']),
)
bodies = st.one_of(user_bodies, order_bodies, st.sampled_from(["", "{", "[]", "7", '"userId"', "\ufeff{}", "null"]))
request_ids = st.one_of(
    st.builds(
        lambda lane, number, kind: f"{lane}.1.{number}.{NONCES[kind]}",
        st.integers(0, 6),
        st.integers(1, 20),
        st.sampled_from(list(RequestKind)),
    ),
    st.sampled_from(["x", "0.1.1.c0", "a" * 300, "0.1.1." + NONCES[RequestKind.ORDER][:-1] + "!", "한글", ".."]),
)
paths = st.one_of(
    ids.map(lambda coupon: f"/api/v1/coupons/{coupon}/issue"),
    request_ids.map(lambda request: f"/api/v1/requests/{request}"),
    st.sampled_from(
        [
            "/api/v1/orders",
            "/api/v1/products",
            "/api/v1/products/popular",
            "/api/v1/products/",
            "/api/v1//orders",
            "/healthz",
        ]
    ),
)
odd_headers = st.sampled_from(
    [
        (b"idempotency-key", b"k1"),
        (b"idempotency-key", b"k1"),
        (b"idempotency-key", b""),
        (b"idempotency-key", b"a b"),
        (b"idempotency-key", b"k" * 129),
        (b"idempotency-key", "열쇠".encode()),
        (b"prefer", b"wait=0"),
        (b"prefer", b"respond-async"),
        (b"accept", b"text/html"),
        (b"accept-language", b"en"),
        (b"accept-language", b"de, en;q=0.5, ko;q=0.7"),
        (b"authorization", b"Bearer x"),
        (b"transfer-encoding", b"chunked"),
        (b"content-type", b"text/plain"),
        (b"x-anything", b"1"),
        (b"x-forwarded-for", b"198.51.100.7"),
        (b"x-forwarded-for", b"203.0.113.9, 2001:db8::1 "),
        (b"x-forwarded-for", b"\xff"),
    ]
)
media_types = st.sampled_from(
    [
        *[b"application/json"] * 6,
        b"application/json; charset=utf-8",
        b"application/json; charset=latin-1",
        b"APPLICATION/JSON",
        b"text/json",
        b"",
    ]
)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[str, str, bytes, list[tuple[bytes, bytes]], bytes]:
    """Requests near the hot ones: most are right in most of their parts."""
    path = draw(paths)
    usual = "POST" if path.endswith(("issue", "orders")) else "GET"
    method = draw(st.sampled_from([usual] * 8 + ["POST", "GET", "PUT", "HEAD"]))
    body = draw(bodies).encode() if method in ("POST", "PUT") else b""
    headers = [(b"host", b"localhost")]
    if body or draw(st.booleans()):
        headers.append((b"content-type", draw(media_types)))
        length = draw(st.sampled_from([len(body)] * 8 + [len(body) + 1, 70_000]))
        if length or draw(st.booleans()):
            headers.append((b"content-length", b"%d" % length))
    headers += draw(st.lists(odd_headers, max_size=2) if draw(st.booleans()) else st.just([]))
    query = draw(st.sampled_from([b""] * 8 + [b"a=1", b"limit=3"]))
    return method, path, query, headers, body


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=exchanges())
def test_both_ways_answer_with_the_same_bytes(
    both: Callable[..., tuple[Exchange, Exchange, bool]], request: tuple[Any, ...]
) -> None:
    short, long, _ = both(*request)
    assert short == long


JSON = [(b"host", b"localhost"), (b"content-type", b"application/json")]


def post(path: str, body: bytes, *headers: tuple[bytes, bytes]) -> tuple[Any, ...]:
    return ("POST", path, b"", [*JSON, (b"content-length", b"%d" % len(body)), *headers], body)


def get(path: str) -> tuple[Any, ...]:
    return ("GET", path, b"", [(b"host", b"localhost"), (b"accept", b"*/*")], b"")


PLAIN = [
    *(post("/api/v1/coupons/7/issue", b'{"userId": %d}' % user) for user in (*range(1, 12), 99, LARGEST)),
    post("/api/v1/coupons/7/issue", b'{"userId":9}', (b"idempotency-key", b"k1")),
    *(
        post("/api/v1/orders", b'{"userId":%d,"orderItems":[{"productId":1,"quantity":2}]}' % user)
        for user in range(1, 6)
    ),
    *(get(f"/api/v1/requests/0.1.{number}.{NONCES[kind]}") for number in range(1, 10) for kind in RequestKind),
    get("/api/v1/requests/unknown"),
    get("/api/v1/products"),
    get("/api/v1/products/popular"),
]


@pytest.mark.parametrize("request_", PLAIN, ids=lambda request: " ".join([*request[:2], request[4].decode()]))
def test_a_plain_hot_request_goes_the_short_way_and_is_answered_as_the_views_do(
    both: Callable[..., tuple[Exchange, Exchange, bool]], request_: tuple[Any, ...]
) -> None:
    short, long, recognised = both(*request_)
    assert recognised
    assert short == long


SUBMISSIONS = [
    ("/api/v1/coupons/7/issue", b'{"userId": 7}'),
    ("/api/v1/orders", b'{"userId":7,"orderItems":[{"productId":1,"quantity":2}]}'),
]


@pytest.mark.parametrize("both", [True], indirect=True, ids=["with tokens"])
@pytest.mark.parametrize(("path", "body"), SUBMISSIONS, ids=["issue", "order"])
@pytest.mark.parametrize("is_admin", [False, True])
def test_both_ways_count_a_submission_against_its_caller_and_their_address(
    both: Callable[..., tuple[Exchange, Exchange, bool]], path: str, body: bytes, is_admin: bool
) -> None:
    token = bearer("8", role="admin") if is_admin else bearer("7")
    headers = [(b"authorization", token.encode()), (b"x-forwarded-for", b"203.0.113.9, 198.51.100.7")]
    short, long, recognised = both(*post(path, body, *headers))
    assert recognised
    assert short == long
    user = () if is_admin else (("user:7", 600),)
    assert [(*user, ("address:198.51.100.7", 50))] == COUNTED


@pytest.mark.parametrize(
    ("path", "body", "seconds"), [(*SUBMISSIONS[0], b"2"), (*SUBMISSIONS[1], b"1")], ids=["issue", "order"]
)
def test_who_has_had_all_their_turns_is_told_when_to_come_again(
    both: Callable[..., tuple[Exchange, Exchange, bool]], path: str, body: bytes, seconds: bytes
) -> None:
    body = body.replace(b"7", b"1" if "coupons" in path else b"3", 1)
    short, long, recognised = both(*post(path, body))
    assert recognised
    assert short == long
    assert short[0] == 429
    assert (b"retry-after", seconds) in short[1]
    assert json.loads(short[2])["code"] == "TOO_MANY_REQUESTS"


def test_a_way_that_counts_otherwise_is_noticed(
    both: Callable[..., tuple[Exchange, Exchange, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(ShortWay, "_limits_of", lambda *_call: ())
    with pytest.raises(AssertionError, match="address"):
        both(*post("/api/v1/coupons/7/issue", b'{"userId": 9}'))


def test_a_way_that_answers_otherwise_is_noticed(
    both: Callable[..., tuple[Exchange, Exchange, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr("web.short_way.issue_submitted", lambda issued: {"requestId": issued.request_id})
    short, long, _ = both(*post("/api/v1/coupons/7/issue", b'{"userId": 9}'))
    assert short[0] == long[0] == 202
    assert short != long
    assert json.loads(short[2]).keys() < json.loads(long[2]).keys()
