"""What sells best, over HTTP."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.errors import LedgerUnavailable
from engine.gate.popularity import PopularProduct
from engine.shop import popularity
from web.app import create_app

POPULAR = "/api/v1/products/popular"


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace()
    return create_app(engine).test_client()


def answering(monkeypatch: pytest.MonkeyPatch, products: list[PopularProduct]) -> None:
    monkeypatch.setattr(popularity, "popular_products", lambda _engine: products)


def test_popular_products_are_told_in_their_order_without_a_message(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, [PopularProduct(7, "감귤", 30), PopularProduct(3, "배", 30)])
    response = client.get(POPULAR)
    assert response.status_code == 200
    assert response.json == {
        "popularProducts": [
            {"productId": 7, "name": "감귤", "totalSales": 30},
            {"productId": 3, "name": "배", "totalSales": 30},
        ]
    }


def test_that_nothing_sold_is_said(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, [])
    response = client.get(POPULAR)
    assert response.status_code == 200
    assert response.json == {"popularProducts": [], "message": "통계 데이터가 없습니다"}


def test_an_outage_of_the_ledger_is_a_temporary_error(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_engine: Any) -> list[PopularProduct]:
        raise LedgerUnavailable("secret host")

    monkeypatch.setattr(popularity, "popular_products", fail)
    response = client.get(POPULAR)
    assert response.status_code == 503
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["code"] == "TEMPORARY_ERROR"
    assert response.json["message"] == "일시적인 오류가 발생했습니다"
    assert "Retry-After" in response.headers
    assert "secret" not in response.text


def test_it_is_documented_as_it_behaves(client: FlaskClient) -> None:
    spec = client.get("/openapi.json").json
    assert spec is not None
    operation = spec["paths"][POPULAR]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["popularProducts"]
    assert set(operation["responses"]) == {"200", "414", "431", "500", "503"}
