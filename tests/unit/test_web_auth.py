"""Every route times every kind of caller, over the real application with a stub in the engine's place."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import validate
from pydantic.alias_generators import to_camel
from werkzeug.test import TestResponse

from engine.flow import followups, requests
from engine.ledger import coupons as ledger_coupons
from engine.ledger import orders as ledger_orders
from engine.ledger.accounts import Account
from engine.ledger.orders import Order
from engine.outcomes import Issued, Refusal, Refused, RequestKind, RequestState, RequestStatus, Submitted
from engine.shop import accounts, cancellation, coupon_offers, issuance, popularity, product_offers
from engine.shop import orders as engine_orders
from engine.shop.coupon_offers import CouponOverview
from engine.shop.product_offers import ProductView
from engine.token_keys import key_of_secret
from engine.upkeep import audit, readiness
from engine.upkeep.audit import Report
from engine.upkeep.console import Console
from tests.unit.bearers import OTHER_SECRET, SECRET, bearer, forged, good_claims
from web import admin_console
from web.access import Access, access_to
from web.app import create_app
from web.key_sources import FixedKeys, KeysUnavailable
from web.tokens import Authenticator

OWNER, OTHER = 7, 8
AUDIENCE = "shop"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
OPEN = {
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/static/<path:filename>"),
    ("GET", "/api/v1/products"),
    ("GET", "/api/v1/products/popular"),
}
"""What needs no token, as the contract says."""
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/users/<user_id>/balance/charge"): {"amount": 5},
    ("POST", "/api/v1/coupons/<coupon_id>/issue"): {"userId": OWNER},
    ("POST", "/api/v1/orders"): {"userId": OWNER, "orderItems": [{"productId": 1, "quantity": 1}]},
    ("POST", "/api/v1/admin/users"): {"userId": OWNER},
    ("POST", "/api/v1/admin/products"): {"name": "x", "price": 1, "stock": 1},
    ("PATCH", "/api/v1/admin/products/<product_id>"): {"price": 1},
    ("POST", "/api/v1/admin/coupons"): {"name": "x", "discountAmount": 1, "totalQuantity": 1},
    ("PATCH", "/api/v1/admin/coupons/<coupon_id>"): {"status": "ACTIVE"},
}
"""What is sent to the routes that want a body."""

CALLERS: dict[str, Callable[[], str | None]] = {
    "nobody": lambda: None,
    "expired": lambda: bearer(expires_in=-60, aud=AUDIENCE),
    "not yet": lambda: bearer(nbf=int(time.time()) + 3600, aud=AUDIENCE, expires_in=7200),
    "wrong key": lambda: bearer(key=OTHER_SECRET, aud=AUDIENCE),
    "alg none": lambda: f"Bearer {forged({'alg': 'none', 'typ': 'JWT'}, good_claims(aud=AUDIENCE, role='admin'))}",
    "wrong audience": lambda: bearer(aud="blog"),
    "other": lambda: bearer(str(OTHER), aud=AUDIENCE),
    "owner": lambda: bearer(str(OWNER), aud=AUDIENCE),
    "admin": lambda: bearer("1", aud=AUDIENCE, role="admin"),
}
"""What each sends, made when it is sent: a token ends after minutes, and a test may run long after it was collected."""
KNOWN = ("other", "owner", "admin")


def authenticator() -> Authenticator:
    return Authenticator(FixedKeys([key_of_secret(SECRET)]), audience=AUDIENCE)


def application(engine: Any = None) -> Any:
    return create_app(engine or SimpleNamespace(), authenticator())


ROUTES = sorted(
    (method, rule.rule)
    for rule in application().url_map.iter_rules()
    for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all functions of the engine that a view called. There is one request and one order: OWNER's."""
    calls: list[str] = []
    order = Order(1, "n", OWNER, "COMPLETED", 1, 0, 1, None, NOW, ())
    coupon = CouponOverview(1, "x", 1, 1, 0, 1, 0, "ACTIVE", None, None, NOW)
    product = ProductView(1, "x", 1, 1, "ACTIVE")
    done = RequestState("r", RequestKind.ORDER, RequestStatus.COMPLETED, result={}, user_id=OWNER)

    def cancel_order(*_call: Any, user_id: int | None, **_members: Any) -> Any:
        return {} if user_id in (None, OWNER) else Refused(Refusal.ORDER_NOT_FOUND)

    answers: dict[tuple[Any, str], Any] = {
        (accounts, "charge_balance"): {},
        (accounts, "balance_of"): Account(OWNER, None, 0),
        (accounts, "transactions_of"): [],
        (accounts, "open_account"): {},
        (product_offers, "list_products"): [],
        (product_offers, "create_product"): product,
        (product_offers, "change_product"): product,
        (popularity, "popular_products"): [],
        (issuance, "issue_coupon"): Issued("r", 1, OWNER, 1),
        (ledger_coupons, "available_coupons_of_user"): [],
        (engine_orders, "place_order"): Submitted("r", OWNER),
        (ledger_orders, "order_by_id"): order,
        (ledger_orders, "orders_of_user"): [],
        (cancellation, "cancel_order"): cancel_order,
        (coupon_offers, "create_coupon"): coupon,
        (coupon_offers, "change_coupon"): coupon,
        (coupon_offers, "coupon_overview"): coupon,
        (requests, "_state"): done,
        (readiness, "missing_parts"): {},
        (Console, "look"): None,
        (admin_console, "_shown"): {},
        (followups, "requeue_parked"): 0,
        (audit, "audit"): Report(NOW, (), complete=True, seconds=0.0),
    }
    for (module, name), outcome in answers.items():

        def answer(*call: Any, _name: str = name, _outcome: Any = outcome, **members: Any) -> Any:
            calls.append(_name)
            return _outcome(*call, **members) if callable(_outcome) else _outcome

        monkeypatch.setattr(module, name, answer)
    return calls


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    @contextmanager
    def read() -> Iterator[None]:
        yield

    client: FlaskClient = application(SimpleNamespace(ledger=SimpleNamespace(read=read))).test_client()
    return client


def send(client: FlaskClient, method: str, rule: str, caller: str) -> TestResponse:
    """Call the route, about OWNER and what is theirs."""
    path = re.sub(r"<\w+>", lambda match: str(OWNER if match[0] == "<user_id>" else 1), rule)
    path = path.replace("<path:filename>", "console.css")
    header = CALLERS[caller]()
    return client.open(
        path,
        method=method,
        json=BODIES.get((method, rule)),
        headers={} if header is None else {"Authorization": header},
        buffered=True,
    )


def expected_code(method: str, rule: str, caller: str) -> str | None:
    """The code of the refusal, as the contract has it; None for a success."""
    if (method, rule) in OPEN:
        return None
    if caller not in KNOWN:
        return "UNAUTHENTICATED"
    if caller == "admin":
        return "INVALID_REQUEST" if rule.startswith(DEMO) else None
    if not rule.startswith("/api/v1/") or rule.startswith("/api/v1/admin/"):
        return "FORBIDDEN"
    if caller == "owner":
        return None
    if "<user_id>" in rule or "userId" in BODIES.get((method, rule), {}):
        return "FORBIDDEN"
    return {"<order_id>": "ORDER_NOT_FOUND", "<request_id>": "REQUEST_NOT_FOUND"}[re.findall(r"<\w+>", rule)[0]]


DEMO = "/api/v1/admin/demo/"
"""There is no demo where callers are asked who they are: its routes are as if they did not exist."""
STATUSES = {
    "INVALID_REQUEST": 404,
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "ORDER_NOT_FOUND": 404,
    "REQUEST_NOT_FOUND": 404,
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "rule"), ROUTES)
def test_every_route_answers_every_kind_of_caller_as_the_contract_says(
    client: FlaskClient, asked: list[str], method: str, rule: str, caller: str
) -> None:
    response = send(client, method, rule, caller)
    code = expected_code(method, rule, caller)
    if code is None:
        assert 200 <= response.status_code < 300, response.text
        return
    assert response.status_code == STATUSES[code], response.text
    assert json.loads(response.text)["code"] == code
    if code in ("UNAUTHENTICATED", "FORBIDDEN"):
        assert asked == []  # nobody's data was touched
    challenge = response.headers.get("WWW-Authenticate", "")
    assert challenge.startswith("Bearer ") == (code == "UNAUTHENTICATED")
    assert ('error="invalid_token"' in challenge) == (code == "UNAUTHENTICATED" and caller != "nobody")


def test_the_table_has_every_kind_of_answer_and_every_route() -> None:
    codes = {expected_code(method, rule, caller) for method, rule in ROUTES for caller in CALLERS}
    assert codes == {None, *STATUSES}
    assert set(ROUTES) >= OPEN | set(BODIES)
    assert len(ROUTES) > 20


@pytest.mark.parametrize(("method", "rule"), ROUTES)
def test_what_is_open_is_open_and_the_rest_is_guarded_in_the_code_as_in_the_contract(method: str, rule: str) -> None:
    assert (access_to(rule, method) is Access.OPEN) == ((method, rule) in OPEN)


@pytest.mark.parametrize("rule", ["/metrics", "/console", "/console/events", "/api/v2/x", "/api/v1", "/anything"])
def test_a_route_that_nobody_thought_about_is_for_administrators(rule: str) -> None:
    assert access_to(rule, "GET") is Access.ADMIN


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@pytest.mark.parametrize("rule", sorted({rule for _, rule in ROUTES}))
def test_no_other_method_is_a_way_around(client: FlaskClient, asked: list[str], method: str, rule: str) -> None:
    response = send(client, method, rule, "nobody")
    assert (response.status_code == 401) == (("GET", rule) not in OPEN or (method == "OPTIONS" and "/api/" in rule))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/nowhere"),
        ("GET", "/api/v1/"),
        ("GET", "/api/v1"),
        ("DELETE", "/api/v1/products"),
        ("GET", "/api/v1/users/x/coupons"),  # not even what is wrong with a path is told to somebody unknown
        ("POST", "/api/v1/coupons/0/issue"),
    ],
)
def test_to_somebody_unknown_nothing_below_the_api_is_told(client: FlaskClient, method: str, path: str) -> None:
    assert client.open(path, method=method).status_code == 401
    known = {"Authorization": str(CALLERS["owner"]())}
    assert client.open(path, method=method, headers=known).status_code in (400, 404, 405)


def test_outside_the_api_an_unknown_path_is_just_not_found(client: FlaskClient) -> None:
    assert client.get("/nowhere").status_code == 404


# Cancelling, whose body may name a user


@pytest.mark.parametrize(
    ("caller", "body", "status", "on_behalf_of"),
    [
        ("owner", None, 200, OWNER),
        ("owner", {"userId": OWNER}, 200, OWNER),
        ("owner", {"userId": OTHER}, 403, None),
        ("other", None, 404, OTHER),
        ("other", {"userId": OTHER}, 404, OTHER),
        ("other", {"userId": OWNER}, 403, None),
        ("admin", None, 200, None),
        ("admin", {"userId": OWNER}, 200, OWNER),
        ("admin", {"userId": OTHER}, 404, OTHER),
    ],
)
def test_an_order_is_cancelled_in_the_name_of_whoever_may(
    client: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    caller: str,
    body: Any,
    status: int,
    on_behalf_of: int | None,
) -> None:
    cancelled_for: list[Any] = []

    def cancel_order(*_call: Any, user_id: int | None, **_members: Any) -> Any:
        cancelled_for.append(user_id)
        return {} if user_id in (None, OWNER) else Refused(Refusal.ORDER_NOT_FOUND)

    monkeypatch.setattr(cancellation, "cancel_order", cancel_order)
    header = {"Authorization": str(CALLERS[caller]())}
    response = client.post("/api/v1/orders/1/cancel", json=body, headers=header)
    assert response.status_code == status
    assert cancelled_for == ([] if status == 403 else [on_behalf_of])


# Without tokens


@pytest.mark.parametrize(
    ("site", "status"),
    [(None, 200), ("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403), ("anything", 403)],
)
def test_without_tokens_another_sites_page_changes_nothing(asked: list[str], site: str | None, status: int) -> None:
    engine: Any = SimpleNamespace()
    open_to_all = create_app(engine).test_client()
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    assert open_to_all.post("/api/v1/orders/1/cancel", headers=headers).status_code == status
    assert asked == (["cancel_order"] if status == 200 else [])
    assert open_to_all.get("/api/v1/products", headers=headers).status_code == 200


# What callers are told besides


def test_what_is_wrong_with_a_token_is_told_in_the_header_and_the_token_is_not_told_back(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    sent = str(CALLERS["expired"]())
    response = client.get("/api/v1/orders/1", headers={"Authorization": sent})
    assert response.headers["WWW-Authenticate"] == (
        'Bearer realm="seonchak", error="invalid_token", error_description="the token is expired"'
    )
    without = client.get("/api/v1/orders/1")
    assert without.headers["WWW-Authenticate"] == 'Bearer realm="seonchak"'
    token = sent.removeprefix("Bearer ")
    assert not any(part in response.text + caplog.text for part in token.split("."))


def test_keys_that_cannot_be_had_are_a_temporary_error_and_the_process_is_not_ready(
    client: FlaskClient, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_call: Any, **_members: Any) -> Any:
        raise KeysUnavailable("connection refused")

    monkeypatch.setattr(FixedKeys, "keys_for", fail)
    new = bearer(str(OWNER), aud=AUDIENCE, kid="a token unlike all before")
    response = client.get("/api/v1/orders/1", headers={"Authorization": new})
    assert (response.status_code, json.loads(response.text)["code"]) == (503, "TEMPORARY_ERROR")
    assert int(response.headers["Retry-After"]) >= 1
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(FixedKeys, "trouble", lambda _self: "connection refused by 10.0.0.1")
    ready = client.get("/readyz")
    assert (ready.status_code, json.loads(ready.text)["missing"]) == (503, ["keys"])
    assert "10.0.0.1" not in ready.text


# The document


@pytest.fixture
def spec(client: FlaskClient) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(client.get("/openapi.json").text)
    return document


def test_the_document_says_where_a_token_is_needed_and_what_is_answered_without_one(spec: dict[str, Any]) -> None:
    validate(spec)
    assert spec["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    hidden = {"/", "/docs", "/openapi.json", "/metrics", "/static/<path:filename>"}
    for method, rule in ROUTES:
        if rule in hidden:
            continue
        path = re.sub(r"<(\w+)>", lambda match: "{" + to_camel(match[1]) + "}", rule)
        operation = spec["paths"][path][method.lower()]
        answers = {expected_code(method, rule, caller) for caller in CALLERS} - {None}
        documented = {
            code for code in STATUSES if any(code in r["description"] for r in operation["responses"].values())
        }
        assert ("security" in operation) == bool(answers), (method, rule)
        assert answers <= documented, (method, rule)
        assert ("401" in operation["responses"]) == ("UNAUTHENTICATED" in answers), (method, rule)


def test_where_nobody_is_asked_the_document_does_not_speak_of_tokens() -> None:
    engine: Any = SimpleNamespace()
    document = json.loads(create_app(engine).test_client().get("/openapi.json").text)
    assert "securitySchemes" not in document["components"]
    for operations in document["paths"].values():
        for method, operation in operations.items():
            assert "security" not in operation
            assert "401" not in operation["responses"]
            # Another site's page is refused what changes something.
            assert ("403" in operation["responses"]) == (method != "get")


def test_where_nobody_is_asked_everybody_may_do_everything(asked: list[str]) -> None:
    @contextmanager
    def read() -> Iterator[None]:
        yield

    engine: Any = SimpleNamespace(ledger=SimpleNamespace(read=read))
    client = create_app(engine).test_client()
    for method, rule in ROUTES:
        if rule.startswith(DEMO):  # not there without a demo
            continue
        for caller in ("nobody", "wrong key", "other"):
            assert 200 <= send(client, method, rule, caller).status_code < 300, (method, rule)
