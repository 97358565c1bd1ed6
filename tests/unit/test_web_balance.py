"""Balances and users over HTTP, with a stub in the engine's place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from engine.errors import LedgerUnavailable
from engine.ledger.accounts import Account, BalanceTransaction
from engine.outcomes import Refusal, Refused
from engine.shop import accounts
from web.app import create_app

LARGEST = 2**53 - 1
BALANCE = "/api/v1/users/7/balance"
CHARGE = f"{BALANCE}/charge"
TRANSACTIONS = f"{BALANCE}/transactions"
USERS = "/api/v1/admin/users"
MOMENT = datetime(2030, 1, 1, tzinfo=UTC)
UNKNOWN = Refused(Refusal.USER_NOT_FOUND)
REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace()
    return create_app(engine).test_client()


def answering(monkeypatch: pytest.MonkeyPatch, name: str, outcome: Any) -> list[tuple[Any, ...]]:
    """Make this function of the engine answer so, or raise so; what it is asked."""
    calls: list[tuple[Any, ...]] = []

    def stand_in(_engine: Any, *call: Any) -> Any:
        calls.append(call)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(accounts, name, stand_in)
    return calls


def assert_problem(response: TestResponse, status: int, code: str, message: str) -> dict[str, Any]:
    """This problem, in the form that every error has; the document."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = json.loads(response.text)
    assert (problem["status"], problem["code"], problem["message"]) == (status, code, message)
    return problem


def assert_invalid(response: TestResponse, field: str) -> None:
    problem = assert_problem(response, 400, "INVALID_REQUEST", "유효하지 않은 요청")
    assert [error["field"] for error in problem["errors"]] == [field]


def entry(number: int) -> BalanceTransaction:
    return BalanceTransaction(number, "CHARGE", 10, 10 * number, "COMPLETED", MOMENT)


# -- charging


@pytest.mark.parametrize("amount", [1, 100_000_000])
def test_a_charge_is_answered_with_the_new_balance(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, amount: int
) -> None:
    body = {"userId": 7, "newBalance": LARGEST, "transactionId": 3}
    asked = answering(monkeypatch, "charge_balance", body)
    response = client.post(CHARGE, json={"amount": amount})
    assert (response.status_code, response.json) == (200, body)
    assert asked == [(7, amount, None)]


def test_the_key_of_a_charge_reaches_the_engine(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, "charge_balance", {})
    key = "~!" * 64
    assert client.post(CHARGE, json={"amount": 5}, headers={"Idempotency-Key": key}).status_code == 200
    assert asked == [(7, 5, key)]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 129, "é", "a\tb"])
@pytest.mark.parametrize(
    ("name", "path", "body"), [("charge_balance", CHARGE, {"amount": 5}), ("open_account", USERS, {})]
)
def test_a_key_that_is_too_long_or_not_visible_is_refused(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, name: str, path: str, body: dict[str, Any], key: str
) -> None:
    asked = answering(monkeypatch, name, {})
    assert_invalid(client.post(path, json=body, headers={"Idempotency-Key": key}), "Idempotency-Key")
    assert asked == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "amount"),
        ('{"amount":0}', "amount"),
        ('{"amount":-1}', "amount"),
        ('{"amount":100000001}', "amount"),
        (f'{{"amount":{LARGEST + 1}}}', "amount"),
        ('{"amount":1.0}', "amount"),
        ('{"amount":1e3}', "amount"),
        ('{"amount":true}', "amount"),
        ('{"amount":"5"}', "amount"),
        ('{"amount":null}', "amount"),
        ('{"amount":NaN}', "body"),
        ('{"amount":5,"amount":5}', "amount"),
        ('{"amount":5,"currency":"KRW"}', "currency"),
        ("[5]", "body"),
        ("5", "body"),
        (" ", "body"),
    ],
)
def test_a_malformed_charge_is_refused_by_the_name_of_its_member(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, body: str, field: str
) -> None:
    asked = answering(monkeypatch, "charge_balance", {})
    assert_invalid(client.post(CHARGE, data=body, content_type="application/json"), field)
    assert asked == []


def test_a_balance_that_would_become_too_large_makes_the_charge_invalid(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    detail = {"errors": [{"field": "amount", "reason": "the balance would become larger than can be kept"}]}
    answering(monkeypatch, "charge_balance", Refused(Refusal.INVALID_REQUEST, detail))
    assert_invalid(client.post(CHARGE, json={"amount": 5}), "amount")


def test_a_refused_charge_is_told_in_the_words_of_the_contract(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, "charge_balance", UNKNOWN)
    assert_problem(client.post(CHARGE, json={"amount": 5}), 404, "USER_NOT_FOUND", "사용자를 찾을 수 없습니다")
    answering(monkeypatch, "charge_balance", REUSED)
    message = "같은 멱등키로 다른 요청을 보낼 수 없습니다"
    assert_problem(client.post(CHARGE, json={"amount": 5}), 422, "IDEMPOTENCY_KEY_REUSED", message)


# -- looking


def test_a_balance_is_shown(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, "balance_of", Account(7, "하나", LARGEST))
    response = client.get(BALANCE)
    assert (response.status_code, response.json) == (200, {"userId": 7, "balance": LARGEST})
    assert response.headers["Cache-Control"] == "no-store"
    assert asked == [(7,)]


@pytest.mark.parametrize("user_id", ["0", "-1", "+1", "01", "1.0", "abc", "１", "%20", str(LARGEST + 1), "9" * 400])
@pytest.mark.parametrize("path", ["balance", "balance/transactions", "balance/charge"])
def test_a_user_id_that_is_no_positive_integer_has_an_answer_of_its_own(
    client: FlaskClient, user_id: str, path: str
) -> None:
    url = f"/api/v1/users/{user_id}/{path}"
    response = client.post(url, json={"amount": 5}) if path.endswith("charge") else client.get(url)
    assert_problem(response, 400, "INVALID_USER_ID", "유효하지 않은 사용자 ID")


def test_a_page_of_transactions_is_shown_with_the_way_to_the_next(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = BalanceTransaction(9, "PAYMENT", 3, None, "PENDING", MOMENT)
    asked = answering(monkeypatch, "transactions_of", [pending, entry(8), entry(5)])
    first = client.get(TRANSACTIONS, query_string={"limit": "2"}).json
    assert first is not None
    assert first["transactions"] == [
        {
            "transactionId": 9,
            "type": "PAYMENT",
            "amount": 3,
            "balanceAfter": None,
            "status": "PENDING",
            "createdAt": "2030-01-01T00:00:00Z",
        },
        {
            "transactionId": 8,
            "type": "CHARGE",
            "amount": 10,
            "balanceAfter": 80,
            "status": "COMPLETED",
            "createdAt": "2030-01-01T00:00:00Z",
        },
    ]
    client.get(TRANSACTIONS, query_string={"limit": "2", "cursor": first["nextCursor"]})
    assert asked == [(7, None, 3), (7, 8, 3)]


def test_the_last_page_is_the_last_even_when_it_is_full(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "transactions_of", [entry(2), entry(1)])
    page = client.get(TRANSACTIONS, query_string={"limit": "2"}).json
    assert page is not None
    assert ([each["transactionId"] for each in page["transactions"]], page["nextCursor"]) == ([2, 1], None)


@pytest.mark.parametrize(("limit", "read"), [(None, 21), ("1", 2), ("100", 101)])
def test_a_page_has_twenty_transactions_unless_told_otherwise(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, limit: str | None, read: int
) -> None:
    asked = answering(monkeypatch, "transactions_of", [])
    response = client.get(TRANSACTIONS, query_string={} if limit is None else {"limit": limit})
    assert response.json == {"transactions": [], "nextCursor": None}
    assert asked == [(7, None, read)]


@pytest.mark.parametrize("limit", ["", "0", "-1", "101", "1000", "1.0", "1e1", "true", "02", "٣", " 5", "9" * 5000])
def test_a_limit_outside_its_range_is_refused(client: FlaskClient, limit: str) -> None:
    assert_invalid(client.get(TRANSACTIONS, query_string={"limit": limit}), "limit")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "8",
        "A",
        "é",
        "=",
        "before-",
        "before-0",
        "before--8",
        "before-08",
        "before-8 ",
        "before-8\n",
        "before-８",
        "before-" + "9" * 17,
        "after-8",
        "Before-8",
        "!before-8",
    ],
)
def test_a_cursor_that_was_not_given_out_is_refused(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, cursor: str
) -> None:
    asked = answering(monkeypatch, "transactions_of", [])
    assert_invalid(client.get(TRANSACTIONS, query_string={"cursor": cursor}), "cursor")
    assert asked == []


@pytest.mark.parametrize(("name", "path"), [("balance_of", BALANCE), ("transactions_of", TRANSACTIONS)])
def test_nobody_looks_at_a_user_who_does_not_exist(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    answering(monkeypatch, name, UNKNOWN)
    assert_problem(client.get(path), 404, "USER_NOT_FOUND", "사용자를 찾을 수 없습니다")


# -- administration


@pytest.mark.parametrize(
    ("body", "asked_for"),
    [
        ({}, (None, None, None)),
        ({"userId": None, "name": None}, (None, None, None)),
        ({"userId": LARGEST, "name": " 하나 "}, (LARGEST, "하나", None)),
        ({"name": "x" * 100}, (None, "x" * 100, None)),
    ],
)
def test_a_user_is_added_as_described(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], asked_for: tuple[Any, ...]
) -> None:
    shown = {"userId": 7, "name": "하나", "balance": 0}
    asked = answering(monkeypatch, "open_account", shown)
    response = client.post(USERS, json=body)
    assert (response.status_code, response.json) == (201, shown)
    assert asked == [asked_for]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("userId", 0),
        ("userId", LARGEST + 1),
        ("userId", "7"),
        ("userId", True),
        ("userId", 7.0),
        ("name", ""),
        ("name", " \t"),
        ("name", "x" * 101),
        ("name", 7),
        ("balance", 5),
        ("user_id", 5),
    ],
)
def test_a_user_with_a_wrong_member_is_refused_by_its_name(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, member: str, value: Any
) -> None:
    asked = answering(monkeypatch, "open_account", {})
    assert_invalid(client.post(USERS, json={member: value}), member)
    assert asked == []


def test_an_id_that_is_taken_has_a_code_of_its_own(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "open_account", Refused(Refusal.USER_EXISTS))
    response = client.post(USERS, json={"userId": 7})
    assert response.status_code == 409
    problem = json.loads(response.text)
    assert (problem["code"], problem["message"]) == ("USER_EXISTS", "이미 존재하는 사용자입니다")


# -- all of them


@pytest.mark.parametrize(
    ("name", "method", "path", "body"),
    [
        ("charge_balance", "POST", CHARGE, {"amount": 5}),
        ("balance_of", "GET", BALANCE, None),
        ("transactions_of", "GET", TRANSACTIONS, None),
        ("open_account", "POST", USERS, {}),
    ],
)
def test_an_outage_of_the_ledger_is_a_temporary_error(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, name: str, method: str, path: str, body: Any
) -> None:
    answering(monkeypatch, name, LedgerUnavailable("secret host", retry_after_seconds=3))
    response = client.open(path, method=method, json=body)
    assert_problem(response, 503, "TEMPORARY_ERROR", "일시적인 오류가 발생했습니다")
    assert response.headers["Retry-After"] == "3"
    assert "secret" not in response.text


def test_what_can_be_asked_for_and_refused_is_documented(client: FlaskClient) -> None:
    spec = client.get("/openapi.json").json
    assert spec is not None
    pages = spec["paths"]["/api/v1/users/{userId}/balance/transactions"]["get"]
    assert {each.get("name") or each["$ref"].rsplit("/", 1)[1] for each in pages["parameters"]} == {
        "userId",
        "cursor",
        "limit",
    }
    assert spec["components"]["parameters"]["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 20,
    }
    assert "INVALID_REQUEST" in pages["responses"]["400"]["description"]
    assert "INVALID_USER_ID" in pages["responses"]["400"]["description"]
    balance = spec["paths"]["/api/v1/users/{userId}/balance"]["get"]
    assert "INVALID_REQUEST" not in balance["responses"]["400"]["description"]
    charge = spec["paths"]["/api/v1/users/{userId}/balance/charge"]["post"]
    refusals = {"400", "403", "404", "408", "411", "413", "414", "415", "422", "431"}
    assert set(charge["responses"]) == {"200", *refusals, "500", "503"}
    assert spec["components"]["schemas"]["ChargeBody"]["properties"]["amount"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100_000_000,
    }
