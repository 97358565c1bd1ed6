"""The documents about the service, and whether they are true."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import validate

from engine.flow import followups, requests
from engine.gate.gate import LaneState
from engine.gate.popularity import PopularProduct
from engine.ledger import coupons as ledger_coupons
from engine.ledger.console import Parked
from engine.ledger.coupons import UserCoupon
from engine.outcomes import Issued, Refusal, Refused, RequestKind, RequestState, RequestStatus
from engine.shop import coupon_offers, issuance, orders
from engine.shop.coupon_offers import CouponOverview
from engine.upkeep import console, readiness
from engine.upkeep.console import CouponSeen, Look, ProcessSeen, ProductSeen, Winner
from web.app import create_app

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OVERVIEW = CouponOverview(7, "봄", 1000, 50, 10, 40, 2, "ACTIVE", None, NOW, NOW)
LOOK = Look(
    taken_at=NOW,
    gate_answers=True,
    ledger_answers=True,
    decided=12,
    recorded=10,
    lanes=[LaneState(0, True, 1, "r", 12, 1, "key", "r", 2, 40)],
    coupons=[CouponSeen(7, "봄", 50, 10, 40, 2, "ACTIVE")],
    products=[ProductSeen(1, "감귤", 100, 5, "ACTIVE")],
    winners=[Winner("0.1.1.c", 7, 5, 10, durable=False)],
    refusals={"COUPON_CLOSED:SOLD_OUT": 4, "BUSY": 1},
    processes=[ProcessSeen("web", "host:1", 0.2)],
    popular=[PopularProduct(1, "감귤", 3)],
    quarantined=0,
    parked=[Parked("HISTORY", 2, "away")],
)
RESULT = {"userCouponId": 3, "couponId": 7, "userId": 5, "sequence": 1, "issuedAt": NOW}
STATES = {
    "pending": RequestState("pending", RequestKind.COUPON_ISSUE, RequestStatus.PENDING),
    "done": RequestState("done", RequestKind.COUPON_ISSUE, RequestStatus.COMPLETED, result=RESULT),
    "failed": RequestState(
        "failed", RequestKind.COUPON_ISSUE, RequestStatus.FAILED, error=Refused(Refusal.TEMPORARY_ERROR)
    ),
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A service in which user 404 finds nothing, user 409 is too late, nothing is in stock,
    and everybody else gets what they want."""

    def issue_coupon(_engine: Any, *, coupon_id: int, user_id: int, **_rest: Any) -> Issued | Refused:
        if coupon_id == 404:
            return Refused(Refusal.COUPON_NOT_FOUND)
        if user_id == 409:
            return Refused(Refusal.COUPON_CLOSED, {"reason": "SOLD_OUT"})
        return Issued("done", coupon_id, user_id, 1)

    def state(_engine: Any, request_id: str, *_seconds: float) -> RequestState | Refused:
        return STATES.get(request_id, Refused(Refusal.REQUEST_NOT_FOUND))

    def overview(_engine: Any, coupon_id: Any, *_change: Any) -> CouponOverview | Refused:
        return Refused(Refusal.COUPON_NOT_FOUND) if coupon_id == 404 else OVERVIEW

    def place_order(_engine: Any, _ask: Any) -> Refused:
        return Refused(Refusal.OUT_OF_STOCK, {"items": [{"productId": 1, "requested": 2, "available": 1}]})

    def held(_ledger: Any, user_id: int) -> list[UserCoupon]:
        return [] if user_id == 404 else [UserCoupon(3, 7, "봄", 1000, NOW)]

    monkeypatch.setattr(issuance, "issue_coupon", issue_coupon)
    monkeypatch.setattr(orders, "place_order", place_order)
    monkeypatch.setattr(requests, "request_state", state)
    monkeypatch.setattr(requests, "wait_for_request", state)
    monkeypatch.setattr(ledger_coupons, "available_coupons_of_user", held)
    for name in ("create_coupon", "change_coupon", "coupon_overview"):
        monkeypatch.setattr(coupon_offers, name, overview)
    monkeypatch.setattr(readiness, "missing_parts", lambda _engine: {})
    monkeypatch.setattr(console, "look_at", lambda _engine: LOOK)
    monkeypatch.setattr(followups, "requeue_parked", lambda _engine: 3)
    engine: Any = SimpleNamespace(ledger=None)
    return create_app(engine).test_client()


@pytest.fixture
def spec(client: FlaskClient) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(client.get("/openapi.json").text)
    return document


def test_health_and_readiness_answer(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "alive"}
    assert client.get("/readyz").json == {"status": "ready"}


def test_the_openapi_document_is_valid_and_of_version_3_1(spec: dict[str, Any]) -> None:
    validate(spec)
    assert spec["openapi"].startswith("3.1")


def test_the_openapi_document_does_not_depend_on_who_asks_first() -> None:
    engine: Any = SimpleNamespace()
    document = create_app(engine).test_client().get("/openapi.json", headers={"Host": "evil.example"}).text
    assert "evil.example" not in document


NEW_COUPON = {"name": "봄", "discountAmount": 1000, "totalQuantity": 50}
ORDER = {"userId": 5, "orderItems": [{"productId": 1, "quantity": 2}]}
ISSUE = "/api/v1/coupons/{couponId}/issue"
CALLS: list[tuple[str, str, str, Any, dict[str, str], int]] = [
    ("POST", ISSUE, "/api/v1/coupons/7/issue", {"userId": 5}, {}, 202),
    ("POST", ISSUE, "/api/v1/coupons/7/issue", {"userId": 5}, {"Prefer": "wait=1"}, 201),
    ("POST", ISSUE, "/api/v1/coupons/404/issue", {"userId": 5}, {}, 404),
    ("POST", ISSUE, "/api/v1/coupons/7/issue", {"userId": 409}, {}, 409),
    ("POST", ISSUE, "/api/v1/coupons/7/issue", {"userId": 0}, {}, 400),
    ("POST", ISSUE, "/api/v1/coupons/7/issue", None, {}, 415),
    ("POST", ISSUE, "/api/v1/coupons/7/issue", None, {"Content-Type": "application/json"}, 411),
    ("POST", ISSUE, "/api/v1/coupons/7/issue", {"x": "x" * 70_000}, {}, 413),
    ("POST", "/api/v1/orders", "/api/v1/orders", ORDER, {}, 409),
    ("GET", "/api/v1/users/{userId}/coupons", "/api/v1/users/5/coupons", None, {}, 200),
    ("GET", "/api/v1/users/{userId}/coupons", "/api/v1/users/404/coupons", None, {}, 200),
    ("GET", "/api/v1/users/{userId}/coupons", "/api/v1/users/x/coupons", None, {}, 400),
    ("GET", "/api/v1/requests/{requestId}", "/api/v1/requests/pending", None, {}, 200),
    ("GET", "/api/v1/requests/{requestId}", "/api/v1/requests/done", None, {"Prefer": "wait=1"}, 200),
    ("GET", "/api/v1/requests/{requestId}", "/api/v1/requests/failed", None, {}, 200),
    ("GET", "/api/v1/requests/{requestId}", "/api/v1/requests/never", None, {}, 404),
    ("POST", "/api/v1/admin/coupons", "/api/v1/admin/coupons", NEW_COUPON, {}, 201),
    ("POST", "/api/v1/admin/coupons", "/api/v1/admin/coupons", {}, {}, 400),
    ("PATCH", "/api/v1/admin/coupons/{couponId}", "/api/v1/admin/coupons/7", {"addQuantity": 1}, {}, 200),
    ("PATCH", "/api/v1/admin/coupons/{couponId}", "/api/v1/admin/coupons/404", {"addQuantity": 1}, {}, 404),
    ("GET", "/api/v1/admin/coupons/{couponId}", "/api/v1/admin/coupons/7", None, {}, 200),
    ("GET", "/api/v1/admin/coupons/{couponId}", "/api/v1/admin/coupons/x", None, {}, 400),
    ("GET", "/api/v1/admin/console", "/api/v1/admin/console", None, {}, 200),
    ("POST", "/api/v1/admin/followups/requeue", "/api/v1/admin/followups/requeue", None, {}, 200),
    ("POST", "/api/v1/admin/demo/rush", "/api/v1/admin/demo/rush", {"users": 1, "requests": 1, "coupons": 1}, {}, 404),
    ("POST", "/api/v1/admin/demo/fault", "/api/v1/admin/demo/fault", {"fault": "forget"}, {}, 404),
    ("POST", "/api/v1/admin/demo/fault", "/api/v1/admin/demo/fault", {"fault": "anything"}, {}, 404),
    ("GET", "/healthz", "/healthz", None, {}, 200),
    ("GET", "/readyz", "/readyz", None, {}, 200),
]


@pytest.mark.parametrize(("method", "path", "url", "body", "headers", "status"), CALLS)
def test_every_answer_is_as_the_openapi_document_says(
    client: FlaskClient,
    spec: dict[str, Any],
    method: str,
    path: str,
    url: str,
    body: Any,
    headers: dict[str, str],
    status: int,
) -> None:
    response = client.open(url, method=method, json=body, headers=headers)
    assert response.status_code == status
    described = spec["paths"][path][method.lower()]["responses"][str(status)]
    assert_true(spec, described["content"][response.mimetype]["schema"], json.loads(response.text))
    told = {"Location", "Retry-After", "Preference-Applied", "Content-Language", "WWW-Authenticate"} & set(
        response.headers.keys()
    )
    assert told <= described.get("headers", {}).keys()


def assert_true(spec: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """The value has the form that the document's schema describes, and no member besides."""
    closed = closed_schema(schema)
    components = {"schemas": {name: closed_schema(part) for name, part in spec["components"]["schemas"].items()}}
    Draft202012Validator({**closed, "components": components}).validate(value)


def closed_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "additionalProperties": False} if "properties" in schema else schema


def test_an_answer_that_differs_from_the_document_would_be_noticed(spec: dict[str, Any]) -> None:
    schema = spec["paths"]["/api/v1/requests/{requestId}"]["get"]["responses"]["200"]["content"]["application/json"]
    shown = {"requestId": "x", "kind": "coupon_issue", "status": "PENDING", "result": None, "error": None}
    assert_true(spec, schema["schema"], shown)
    for wrong in ({"status": "LOST"}, {"error": {"code": "X"}}, {"extra": 1}, {"requestId": 1}):
        with pytest.raises(ValidationError):
            assert_true(spec, schema["schema"], shown | wrong)


def test_every_operation_of_the_service_is_described(client: FlaskClient, spec: dict[str, Any]) -> None:
    hidden = {"/", "/static/<path:filename>", "/docs", "/openapi.json", "/metrics"}
    served = {
        (re.sub(r"<\w+>", "{}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in hidden
    }
    described = {
        (re.sub(r"\{\w+\}", "{}", path), method) for path, methods in spec["paths"].items() for method in methods
    }
    assert served == described


def test_what_the_door_answers_is_described_for_whoever_can_get_it(spec: dict[str, Any]) -> None:
    """It turns people away from everything, and what sends its body too slowly."""
    for operation in (operation for methods in spec["paths"].values() for operation in methods.values()):
        assert "BUSY" in operation["responses"]["503"]["description"]
        assert ("408" in operation["responses"]) == ("requestBody" in operation)


def test_bodies_are_required_and_closed_and_ids_have_their_limits(spec: dict[str, Any]) -> None:
    issue = spec["paths"][ISSUE]["post"]
    assert issue["requestBody"]["required"] is True
    body = spec["components"]["schemas"]["IssueBody"]
    assert body["additionalProperties"] is False
    assert body["properties"]["userId"] == {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
    assert issue["parameters"][0]["schema"] == {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
    names = {parameter["$ref"].rsplit("/", 1)[1] for parameter in issue["parameters"] if "$ref" in parameter}
    assert names == {"Idempotency-Key", "Prefer"}


def test_the_document_says_what_a_schema_alone_would_let_pass(spec: dict[str, Any]) -> None:
    schemas = spec["components"]["schemas"]
    for name in ("CouponChangeBody", "ProductChangeBody"):
        assert schemas[name]["minProperties"] == 1
    for name in ("NewCouponBody", "NewProductBody"):
        assert "minProperties" not in schemas[name]
    for name in ("CouponChangeBody", "NewCouponBody"):
        assert "after `startsAt`" in schemas[name]["properties"]["endsAt"]["description"]
    cursor, name = (
        re.compile(schema["pattern"])
        for schema in (
            spec["components"]["parameters"]["cursor"]["schema"],
            schemas["NewProductBody"]["properties"]["name"],
        )
    )
    assert cursor.search("before-8")
    assert not any(cursor.search(text) for text in ("", "8", "before-0", "before-8x"))
    assert name.search(" 감귤 5kg")
    assert not any(name.search(text) for text in ("", "  ", "a\0b"))
    assert not re.search(schemas["NewCouponBody"]["properties"]["startsAt"]["anyOf"][0]["pattern"], "1969-12-31T")
    assert "USER_EXISTS" in spec["paths"]["/api/v1/admin/users"]["post"]["responses"]["409"]["description"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_nothing_from_elsewhere(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "unsafe-eval" not in response.headers["Content-Security-Policy"]
    assert not re.search(r"https?://|<script(?! type=\"module\" src=\"/static/)|@import", response.text)


def test_the_console_runs_only_files_of_ours_and_they_are_there(client: FlaskClient) -> None:
    response = client.get("/")
    assert "script-src 'self'; style-src 'self'" in response.headers["Content-Security-Policy"]
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', response.text)
    assert len(files) == 3
    for file in files:
        with client.get(file) as found:
            assert (found.status_code, found.headers["X-Content-Type-Options"]) == (200, "nosniff")
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/nothing.js").status_code == 404


@pytest.mark.parametrize(("header", "language"), [("ko", "ko"), ("en-US,ko;q=0.5", "en"), ("fr", "ko"), ("", "ko")])
def test_the_console_is_served_in_the_readers_language(client: FlaskClient, header: str, language: str) -> None:
    assert f'<html lang="{language}">' in client.get("/", headers={"Accept-Language": header}).text


def test_the_documentation_names_every_operation_and_has_an_anchor_for_every_problem_type(
    client: FlaskClient, spec: dict[str, Any]
) -> None:
    page = client.get("/docs").text
    for path, methods in spec["paths"].items():
        assert path in page
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page
    problem = json.loads(client.get("/api/v1/users/x/coupons").text)
    assert f'id="{problem["type"].removeprefix("/docs#")}"' in page
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page
