"""Asking what became of a request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.errors import GateUnavailable, LedgerUnavailable
from engine.flow import requests
from engine.outcomes import Refusal, Refused, RequestKind, RequestState, RequestStatus
from web.app import create_app
from web.current import EXTENSION, Serving
from web.preferences import WaitingRoom

PENDING = RequestState("0.1.1.c0", RequestKind.COUPON_ISSUE, RequestStatus.PENDING)


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace()
    return create_app(engine).test_client()


def answer_with(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> list[tuple[Any, ...]]:
    """Make the engine answer so at once, or after a wait; how it was asked."""
    asked: list[tuple[Any, ...]] = []

    def ask(_engine: Any, *call: Any) -> Any:
        asked.append(call)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(requests, "request_state", ask)
    monkeypatch.setattr(requests, "wait_for_request", ask)
    return asked


def test_a_pending_request_says_when_to_ask_again_and_is_not_cached(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer_with(monkeypatch, PENDING)
    response = client.get("/api/v1/requests/0.1.1.c0")
    assert response.status_code == 200
    assert response.json == {
        "requestId": "0.1.1.c0",
        "kind": "coupon_issue",
        "status": "PENDING",
        "result": None,
        "error": None,
    }
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Cache-Control"] == "no-store"
    assert asked == [("0.1.1.c0", None)]


def test_a_completed_request_shows_its_result(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"userCouponId": 1, "issuedAt": datetime(2030, 1, 1, tzinfo=UTC)}
    answer_with(monkeypatch, RequestState("x", RequestKind.COUPON_ISSUE, RequestStatus.COMPLETED, result=result))
    response = client.get("/api/v1/requests/x")
    assert response.json is not None
    assert response.json["result"] == {"userCouponId": 1, "issuedAt": "2030-01-01T00:00:00Z"}
    assert "Retry-After" not in response.headers


def test_a_failed_request_shows_code_and_message_only(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    error = Refused(Refusal.OUT_OF_STOCK, {"items": []})
    answer_with(monkeypatch, RequestState("x", RequestKind.ORDER, RequestStatus.FAILED, error=error))
    response = client.get("/api/v1/requests/x")
    assert response.status_code == 200
    assert response.json is not None
    assert response.json["error"] == {"code": "OUT_OF_STOCK", "message": "재고가 부족합니다"}


@pytest.mark.parametrize("request_id", ["x", "%FF%00", "0.1.1." + "c" * 5000, "선착", "..", "'; --"])
def test_an_id_that_we_never_gave_is_not_found(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, request_id: str
) -> None:
    asked = answer_with(monkeypatch, Refused(Refusal.REQUEST_NOT_FOUND))
    response = client.get(f"/api/v1/requests/{request_id}")
    assert response.status_code == 404
    assert json.loads(response.text)["code"] == "REQUEST_NOT_FOUND"
    assert len(asked) == 1


def test_who_prefers_to_wait_waits_and_is_told_how_long(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(monkeypatch, PENDING)
    response = client.get("/api/v1/requests/x", headers={"Prefer": "wait=7"})
    assert response.headers["Preference-Applied"] == "wait=7"
    assert response.headers["Retry-After"] == "1"
    assert asked == [("x", 7, None)]


def test_who_finds_the_waiting_room_full_is_answered_at_once(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer_with(monkeypatch, PENDING)
    room = WaitingRoom(places=1)
    client.application.extensions[EXTENSION] = Serving(client.application.extensions[EXTENSION].engine, room)
    with room.granted("wait=1"):
        response = client.get("/api/v1/requests/x", headers={"Prefer": "wait=7"})
    assert response.status_code == 200
    assert "Preference-Applied" not in response.headers
    assert asked == [("x", None)]


@pytest.mark.parametrize("prefer", [None, "wait=5"])
@pytest.mark.parametrize(
    ("error", "code"), [(GateUnavailable("away"), "BUSY"), (LedgerUnavailable("away"), "TEMPORARY_ERROR")]
)
def test_a_store_that_is_away_is_a_503(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, prefer: str | None, error: Exception, code: str
) -> None:
    answer_with(monkeypatch, error)
    response = client.get("/api/v1/requests/x", headers={"Prefer": prefer} if prefer else {})
    assert response.status_code == 503
    assert json.loads(response.text)["code"] == code
    assert response.headers["Retry-After"] == "1"
