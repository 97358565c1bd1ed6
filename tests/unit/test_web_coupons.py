"""Asking for a coupon and looking at one's own, with a stub in the engine's place."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from engine.errors import GateUnavailable, LedgerUnavailable
from engine.flow import requests
from engine.ledger import coupons as ledger_coupons
from engine.ledger.coupons import UserCoupon
from engine.outcomes import Issued, Refusal, Refused, RequestKind, RequestState, RequestStatus
from engine.shop import issuance
from web.app import create_app

ISSUE = "/api/v1/coupons/7/issue"
LARGEST = 2**53 - 1
RESULT = {"userCouponId": 3, "couponId": 7, "userId": 5, "sequence": 1, "issuedAt": datetime(2030, 1, 1, tzinfo=UTC)}


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace(ledger="the ledger")
    return create_app(engine).test_client()


@pytest.fixture
def issued(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every call of the engine; it grants all of them."""
    calls: list[dict[str, Any]] = []

    def issue_coupon(_engine: Any, **call: Any) -> Issued:
        calls.append(call)
        return Issued("0.1.1.c0", call["coupon_id"], call["user_id"], 1)

    monkeypatch.setattr(issuance, "issue_coupon", issue_coupon)
    return calls


def answer_with(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    """Make the engine answer so, or raise so."""

    def issue_coupon(_engine: Any, **_call: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(issuance, "issue_coupon", issue_coupon)


def end_waits_with(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> list[tuple[str, float]]:
    """Make every wait end so; who waited, and how long at most."""
    waits: list[tuple[str, float]] = []

    def wait_for_request(_engine: Any, request_id: str, timeout_seconds: float) -> Any:
        waits.append((request_id, timeout_seconds))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(requests, "wait_for_request", wait_for_request)
    return waits


def post(client: FlaskClient, body: str | bytes, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(ISSUE, data=body, headers={"Content-Type": "application/json", **named})


def test_a_granted_coupon_is_answered_with_the_place_to_ask(client: FlaskClient, issued: list[dict[str, Any]]) -> None:
    response = post(client, '{"userId":5}')
    assert response.status_code == 202
    assert response.json == {
        "requestId": "0.1.1.c0",
        "kind": "coupon_issue",
        "status": "PENDING",
        "couponId": 7,
        "userId": 5,
        "sequence": 1,
    }
    assert response.headers["Location"] == "/api/v1/requests/0.1.1.c0"
    assert response.headers["Retry-After"] == "1"
    assert "Preference-Applied" not in response.headers
    assert issued == [{"coupon_id": 7, "user_id": 5, "idempotency_key": None, "limits": ()}]


def test_the_largest_ids_come_through_exactly(client: FlaskClient, issued: list[dict[str, Any]]) -> None:
    response = client.post(f"/api/v1/coupons/{LARGEST}/issue", json={"userId": LARGEST})
    assert response.status_code == 202
    assert issued == [{"coupon_id": LARGEST, "user_id": LARGEST, "idempotency_key": None, "limits": ()}]
    assert f'"couponId":{LARGEST},"userId":{LARGEST}' in response.text


BAD_BODIES = [
    (" ", "body"),
    ("null", "body"),
    ("[]", "body"),
    ("1", "body"),
    ('"userId"', "body"),
    ("{}", "userId"),
    ('{"userId":0}', "userId"),
    ('{"userId":-1}', "userId"),
    ('{"userId":1.0}', "userId"),
    ('{"userId":1e0}', "userId"),
    ('{"userId":1.5}', "userId"),
    ('{"userId":true}', "userId"),
    ('{"userId":null}', "userId"),
    ('{"userId":"1"}', "userId"),
    ('{"userId":[1]}', "userId"),
    ('{"userId":NaN}', "body"),
    ('{"userId":Infinity}', "body"),
    (f'{{"userId":{LARGEST + 1}}}', "userId"),
    (f'{{"userId":{"9" * 5000}}}', "userId"),
    (f'{{"userId":-{"9" * 5000}}}', "userId"),
    ('{"userId":1,"coupon":2}', "coupon"),
    ('{"user_id":1}', "userId"),
    ('{"userId":1,"userId":1}', "userId"),
    ('{"userId":1,"x":"\\u0000"}', "body"),
    ('{"userId":1,"x":"\\ud800"}', "body"),
    ('{"userId":1', "body"),
    ("[" * 60_000, "body"),
    ('{"a":' * 12_000, "body"),
    (b'{"userId":1,"x":"\xff"}', "body"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES)
def test_a_malformed_body_is_refused_by_the_name_of_its_member_and_changes_nothing(
    client: FlaskClient, issued: list[dict[str, Any]], body: str | bytes, field: str
) -> None:
    response = post(client, body)
    assert response.status_code == 400
    assert response.mimetype == "application/problem+json"
    problem = json.loads(response.text)
    assert (problem["code"], problem["message"]) == ("INVALID_REQUEST", "유효하지 않은 요청")
    assert field in [error["field"] for error in problem["errors"]]
    assert all(error["reason"] for error in problem["errors"])
    assert issued == []


def test_of_very_many_wrong_members_only_some_are_told_back(client: FlaskClient, issued: list[dict[str, Any]]) -> None:
    body = json.dumps({"userId": 1, "x" * 1000: 1} | {f"x{number}": 1 for number in range(2000)})
    problem = json.loads(post(client, body).text)
    assert len(problem["errors"]) == 20
    assert max(len(error["field"]) for error in problem["errors"]) == 100
    assert issued == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ("Application/JSON;charset=UTF-8", 202),
        ("", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/problem+json", 415),
        ("application/json; charset=utf-16", 415),
        ("application/jsonp", 415),
    ],
)
def test_only_json_in_utf_8_is_read(
    client: FlaskClient, issued: list[dict[str, Any]], content_type: str, status: int
) -> None:
    response = post(client, '{"userId":5}', Content_Type=content_type)
    assert response.status_code == status
    assert len(issued) == (status == 202)
    if status != 202:
        assert json.loads(response.text)["errors"][0]["field"] == "Content-Type"


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 202), (64 * 1024 + 1, 413)])
def test_a_body_of_64_kib_is_read_and_a_longer_one_is_not(
    client: FlaskClient, issued: list[dict[str, Any]], size: int, status: int
) -> None:
    assert post(client, '{"userId":5}'.ljust(size)).status_code == status
    assert len(issued) == (status == 202)


@pytest.mark.parametrize("extra", [{}, {"Content-Length": "12"}])
def test_a_chunked_body_is_refused_instead_of_cut_off(
    client: FlaskClient, issued: list[dict[str, Any]], extra: dict[str, str]
) -> None:
    response = client.post(
        ISSUE,
        input_stream=io.BytesIO(b'{"userId":5}'),
        headers={"Content-Type": "application/json", "Transfer-Encoding": "chunked", **extra},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert response.status_code == 411
    assert json.loads(response.text)["code"] == "INVALID_REQUEST"
    assert issued == []


@pytest.mark.parametrize(("sent", "promised"), [(b"", 0), (b"", 12), (b'{"userId":5}', 50)])
@pytest.mark.parametrize("terminated", [True, False])
def test_a_body_that_is_empty_or_ends_early_is_refused(
    client: FlaskClient, issued: list[dict[str, Any]], sent: bytes, promised: int, terminated: bool
) -> None:
    response = client.post(
        ISSUE,
        input_stream=io.BytesIO(sent),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": str(promised), "wsgi.input_terminated": terminated},
    )
    assert response.status_code == 400
    assert issued == []


@pytest.mark.parametrize(
    "coupon_id",
    [
        "0",
        "-1",
        "+7",
        "007",
        "1.0",
        "1e3",
        "0x10",
        "abc",
        "%207",
        "7%20",
        "%D9%A3",
        "null",
        "9007199254740992",
        "9" * 5000,
        "7%00",
        "7%0A",
        "%EF%BC%97",
    ],
)
def test_a_coupon_id_that_is_no_positive_integer_is_refused(
    client: FlaskClient, issued: list[dict[str, Any]], coupon_id: str
) -> None:
    response = client.post(f"/api/v1/coupons/{coupon_id}/issue", json={"userId": 5})
    assert response.status_code == 400
    problem = json.loads(response.text)
    assert problem["code"] == "INVALID_REQUEST"
    assert problem["errors"][0]["field"] == "couponId"
    assert issued == []


@pytest.mark.parametrize(
    "user_id", ["0", "-1", "+7", "007", "1.0", "abc", "%207", "%D9%A3", "9007199254740992", "9" * 5000]
)
def test_a_user_id_in_a_path_that_is_no_positive_integer_has_a_code_of_its_own(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, user_id: str
) -> None:
    monkeypatch.setattr(ledger_coupons, "available_coupons_of_user", pytest.fail)
    response = client.get(f"/api/v1/users/{user_id}/coupons")
    assert response.status_code == 400
    problem = json.loads(response.text)
    assert (problem["code"], problem["message"]) == ("INVALID_USER_ID", "유효하지 않은 사용자 ID")


@pytest.mark.parametrize("key", ["k", "k" * 128, '!~"{},=', "550e8400-e29b-41d4-a716-446655440000"])
def test_an_idempotency_key_reaches_the_engine_as_it_is(
    client: FlaskClient, issued: list[dict[str, Any]], key: str
) -> None:
    assert post(client, '{"userId":5}', Idempotency_Key=key).status_code == 202
    assert issued[0]["idempotency_key"] == key


@pytest.mark.parametrize("key", ["", "k" * 129, "a b", "a\tb", "é", "\x7f"])
def test_an_idempotency_key_that_is_not_1_to_128_visible_ascii_is_refused(
    client: FlaskClient, issued: list[dict[str, Any]], key: str
) -> None:
    response = post(client, '{"userId":5}', Idempotency_Key=key)
    assert response.status_code == 400
    assert json.loads(response.text)["errors"][0]["field"] == "Idempotency-Key"
    assert issued == []


@pytest.mark.parametrize(
    ("refusal", "status", "message"),
    [
        (Refused(Refusal.COUPON_NOT_FOUND), 404, "존재하지 않는 쿠폰입니다"),
        (Refused(Refusal.COUPON_ALREADY_ISSUED), 409, "이미 발급받은 쿠폰입니다"),
        (Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"}), 409, "쿠폰 발급이 마감되었습니다"),
        (Refused(Refusal.COUPON_CLOSED, {"reason": "NOT_STARTED"}), 409, "쿠폰 발급이 마감되었습니다"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_contract(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, refusal: Refused, status: int, message: str
) -> None:
    answer_with(monkeypatch, refusal)
    waits = end_waits_with(monkeypatch, AssertionError("a refusal is final"))
    response = post(client, '{"userId":5}', Prefer="wait=5")
    problem = json.loads(response.text)
    assert (response.status_code, problem["status"]) == (status, status)
    assert (problem["code"], problem["message"]) == (refusal.code, message)
    assert problem.get("reason") == (refusal.detail or {}).get("reason")
    assert waits == []


def test_a_gate_that_cannot_decide_is_busy_and_says_when_to_come_back(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, GateUnavailable("sc:{0}:lane is gone", retry_after_seconds=3))
    response = post(client, '{"userId":5}')
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "3"
    assert json.loads(response.text)["message"] == "잠시 후 다시 시도해주세요"
    assert "sc:" not in response.text


def test_who_waits_gets_the_success_body(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, issued: list[dict[str, Any]]
) -> None:
    done = RequestState("0.1.1.c0", RequestKind.COUPON_ISSUE, RequestStatus.COMPLETED, result=RESULT)
    waits = end_waits_with(monkeypatch, done)
    response = post(client, '{"userId":5}', Prefer="wait=60")
    assert response.status_code == 201
    assert response.json == {**RESULT, "issuedAt": "2030-01-01T00:00:00Z"}
    assert response.headers["Preference-Applied"] == "wait=10"
    assert response.headers["Location"] == "/api/v1/requests/0.1.1.c0"
    assert waits == [("0.1.1.c0", 10)]
    assert len(issued) == 1


def test_who_waits_for_a_request_that_fails_gets_the_failure(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, issued: list[dict[str, Any]]
) -> None:
    failed = RequestState(
        "0.1.1.c0", RequestKind.COUPON_ISSUE, RequestStatus.FAILED, error=Refused(Refusal.COUPON_NOT_USABLE)
    )
    end_waits_with(monkeypatch, failed)
    response = post(client, '{"userId":5}', Prefer="wait=5")
    assert response.status_code == 409
    assert json.loads(response.text)["code"] == "COUPON_NOT_USABLE"
    assert len(issued) == 1


@pytest.mark.parametrize(
    "end",
    [
        RequestState("0.1.1.c0", RequestKind.COUPON_ISSUE, RequestStatus.PENDING),
        Refused(Refusal.REQUEST_NOT_FOUND),
        GateUnavailable("away"),
        LedgerUnavailable("away"),
    ],
)
def test_whatever_ends_the_wait_early_the_client_gets_the_request_id_of_a_granted_coupon(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, issued: list[dict[str, Any]], end: Any
) -> None:
    end_waits_with(monkeypatch, end)
    response = post(client, '{"userId":5}', Prefer="wait=5")
    assert response.status_code == 202
    assert response.json is not None
    assert response.json["requestId"] == "0.1.1.c0"
    assert response.headers["Retry-After"] == "1"
    assert len(issued) == 1


def test_the_coupons_of_a_user_are_listed(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [UserCoupon(3, 7, "봄", 1000, datetime(2030, 1, 1, 12, 30, tzinfo=UTC))]
    asked: list[Any] = []

    def available_coupons_of_user(*call: Any) -> list[UserCoupon]:
        asked.append(call)
        return held

    monkeypatch.setattr(ledger_coupons, "available_coupons_of_user", available_coupons_of_user)
    response = client.get("/api/v1/users/5/coupons?unknown=1")
    assert response.status_code == 200
    assert response.json == {
        "userCoupons": [
            {"id": 3, "couponId": 7, "name": "봄", "discountAmount": 1000, "issuedAt": "2030-01-01T12:30:00Z"}
        ]
    }
    assert asked == [("the ledger", 5)]


def test_a_user_without_coupons_is_told_so(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_coupons, "available_coupons_of_user", lambda *_call: [])
    response = client.get("/api/v1/users/5/coupons")
    assert response.json == {"userCoupons": [], "message": "보유한 쿠폰이 없습니다"}


def test_a_database_failure_is_temporary(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_call: Any) -> Any:
        raise LedgerUnavailable("OperationalError: SELECT went wrong")

    monkeypatch.setattr(ledger_coupons, "available_coupons_of_user", fail)
    response = client.get("/api/v1/users/5/coupons")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    problem = json.loads(response.text)
    assert (problem["code"], problem["message"]) == ("TEMPORARY_ERROR", "일시적인 오류가 발생했습니다")
    assert "SELECT" not in response.text
