"""Products over HTTP, with a stub in the engine's place."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.errors import GateUnavailable, LedgerUnavailable
from engine.outcomes import Refusal, Refused
from engine.shop import product_offers
from engine.shop.product_offers import NewProduct, ProductChange, ProductView
from web.app import create_app

PRODUCTS = "/api/v1/products"
ADMIN = "/api/v1/admin/products"
PRODUCT = ProductView(7, "감귤", 1000, 10, "ACTIVE")
SHOWN = {"id": 7, "name": "감귤", "price": 1000, "stock": 10, "status": "ACTIVE"}
NEW = {"name": "감귤", "price": 1000, "stock": 10}
LARGEST = 2**53 - 1


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace()
    return create_app(engine).test_client()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the offers was asked to do; it does all of it."""
    calls: list[Any] = []

    def record(_engine: Any, *call: Any) -> ProductView:
        calls.append(call)
        return PRODUCT

    for name in ("create_product", "change_product"):
        monkeypatch.setattr(product_offers, name, record)
    return calls


def answer_with(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    """Make the offers answer so whatever it is asked, or raise so."""

    def respond(_engine: Any, *_call: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    for name in ("create_product", "change_product", "list_products"):
        monkeypatch.setattr(product_offers, name, respond)


# -- what is on sale


def test_products_are_told_in_their_order_without_a_message(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, [PRODUCT, ProductView(LARGEST, "배", 1_000_000_000, 0, "ACTIVE")])
    response = client.get(PRODUCTS)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json == {
        "products": [
            SHOWN,
            {"id": LARGEST, "name": "배", "price": 1_000_000_000, "stock": 0, "status": "ACTIVE"},
        ]
    }


def test_that_nothing_is_on_sale_is_said(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, [])
    response = client.get(PRODUCTS)
    assert response.status_code == 200
    assert response.json == {"products": [], "message": "등록된 상품이 없습니다"}


def test_an_outage_of_the_ledger_is_a_temporary_error(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, LedgerUnavailable("secret host"))
    for method, url, body in (("GET", PRODUCTS, None), ("POST", ADMIN, NEW), ("PATCH", f"{ADMIN}/7", {"price": 1})):
        response = client.open(url, method=method, json=body)
        assert response.status_code == 503
        assert response.content_type == "application/problem+json"
        problem = json.loads(response.text)
        assert (problem["code"], problem["message"]) == ("TEMPORARY_ERROR", "일시적인 오류가 발생했습니다")
        assert "Retry-After" in response.headers
        assert "secret" not in response.text


def test_what_cannot_be_made_live_now_is_busy(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, GateUnavailable("secret host"))
    for method, url, body in (("POST", ADMIN, NEW), ("PATCH", f"{ADMIN}/7", {"price": 1})):
        response = client.open(url, method=method, json=body)
        assert response.status_code == 503
        problem = json.loads(response.text)
        assert (problem["code"], problem["message"]) == ("BUSY", "잠시 후 다시 시도해주세요")
        assert "Retry-After" in response.headers
        assert "secret" not in response.text


# -- putting on sale


def test_a_new_product_is_put_on_sale_as_described(client: FlaskClient, asked: list[Any]) -> None:
    response = client.post(ADMIN, json={**NEW, "name": " 감귤 ", "status": "INACTIVE"})
    assert response.status_code == 201
    assert response.json == SHOWN
    assert asked == [(NewProduct("감귤", 1000, 10, "INACTIVE"), None)]


def test_a_new_product_is_on_sale_unless_told_otherwise(client: FlaskClient, asked: list[Any]) -> None:
    assert client.post(ADMIN, json=NEW).status_code == 201
    assert asked == [(NewProduct("감귤", 1000, 10, "ACTIVE"), None)]


def test_the_limits_themselves_are_allowed(client: FlaskClient, asked: list[Any]) -> None:
    for body in (
        {"name": "x" * 100, "price": 1_000_000_000, "stock": 100_000_000},
        {"name": "x", "price": 1, "stock": 0},
    ):
        assert client.post(ADMIN, json=body).status_code == 201
    assert client.patch(f"{ADMIN}/{LARGEST}", json={"addStock": 100_000_000}).status_code == 200
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", ""),
        ("name", " \t"),
        ("name", "x" * 101),
        ("name", 1),
        ("name", None),
        ("price", 0),
        ("price", -1),
        ("price", 1_000_000_001),
        ("price", 1.0),
        ("price", True),
        ("price", "1000"),
        ("price", None),
        ("stock", -1),
        ("stock", 100_000_001),
        ("stock", 10**30),
        ("stock", 0.0),
        ("stock", False),
        ("stock", None),
        ("status", "active"),
        ("status", "SOLD_OUT"),
        ("status", None),
        ("id", 5),
        ("addStock", 5),
        ("version", 5),
    ],
)
def test_a_product_with_a_wrong_member_is_refused_by_its_name(
    client: FlaskClient, asked: list[Any], member: str, value: Any
) -> None:
    response = client.post(ADMIN, json={**NEW, member: value})
    assert response.status_code == 400
    problem = json.loads(response.text)
    assert problem["code"] == "INVALID_REQUEST"
    assert [error["field"] for error in problem["errors"]] == [member]
    assert asked == []


@pytest.mark.parametrize("member", list(NEW))
def test_a_product_lacking_a_member_is_refused_by_its_name(client: FlaskClient, asked: list[Any], member: str) -> None:
    response = client.post(ADMIN, json={name: value for name, value in NEW.items() if name != member})
    assert response.status_code == 400
    assert [error["field"] for error in json.loads(response.text)["errors"]] == [member]
    assert asked == []


def test_an_idempotency_key_is_passed_on(client: FlaskClient, asked: list[Any]) -> None:
    assert client.post(ADMIN, json=NEW, headers={"Idempotency-Key": "k-1"}).status_code == 201
    assert asked == [(NewProduct("감귤", 1000, 10, "ACTIVE"), "k-1")]


def test_a_malformed_idempotency_key_is_refused(client: FlaskClient, asked: list[Any]) -> None:
    for key in ("", "a b", "x" * 129):
        response = client.post(ADMIN, json=NEW, headers={"Idempotency-Key": key})
        assert response.status_code == 400
        assert json.loads(response.text)["errors"][0]["field"] == "Idempotency-Key"
    assert asked == []


def test_a_key_that_was_used_for_another_product_is_refused(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, Refused(Refusal.IDEMPOTENCY_KEY_REUSED))
    response = client.post(ADMIN, json=NEW, headers={"Idempotency-Key": "k-1"})
    assert response.status_code == 422
    assert json.loads(response.text)["code"] == "IDEMPOTENCY_KEY_REUSED"


# -- changing


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ({"name": " 배 "}, ProductChange(name="배")),
        ({"price": 900}, ProductChange(price=900)),
        ({"status": "INACTIVE"}, ProductChange(status="INACTIVE")),
        ({"addStock": 5}, ProductChange(add_stock=5)),
        ({"price": 900, "addStock": 5}, ProductChange(price=900, add_stock=5)),
    ],
)
def test_a_change_touches_only_what_was_sent(
    client: FlaskClient, asked: list[Any], body: dict[str, Any], change: ProductChange
) -> None:
    response = client.patch(f"{ADMIN}/7", json=body)
    assert response.status_code == 200
    assert response.json == SHOWN
    assert asked == [(7, change)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"price": None}, "price"),
        ({"price": 0}, "price"),
        ({"price": 1.5}, "price"),
        ({"status": None}, "status"),
        ({"addStock": None}, "addStock"),
        ({"addStock": 0}, "addStock"),
        ({"addStock": -5}, "addStock"),
        ({"addStock": 100_000_001}, "addStock"),
        ({"stock": 5}, "stock"),
        ({"add_stock": 5}, "add_stock"),
    ],
)
def test_a_malformed_change_is_refused(client: FlaskClient, asked: list[Any], body: dict[str, Any], field: str) -> None:
    response = client.patch(f"{ADMIN}/7", json=body)
    assert response.status_code == 400
    problem = json.loads(response.text)
    assert problem["code"] == "INVALID_REQUEST"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert asked == []


@pytest.mark.parametrize("product_id", ["0", "-1", "+7", "07", "7.0", "x", "٧", str(LARGEST + 1), "9" * 5000])
def test_a_malformed_product_id_is_refused(client: FlaskClient, asked: list[Any], product_id: str) -> None:
    response = client.patch(f"{ADMIN}/{product_id}", json={"price": 900})
    assert response.status_code == 400
    problem = json.loads(response.text)
    assert problem["code"] == "INVALID_REQUEST"
    assert [error["field"] for error in problem["errors"]] == ["productId"]
    assert asked == []


def test_an_unknown_product_is_not_found(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, Refused(Refusal.PRODUCT_NOT_FOUND))
    response = client.patch(f"{ADMIN}/7", json={"price": 900})
    assert response.status_code == 404
    problem = json.loads(response.text)
    assert (problem["code"], problem["message"]) == ("PRODUCT_NOT_FOUND", "존재하지 않는 상품입니다")


# -- the document


def test_it_is_documented_as_it_behaves(client: FlaskClient) -> None:
    spec: Any = client.get("/openapi.json").json
    listing = spec["paths"][PRODUCTS]["get"]["responses"]
    assert set(listing) == {"200", "414", "431", "500", "503"}
    assert listing["200"]["content"]["application/json"]["schema"]["required"] == ["products"]
    creating, changing = spec["paths"][ADMIN]["post"], spec["paths"][f"{ADMIN}/{{productId}}"]["patch"]
    assert {"201", "400", "422", "503"} <= set(creating["responses"])
    assert {"200", "400", "404", "503"} <= set(changing["responses"])
    assert creating["requestBody"]["required"] is True
    assert changing["requestBody"]["required"] is True
    schemas = spec["components"]["schemas"]
    assert schemas["NewProductBody"]["required"] == ["name", "price", "stock"]
    assert set(schemas["ProductChangeBody"]["properties"]) == {"name", "price", "status", "addStock"}
    assert all("default" not in member for member in schemas["ProductChangeBody"]["properties"].values())
