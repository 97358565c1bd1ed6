"""Keys that are fetched from an address: by one for all, not too often, and never at the price of a good token."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from engine.token_keys import UnusableKey
from tests.stack.stack_driver import wait_until
from tests.unit.bearers import bearer, ec_key, forged, public_jwk, rsa_key, token
from web import key_sources
from web.key_sources import (
    FRESH_SECONDS,
    PAUSE_AFTER_FAILURE_SECONDS,
    PAUSE_SECONDS,
    STALE_SECONDS,
    FetchedKeySet,
    KeysUnavailable,
)
from web.tokens import Authenticator, Caller, Unauthenticated


class Issuer:
    """Somebody who publishes keys: with these, slowly, or not at all; and a clock of our own."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.fetches = 0
        self.away = False
        self.hold: threading.Event | None = None
        self.now = 1000.0
        self.keys = FetchedKeySet("https://id.example/keys", fetch=self.fetch, now=lambda: self.now)
        self.authenticator = Authenticator(self.keys, now=lambda: self.now)

    def fetch(self) -> Any:
        self.fetches += 1
        if self.hold is not None:
            assert self.hold.wait(30)
        if self.away:
            raise jwt.exceptions.PyJWKClientConnectionError("connection refused")
        return {"keys": [public_jwk(rsa_key(kid), kid=kid) for kid in self.kids]}

    def ask(self, kid: str, **options: bool) -> Caller | Unauthenticated:
        """With a token that is new each time, so that it is not known already."""
        header = bearer(key=rsa_key(kid), algorithm="RS256", kid=kid, jti=object.__repr__(object()))
        return self.authenticator.caller_of(header, **options)

    def settle(self) -> None:
        """Return when no fetch is on its way."""
        wait_until(lambda: not any(thread.name == "key-set" for thread in threading.enumerate()), "the fetch ended")


def test_the_keys_are_fetched_at_the_first_need_and_serve_all_that_follow() -> None:
    issuer = Issuer("a", "b")
    assert issuer.fetches == 0
    assert [issuer.ask(kid) for kid in ("a", "b", "a")] == [Caller(7)] * 3
    assert issuer.fetches == 1


def test_a_new_key_is_found_although_the_set_is_fresh() -> None:
    issuer = Issuer("a")
    issuer.ask("a")
    issuer.kids = ("a", "b")
    issuer.now += PAUSE_SECONDS
    assert issuer.ask("b") == Caller(7)
    assert issuer.fetches == 2


def test_made_up_key_ids_cause_one_fetch_per_pause_and_are_refused() -> None:
    issuer = Issuer("a")
    issuer.ask("a")
    issuer.now += PAUSE_SECONDS
    assert [issuer.ask("made-up") for _ in range(5)] == [Unauthenticated("the token is signed with an unknown key")] * 5
    assert issuer.fetches == 2
    issuer.now += PAUSE_SECONDS
    issuer.ask("made-up")
    assert issuer.fetches == 3


def test_one_fetches_for_all_who_wait() -> None:
    issuer = Issuer("a")
    issuer.hold = threading.Event()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(issuer.ask("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: issuer.fetches == 1, "the fetch began")
    issuer.hold.set()
    for thread in threads:
        thread.join()
    assert answers == [Caller(7)] * 8
    assert issuer.fetches == 1


def test_who_may_not_wait_is_told_to_come_again_and_finds_the_keys_then() -> None:
    issuer = Issuer("a")
    with pytest.raises(KeysUnavailable):
        issuer.ask("a", may_wait=False)
    issuer.settle()
    assert issuer.ask("a", may_wait=False) == Caller(7)
    assert issuer.fetches == 1


def test_who_waits_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sources, "FETCH_SECONDS", 0.01)
    issuer = Issuer("a")
    issuer.hold = threading.Event()
    with pytest.raises(KeysUnavailable):
        issuer.ask("a")
    issuer.hold.set()
    issuer.settle()
    assert issuer.ask("a") == Caller(7)


def test_keys_that_cannot_be_fetched_are_our_trouble_and_not_the_callers() -> None:
    issuer = Issuer("a")
    issuer.away = True
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            issuer.ask("a")
    assert issuer.fetches == 1  # the others did not wait for what had failed just now
    issuer.away = False
    issuer.now += PAUSE_AFTER_FAILURE_SECONDS
    assert issuer.ask("a") == Caller(7)


def test_known_keys_serve_on_while_their_address_does_not_answer_but_not_for_ever() -> None:
    issuer = Issuer("a")
    issuer.ask("a")
    issuer.away = True
    issuer.now += FRESH_SECONDS
    assert issuer.ask("a") == Caller(7)
    issuer.settle()
    assert issuer.fetches == 2
    with pytest.raises(KeysUnavailable):
        issuer.ask("b")  # may be a new one, of which we cannot know
    issuer.now += STALE_SECONDS
    with pytest.raises(KeysUnavailable):
        issuer.ask("a")


def test_a_key_that_was_withdrawn_is_trusted_no_longer_not_even_for_a_known_token() -> None:
    issuer = Issuer("a", "b")
    known = bearer(key=rsa_key("a"), algorithm="RS256", kid="a", expires_in=10**9)
    assert issuer.authenticator.caller_of(known) == Caller(7)
    issuer.kids = ("b",)
    issuer.now += FRESH_SECONDS
    issuer.ask("b")  # brings the new set
    issuer.settle()
    assert issuer.authenticator.caller_of(known) == Unauthenticated("the token is signed with an unknown key")


def test_nobody_waits_for_a_set_that_is_fetched_only_to_be_fresh() -> None:
    issuer = Issuer("a")
    issuer.ask("a")
    issuer.now += FRESH_SECONDS
    issuer.hold = threading.Event()
    assert issuer.ask("a") == Caller(7)
    issuer.hold.set()
    issuer.settle()
    assert issuer.fetches == 2


def test_the_trouble_is_told_until_there_are_keys() -> None:
    issuer = Issuer("a")
    issuer.away = True
    issuer.hold = threading.Event()
    assert issuer.keys.trouble() == "not fetched yet"
    issuer.hold.set()
    issuer.settle()
    assert "connection refused" in str(issuer.keys.trouble())
    issuer.away = False
    issuer.now += PAUSE_AFTER_FAILURE_SECONDS
    issuer.keys.trouble()
    issuer.settle()
    assert issuer.keys.trouble() is None


@pytest.mark.parametrize("document", [None, [], {}, {"keys": []}, {"keys": {}}, {"keys": [None, 1, {}]}, "x"])
def test_a_document_without_a_usable_key_is_as_good_as_none(document: Any) -> None:
    with pytest.raises(UnusableKey):
        key_sources.keys_in_set(document)


@pytest.mark.parametrize(
    "useless",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
        public_jwk(rsa_key(), use="enc"),
        public_jwk(rsa_key(), alg="RS512"),
        public_jwk(rsa_key(), alg="PS256"),
        public_jwk(rsa_key(), alg="none"),
        public_jwk(rsa_key(), alg="HS256"),
        public_jwk(rsa_key(), kty="oct"),
        public_jwk(ec_key("wide", curve=jwt.algorithms.SECP384R1)),
        public_jwk(ec_key("wide", curve=jwt.algorithms.SECP384R1), alg="ES256"),
        public_jwk(rsa_key("short", bits=1024)),
        public_jwk(rsa_key()) | {"d": "AQAB"},
        public_jwk(rsa_key()) | {"n": "!"},
        public_jwk(rsa_key()) | {"kid": 7},
        {"kty": "RSA"},
    ],
)
def test_only_public_keys_for_our_algorithms_are_taken_from_a_set(useless: dict[str, Any]) -> None:
    with pytest.raises(UnusableKey):
        key_sources.keys_in_set({"keys": [useless]})
    assert list(key_sources.keys_in_set({"keys": [useless, public_jwk(ec_key(), kid="good")]})) == ["good"]


def test_where_there_is_one_key_it_need_not_be_named() -> None:
    one = key_sources.keys_in_set({"keys": [public_jwk(rsa_key(), kid="a")]})
    two = key_sources.keys_in_set({"keys": [public_jwk(rsa_key(), kid="a"), public_jwk(rsa_key("b"), kid="b")]})
    unnamed = token(key=rsa_key(), algorithm="RS256")
    assert len(key_sources.named_in(unnamed, one)) == 1
    assert key_sources.named_in(unnamed, two) == ()
    with pytest.raises(jwt.PyJWTError):
        key_sources.named_in(forged([], []), one)


# Over HTTP


@pytest.fixture
def serve() -> Iterator[Callable[[int, bytes], str]]:
    """Serves this status and body; the address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/keys"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_set_is_fetched_from_a_real_address(serve: Callable[[int, bytes], str]) -> None:
    document = json.dumps({"keys": [public_jwk(ec_key(), kid="a")]}).encode()
    authenticator = Authenticator(FetchedKeySet(serve(200, document)))
    assert authenticator.caller_of(bearer(key=ec_key(), algorithm="ES256", kid="a")) == Caller(7)


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (404, b"{}"), (302, b""), (200, b"<html>"), (200, b"[]"), (200, b"\xff")]
)
def test_an_address_that_answers_with_anything_else_has_no_keys(
    serve: Callable[[int, bytes], str], status: int, body: bytes
) -> None:
    authenticator = Authenticator(FetchedKeySet(serve(status, body)))
    with pytest.raises(KeysUnavailable):
        authenticator.caller_of(bearer(key=ec_key(), algorithm="ES256", kid="a"))
