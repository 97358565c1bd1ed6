"""Sentences for people: each in every language, chosen as the reader asks; codes never change."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.flow import requests
from engine.ledger import coupons as ledger_coupons
from engine.outcomes import Refusal, Refused, RequestKind, RequestState, RequestStatus
from engine.shop import issuance, popularity, product_offers
from web.app import create_app
from web.languages import LANGUAGES, LONGEST_HEADER, SENTENCES, language_for
from web.problems import PROBLEMS

ISSUE = "/api/v1/coupons/7/issue"
TOLD_BESIDES = {"NO_PRODUCTS", "NO_STATISTICS", "NO_COUPONS"}


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace(ledger=None)
    client: FlaskClient = create_app(engine).test_client()
    return client


# The table


def test_every_code_and_whatever_is_told_besides_has_a_sentence_and_no_sentence_is_left_over() -> None:
    assert set(SENTENCES) == set(PROBLEMS) | TOLD_BESIDES
    assert set(PROBLEMS) >= set(Refusal)


@pytest.mark.parametrize("name", SENTENCES)
def test_every_sentence_is_there_in_both_languages_and_in_no_other(name: str) -> None:
    sentence = SENTENCES[name]
    assert re.fullmatch(r"[가-힣 ID]+", sentence.ko)
    assert re.fullmatch(r"[A-Z][a-z ]+", sentence.en)
    assert [sentence.said_in(language) for language in LANGUAGES] == [sentence.ko, sentence.en]


def test_no_two_codes_are_told_in_the_same_words() -> None:
    for sentences in zip(*SENTENCES.values(), strict=True):
        assert len(set(sentences)) == len(sentences)


# The choice


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "ko"),
        ("", "ko"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", "ko"),
        ("en", "en"),
        ("EN", "en"),
        ("en-GB", "en"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("en;q=0.3, ko;q=0.2", "en"),
        ("en;q=0.2, ko;q=0.3", "ko"),
        ("en;q=0.5, ko;q=0.5", "ko"),
        ("fr, en;q=0.1", "en"),
        ("ko;q=0, *", "en"),
        ("en;q=0", "ko"),
        ("en;q=0, *", "ko"),
        ("*", "ko"),
        ("fr", "ko"),
        ("eng", "ko"),
        (";;q,=", "ko"),
        ("\x00é", "ko"),
        ("en" + "," * LONGEST_HEADER, "ko"),
    ],
)
def test_the_language_is_what_the_header_asks_for_and_korean_where_it_asks_for_neither(
    header: str | None, language: str
) -> None:
    assert language_for(header) == language


# Over HTTP


@pytest.mark.parametrize("code", list(Refusal))
def test_a_refusal_is_told_in_the_readers_language_and_its_code_stays(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, code: Refusal
) -> None:
    monkeypatch.setattr(issuance, "issue_coupon", lambda *_call, **_members: Refused(code))
    for language in LANGUAGES:
        response = client.post(ISSUE, json={"userId": 1}, headers={"Accept-Language": language})
        problem = json.loads(response.text)
        assert (problem["code"], problem["message"]) == (code, SENTENCES[code].said_in(language))
        assert response.headers["Content-Language"] == language
        assert response.headers["Vary"] == "Accept-Language"


@pytest.mark.parametrize(
    ("path", "method"),
    [("/nowhere", "GET"), ("/healthz", "PUT"), ("/api/v1/users/x/coupons", "GET"), (ISSUE, "POST")],
)
def test_errors_of_the_framework_are_told_in_the_readers_language_too(
    client: FlaskClient, path: str, method: str
) -> None:
    english = client.open(path, method=method, headers={"Accept-Language": "en-US"})
    korean = client.open(path, method=method)
    assert json.loads(english.text)["message"].isascii()
    assert not json.loads(korean.text)["message"].isascii()
    assert json.loads(english.text)["code"] == json.loads(korean.text)["code"]
    assert (english.headers["Content-Language"], korean.headers["Content-Language"]) == ("en", "ko")


@pytest.mark.parametrize(
    ("path", "module", "function", "name"),
    [
        ("/api/v1/products", product_offers, "list_products", "NO_PRODUCTS"),
        ("/api/v1/products/popular", popularity, "popular_products", "NO_STATISTICS"),
        ("/api/v1/users/5/coupons", ledger_coupons, "available_coupons_of_user", "NO_COUPONS"),
    ],
)
def test_that_there_is_nothing_is_told_in_the_readers_language(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, module: Any, function: str, name: str
) -> None:
    monkeypatch.setattr(module, function, lambda *_call: [])
    for language in LANGUAGES:
        response = client.get(path, headers={"Accept-Language": language})
        assert response.json is not None
        assert response.json["message"] == SENTENCES[name].said_in(language)
        assert (response.headers["Content-Language"], response.headers["Vary"]) == (language, "Accept-Language")


def test_an_answer_without_words_has_no_language_but_depends_on_it_where_it_could_have_some(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = RequestState("r", RequestKind.ORDER, RequestStatus.PENDING)
    monkeypatch.setattr(requests, "request_state", lambda *_call: pending)
    response = client.get("/api/v1/requests/r", headers={"Accept-Language": "en"})
    assert "Content-Language" not in response.headers
    assert response.headers["Vary"] == "Accept-Language"
    assert "Vary" not in client.get("/healthz").headers


def test_why_a_request_failed_is_told_in_the_readers_language(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = Refused(Refusal.INSUFFICIENT_BALANCE)
    failed = RequestState("r", RequestKind.ORDER, RequestStatus.FAILED, error=error)
    monkeypatch.setattr(requests, "request_state", lambda *_call: failed)
    for language in LANGUAGES:
        response = client.get("/api/v1/requests/r", headers={"Accept-Language": language})
        assert response.json is not None
        assert response.json["error"] == {
            "code": "INSUFFICIENT_BALANCE",
            "message": SENTENCES["INSUFFICIENT_BALANCE"].said_in(language),
        }
        assert response.headers["Content-Language"] == language
