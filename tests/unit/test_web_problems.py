"""Every error is a problem document, and none of them tells what is inside."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from engine.errors import BrokenContract
from engine.outcomes import Refusal, Refused
from engine.shop import issuance
from engine.upkeep import readiness
from web.app import create_app
from web.bounds import MOST_HEADER_CHARACTERS, MOST_URL_CHARACTERS
from web.languages import SENTENCES
from web.outages import OutageLog
from web.problems import PROBLEMS, refused

CONTRACT = {
    "INVALID_REQUEST": (400, "유효하지 않은 요청"),
    "INVALID_USER_ID": (400, "유효하지 않은 사용자 ID"),
    "USER_NOT_FOUND": (404, "사용자를 찾을 수 없습니다"),
    "COUPON_NOT_FOUND": (404, "존재하지 않는 쿠폰입니다"),
    "COUPON_ALREADY_ISSUED": (409, "이미 발급받은 쿠폰입니다"),
    "COUPON_CLOSED": (409, "쿠폰 발급이 마감되었습니다"),
    "PRODUCT_NOT_FOUND": (404, "존재하지 않는 상품입니다"),
    "OUT_OF_STOCK": (409, "재고가 부족합니다"),
    "INSUFFICIENT_BALANCE": (409, "잔액이 부족합니다"),
    "COUPON_NOT_USABLE": (409, "사용할 수 없는 쿠폰입니다"),
    "ORDER_NOT_FOUND": (404, "존재하지 않는 주문입니다"),
    "ORDER_NOT_CANCELLABLE": (409, "취소할 수 없는 주문입니다"),
    "REQUEST_NOT_FOUND": (404, "존재하지 않는 요청입니다"),
    "IDEMPOTENCY_KEY_REUSED": (422, "같은 멱등키로 다른 요청을 보낼 수 없습니다"),
    "UNAUTHENTICATED": (401, "인증이 필요합니다"),
    "FORBIDDEN": (403, "권한이 없습니다"),
    "USER_EXISTS": (409, "이미 존재하는 사용자입니다"),
    "TOO_MANY_REQUESTS": (429, "요청이 너무 많습니다"),
    "BUSY": (503, "잠시 후 다시 시도해주세요"),
    "TEMPORARY_ERROR": (503, "일시적인 오류가 발생했습니다"),
}


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace()
    return create_app(engine).test_client()


def problem_of(response: TestResponse) -> dict[str, Any]:
    assert response.mimetype == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    problem: dict[str, Any] = json.loads(response.text)
    assert {"type", "title", "status", "code", "message"} <= problem.keys()
    assert problem["status"] == response.status_code
    return problem


@pytest.mark.parametrize("code", CONTRACT)
def test_each_code_has_the_status_and_the_words_of_the_contract(code: str) -> None:
    assert (PROBLEMS[code].status, SENTENCES[code].ko) == CONTRACT[code]


def test_no_code_of_the_contract_is_missing_and_there_is_no_other() -> None:
    assert set(PROBLEMS) == set(CONTRACT)


@pytest.mark.parametrize("refusal", list(Refusal))
def test_each_refusal_of_the_engine_has_words(client: FlaskClient, refusal: Refusal) -> None:
    with client.application.test_request_context():
        response = refused(Refused(refusal, {"reason": "why"}))
    assert response.status_code == CONTRACT[refusal][0]
    assert json.loads(response.get_data())["reason"] == "why"
    assert ("Retry-After" in response.headers) == (response.status_code == 503)


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1", "/api/v1/coupons/7", "/healthz/", "/api/v2/users/1/coupons"])
def test_an_unknown_path_is_a_problem(client: FlaskClient, path: str) -> None:
    problem = problem_of(client.get(path))
    assert (problem["status"], problem["code"]) == (404, "INVALID_REQUEST")
    assert (problem["type"], problem["title"]) == ("about:blank", "Not Found")


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(client: FlaskClient) -> None:
    response = client.delete("/api/v1/coupons/7/issue")
    assert (response.status_code, problem_of(response)["code"]) == (405, "INVALID_REQUEST")
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/api/v1/products"])
def test_a_url_or_headers_of_a_size_that_nobody_needs_are_problems(client: FlaskClient, path: str) -> None:
    query = "x" * (MOST_URL_CHARACTERS - len(path))
    assert client.get(f"{path}?{query}").status_code != 414
    assert problem_of(client.get(f"{path}?{query}x"))["status"] == 414
    assert problem_of(client.get("/" + "x" * MOST_URL_CHARACTERS))["status"] == 414
    for headers in ({"X-Large": "x" * MOST_HEADER_CHARACTERS}, {f"X-{n}": "x" * 200 for n in range(100)}):
        problem = problem_of(client.get(path, headers=headers))
        assert (problem["status"], problem["code"]) == (431, "INVALID_REQUEST")
    assert client.get(path, headers={"X-Large": "x" * (MOST_HEADER_CHARACTERS - 500)}).status_code != 431


@pytest.mark.parametrize("error", [RuntimeError("SELECT secret FROM sc:{0}:lane"), BrokenContract("sc:{0}:lane")])
def test_a_crash_is_logged_and_tells_the_client_nothing(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def crash(*_call: Any, **_members: Any) -> Any:
        raise error

    monkeypatch.setattr(issuance, "issue_coupon", crash)
    with caplog.at_level(logging.ERROR):
        response = client.post("/api/v1/coupons/7/issue", json={"userId": 1})
    problem = problem_of(response)
    assert (problem["status"], problem["code"]) == (500, "TEMPORARY_ERROR")
    assert problem["message"] == "일시적인 오류가 발생했습니다"
    assert not any(secret in response.text for secret in ("secret", "sc:", "Traceback", "Error:"))
    assert "sc:{0}:lane" in caplog.text


def test_what_is_missing_is_named_to_the_client_and_explained_to_the_log(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = {"ledger": "no password for postgres@10.0.0.1", "gate": "sc:{0}:lane"}
    monkeypatch.setattr(readiness, "missing_parts", lambda _engine: {})
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(readiness, "missing_parts", lambda _engine: missing)
    with caplog.at_level(logging.WARNING):
        responses = [client.get("/readyz"), client.get("/readyz")]
    problem = problem_of(responses[0])
    assert (problem["status"], problem["code"], problem["missing"]) == (503, "BUSY", ["gate", "ledger"])
    assert responses[1].headers["Retry-After"] == "1"
    assert "10.0.0.1" not in responses[0].text
    assert caplog.text.count("10.0.0.1") == 1


def test_what_is_missing_before_all_was_there_for_the_first_time_is_no_warning(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readiness, "missing_parts", lambda _engine: {"gate": "lane 0 is not open"})
    with caplog.at_level(logging.INFO):
        assert client.get("/readyz").status_code == 503
    (record,) = [record for record in caplog.records if "lane 0" in record.message]
    assert record.levelno == logging.INFO


def test_an_outage_is_written_down_once_per_part_and_pause(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log = OutageLog(pause_seconds=3600)
        for _ in range(3):
            log.warn("gate", "the gate is away")
            log.warn("ledger", "the ledger is away")
        OutageLog(pause_seconds=0).warn("gate", "the gate is away")
    assert caplog.text.count("the gate is away") == 2
    assert caplog.text.count("the ledger is away") == 1
