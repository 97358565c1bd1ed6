"""Offering and changing coupons."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.errors import GateUnavailable
from engine.outcomes import Refusal, Refused
from engine.shop import coupon_offers
from engine.shop.coupon_offers import UNCHANGED, CouponChange, CouponOverview, NewCoupon, WindowReversed
from web.app import create_app

COUPONS = "/api/v1/admin/coupons"
OVERVIEW = CouponOverview(
    id=7,
    name="봄",
    discount_amount=1000,
    total_quantity=50,
    issued=10,
    remaining=40,
    pending=2,
    status="ACTIVE",
    starts_at=None,
    ends_at=datetime(2031, 1, 1, tzinfo=UTC),
    created_at=datetime(2030, 1, 1, tzinfo=UTC),
)
SHOWN = {
    "id": 7,
    "name": "봄",
    "discountAmount": 1000,
    "totalQuantity": 50,
    "issued": 10,
    "remaining": 40,
    "pending": 2,
    "status": "ACTIVE",
    "startsAt": None,
    "endsAt": "2031-01-01T00:00:00Z",
    "createdAt": "2030-01-01T00:00:00Z",
}
NEW = {"name": "봄", "discountAmount": 1000, "totalQuantity": 50}


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace()
    return create_app(engine).test_client()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the offers was asked to do; it does all of it."""
    calls: list[Any] = []

    def record(_engine: Any, *call: Any) -> CouponOverview:
        calls.append(call)
        return OVERVIEW

    for name in ("create_coupon", "change_coupon", "coupon_overview"):
        monkeypatch.setattr(coupon_offers, name, record)
    return calls


def test_a_new_coupon_is_offered_as_described(client: FlaskClient, asked: list[Any]) -> None:
    body = {**NEW, "name": "  봄 ", "startsAt": "2030-01-01T09:00:00+09:00", "endsAt": None, "status": "INACTIVE"}
    response = client.post(COUPONS, json=body)
    assert response.status_code == 201
    assert response.json == SHOWN
    assert response.headers["Location"] == "/api/v1/admin/coupons/7"
    assert asked == [(NewCoupon("봄", 1000, 50, datetime(2030, 1, 1, tzinfo=UTC), None, "INACTIVE"), None)]


def test_a_new_coupon_is_active_and_without_limits_unless_told_otherwise(client: FlaskClient, asked: list[Any]) -> None:
    assert client.post(COUPONS, json=NEW).status_code == 201
    assert asked == [(NewCoupon("봄", 1000, 50, None, None, "ACTIVE"), None)]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", ""),
        ("name", " \t"),
        ("name", "x" * 101),
        ("name", 1),
        ("name", None),
        ("discountAmount", 0),
        ("discountAmount", -1),
        ("discountAmount", 100_000_001),
        ("discountAmount", 1.0),
        ("discountAmount", True),
        ("discountAmount", "1000"),
        ("totalQuantity", 0),
        ("totalQuantity", 10_000_001),
        ("totalQuantity", 10**30),
        ("totalQuantity", None),
        ("status", "active"),
        ("status", "CLOSED"),
        ("status", None),
        ("startsAt", 1893456000),
        ("startsAt", "2030-01-01T00:00:00"),
        ("startsAt", "2030-02-30T00:00:00Z"),
        ("endsAt", ""),
        ("id", 5),
        ("discount_amount", 5),
    ],
)
def test_a_coupon_with_a_wrong_member_is_refused_by_its_name(
    client: FlaskClient, asked: list[Any], member: str, value: Any
) -> None:
    response = client.post(COUPONS, json={**NEW, member: value})
    assert response.status_code == 400
    problem = json.loads(response.text)
    assert problem["code"] == "INVALID_REQUEST"
    assert [error["field"] for error in problem["errors"]] == [member]
    assert asked == []


@pytest.mark.parametrize("member", list(NEW))
def test_a_coupon_lacking_a_member_is_refused_by_its_name(client: FlaskClient, asked: list[Any], member: str) -> None:
    response = client.post(COUPONS, json={name: value for name, value in NEW.items() if name != member})
    assert response.status_code == 400
    assert [error["field"] for error in json.loads(response.text)["errors"]] == [member]
    assert asked == []


def test_the_limits_themselves_are_allowed(client: FlaskClient, asked: list[Any]) -> None:
    body = {"name": "x" * 100, "discountAmount": 100_000_000, "totalQuantity": 10_000_000}
    assert client.post(COUPONS, json=body).status_code == 201
    assert len(asked) == 1


@pytest.mark.parametrize("ends_at", ["2030-01-01T00:00:00Z", "2030-01-01T08:59:59+09:00"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_coupon_that_ends_before_it_starts_is_refused(
    client: FlaskClient, asked: list[Any], method: str, ends_at: str
) -> None:
    window = {"startsAt": "2030-01-01T00:00:00Z", "endsAt": ends_at}
    url, body = (COUPONS, {**NEW, **window}) if method == "POST" else (f"{COUPONS}/7", window)
    response = client.open(url, method=method, json=body)
    assert response.status_code == 400
    assert json.loads(response.text)["errors"] == [{"field": "endsAt", "reason": "must be after startsAt"}]
    assert asked == []


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ({"name": " 여름 "}, CouponChange(name="여름")),
        ({"status": "INACTIVE"}, CouponChange(status="INACTIVE")),
        ({"addQuantity": 5}, CouponChange(add_quantity=5)),
        ({"startsAt": None}, CouponChange(starts_at=None, ends_at=UNCHANGED)),
        ({"endsAt": "2030-01-01T00:00:00Z"}, CouponChange(ends_at=datetime(2030, 1, 1, tzinfo=UTC))),
    ],
)
def test_a_change_touches_only_what_was_sent(
    client: FlaskClient, asked: list[Any], body: dict[str, Any], change: CouponChange
) -> None:
    response = client.patch(f"{COUPONS}/7", json=body)
    assert response.status_code == 200
    assert response.json == SHOWN
    assert asked == [(7, change)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"name": None}, "name"),
        ({"status": None}, "status"),
        ({"addQuantity": None}, "addQuantity"),
        ({"addQuantity": 0}, "addQuantity"),
        ({"addQuantity": -5}, "addQuantity"),
        ({"addQuantity": 10_000_001}, "addQuantity"),
        ({"totalQuantity": 5}, "totalQuantity"),
        ({"discountAmount": 5}, "discountAmount"),
    ],
)
def test_a_malformed_change_is_refused(client: FlaskClient, asked: list[Any], body: dict[str, Any], field: str) -> None:
    response = client.patch(f"{COUPONS}/7", json=body)
    assert response.status_code == 400
    assert [error["field"] for error in json.loads(response.text)["errors"]] == [field]
    assert asked == []


def test_a_change_that_turns_the_recorded_window_around_is_refused(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reverse(*_call: Any) -> Any:
        raise WindowReversed("endsAt must be after startsAt")

    monkeypatch.setattr(coupon_offers, "change_coupon", reverse)
    response = client.patch(f"{COUPONS}/7", json={"endsAt": "2030-01-01T00:00:00Z"})
    assert response.status_code == 400
    assert json.loads(response.text)["errors"][0]["field"] == "endsAt"


def test_a_coupon_is_shown_with_its_live_numbers(client: FlaskClient, asked: list[Any]) -> None:
    response = client.get(f"{COUPONS}/7")
    assert response.status_code == 200
    assert response.json == SHOWN
    assert asked == [(7,)]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_an_unknown_coupon_is_not_found(client: FlaskClient, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    for name in ("change_coupon", "coupon_overview"):
        monkeypatch.setattr(coupon_offers, name, lambda *_call: Refused(Refusal.COUPON_NOT_FOUND))
    response = client.open(f"{COUPONS}/7", method=method, json={"addQuantity": 1})
    assert response.status_code == 404
    assert json.loads(response.text)["code"] == "COUPON_NOT_FOUND"


def test_a_coupon_that_cannot_be_made_live_now_is_busy(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_call: Any) -> Any:
        raise GateUnavailable("away")

    monkeypatch.setattr(coupon_offers, "create_coupon", away)
    assert client.post(COUPONS, json=NEW).status_code == 503
