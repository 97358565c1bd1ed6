"""Whose calls are counted, where they come from, and what is answered to one too many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.config import Settings
from engine.errors import GateUnavailable
from engine.shop import accounts, product_offers
from engine.token_keys import key_of_secret
from tests.unit.bearers import SECRET, bearer
from tests.unit.test_config import ENOUGH, problems_of
from web import limits as web_limits
from web.app import create_app
from web.key_sources import FixedKeys
from web.limits import (
    HOT_ROUTES,
    PAUSE_SECONDS,
    Limits,
    address_of,
    is_counted_here,
    is_limited,
    limits_from,
)
from web.tokens import ANYBODY, Authenticator, Caller

HERE: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1"}
BALANCE = "/api/v1/users/7/balance"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Every call that the gate was asked to count; it grants what has no limit of 1."""
    calls: list[dict[str, int]] = []

    def take_turn(_gate: Any, limits: Mapping[str, int]) -> int:
        calls.append(dict(limits))
        return 1500 if 1 in limits.values() else 0

    monkeypatch.setattr(web_limits, "take_turn", take_turn)
    return calls


def limits(per_user: int = 0, per_address: int = 0, **options: Any) -> Limits:
    gate: Any = None
    return Limits(gate, per_user=per_user, per_address=per_address, **options)


# Whose calls


def test_a_call_counts_against_its_user_and_its_address(counted: list[dict[str, int]]) -> None:
    assert limits(10, 20).milliseconds_to_wait(Caller(7), HERE) == 0
    limits(10).milliseconds_to_wait(Caller(7), HERE)
    limits(0, 20).milliseconds_to_wait(Caller(7), HERE)
    both = {"user:7": 10, "address:192.0.2.1": 20}
    assert counted == [both, {"user:7": 10}, {"address:192.0.2.1": 20}]


@pytest.mark.parametrize("caller", [Caller(1, is_admin=True), ANYBODY])
def test_administrators_are_limited_by_their_address_only(counted: list[dict[str, int]], caller: Caller) -> None:
    limits(1, 20).milliseconds_to_wait(caller, HERE)
    assert limits(1).milliseconds_to_wait(caller, HERE) == 0
    assert counted == [{"address:192.0.2.1": 20}]


def test_what_cannot_be_counted_is_granted_and_the_gate_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    now = [100.0]

    def take_turn(*_call: Any) -> int:
        asked.append(now[0])
        raise GateUnavailable("away")

    monkeypatch.setattr(web_limits, "take_turn", take_turn)
    counting = limits(10, now=lambda: now[0])
    assert [counting.milliseconds_to_wait(Caller(7), HERE) for _ in range(3)] == [0, 0, 0]
    now[0] += PAUSE_SECONDS
    counting.milliseconds_to_wait(Caller(7), HERE)
    assert asked == [100.0, 100.0 + PAUSE_SECONDS]


# Where from


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("192.0.2.1", None, 0, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", 0, "192.0.2.1"),  # nobody of ours wrote that
        ("10.0.0.1", "198.51.100.7", 1, "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", 1, "198.51.100.7"),  # the first one the caller made up
        ("10.0.0.1", "203.0.113.9,198.51.100.7 , 10.0.0.2", 2, "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7", 2, "10.0.0.1"),
        ("10.0.0.1", None, 1, "10.0.0.1"),
        ("10.0.0.1", "unknown", 1, "10.0.0.1"),
        ("10.0.0.1", "", 1, "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", None, 0, "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", None, 0, "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", None, 0, "192.0.2.1"),
        ("", None, 0, "unknown"),
        ("x" * 1000, None, 0, "unknown"),
    ],
)
def test_an_address_is_believed_as_far_as_our_own_proxies_tell_it(
    peer: str, forwarded: str | None, proxies: int, address: str
) -> None:
    assert address_of(peer, forwarded or "", proxies) == address


# Which routes


def test_every_hot_route_exists_and_no_other_route_of_the_api_goes_uncounted() -> None:
    engine: Any = SimpleNamespace()
    rules = create_app(engine).url_map.iter_rules()
    routes = {(method, rule.rule) for rule in rules for method in (rule.methods or set()) - {"OPTIONS"}}
    uncounted = {
        (method, rule) for method, rule in routes if rule.startswith("/api/") and not is_counted_here(rule, method)
    }
    assert len({route for route in uncounted if route[0] != "HEAD"}) == len(HOT_ROUTES)
    assert not any(is_limited(rule, method) for method, rule in routes if not rule.startswith("/api/"))
    for method, rule in (("POST", "/api/v1/coupons/{couponId}/issue"), ("GET", "/api/v1/requests/{requestId}")):
        assert not is_counted_here(rule, method)
    assert {route for route in uncounted if is_limited(route[1], route[0])} == {
        ("POST", "/api/v1/coupons/<coupon_id>/issue"),
        ("POST", "/api/v1/orders"),
    }


# Over HTTP


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr(accounts, "balance_of", lambda *_call: pytest.fail("a call too many reached the engine"))
    monkeypatch.setattr(product_offers, "list_products", lambda *_call: [])
    engine: Any = SimpleNamespace()
    authenticator = Authenticator(FixedKeys([key_of_secret(SECRET)]))
    client: FlaskClient = create_app(engine, authenticator, limits(per_user=1)).test_client()
    return client


def test_one_call_too_many_is_told_when_to_come_again(client: FlaskClient, counted: list[dict[str, int]]) -> None:
    response = client.get(BALANCE, headers={"Authorization": bearer("7")})
    assert response.status_code == 429
    assert response.mimetype == "application/problem+json"
    assert response.headers["Retry-After"] == "2"  # 1.5 s, in whole seconds
    problem = json.loads(response.text)
    assert (problem["code"], problem["message"]) == ("TOO_MANY_REQUESTS", "요청이 너무 많습니다")
    assert counted == [{"user:7": 1}]


def test_calls_of_others_and_of_the_hot_way_are_not_counted_here(
    client: FlaskClient, counted: list[dict[str, int]]
) -> None:
    assert client.get("/api/v1/products").status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get(BALANCE).status_code == 401
    assert counted == []


def test_the_document_speaks_of_limits_where_there_are_some(client: FlaskClient) -> None:
    def limited(document: Any) -> set[tuple[str, str]]:
        return {
            (path, method)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if "429" in operation["responses"]
        }

    with_limits = json.loads(client.get("/openapi.json").text)
    assert ("/api/v1/users/{userId}/balance", "get") in limited(with_limits)
    assert ("/api/v1/coupons/{couponId}/issue", "post") in limited(with_limits)
    assert ("/api/v1/requests/{requestId}", "get") not in limited(with_limits)
    assert "Retry-After" in with_limits["paths"]["/api/v1/users/{userId}/balance"]["get"]["responses"]["429"]["headers"]
    engine: Any = SimpleNamespace()
    assert limited(json.loads(create_app(engine).test_client().get("/openapi.json").text)) == set()


# Settings


def test_limits_are_off_by_default_where_nobody_is_asked_who_they_are() -> None:
    settings = Settings.from_environment(ENOUGH)
    gate: Any = None
    assert (settings.limit_per_user, settings.limit_per_address, settings.proxies) == (0, 0, 0)
    assert limits_from(settings, gate) is None


def test_with_tokens_a_user_gets_ten_calls_a_second_unless_told_otherwise() -> None:
    jwt = {**ENOUGH, "AUTH": "jwt", "JWT_SECRET": SECRET}
    gate: Any = None
    assert Settings.from_environment(jwt).limit_per_user == 600
    assert limits_from(Settings.from_environment(jwt), gate) is not None
    assert limits_from(Settings.from_environment({**jwt, "LIMIT_PER_USER": "0"}), gate) is None


def test_wrong_limits_stop_the_start() -> None:
    assert problems_of({**ENOUGH, "LIMIT_PER_USER": "5"}) == ["LIMIT_PER_USER"]
    wrong = {"LIMIT_PER_ADDRESS": "-1", "PROXIES": "11", "LIMIT_PER_USER": "x"}
    assert sorted(problems_of({**ENOUGH, **wrong})) == sorted(wrong)
