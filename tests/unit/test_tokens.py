"""Who calls, as a token says: what is believed, what is not, and that a known token is not verified twice."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from engine.config import Settings
from engine.token_keys import keys_in_set
from tests.unit.bearers import (
    OTHER_SECRET,
    SECRET,
    bearer,
    ec_key,
    forged,
    good_claims,
    public_jwk,
    public_pem,
    rsa_key,
    sign,
    token,
    with_secrets,
)
from web.key_sources import KeySet
from web.plain_tokens import PlainTokens
from web.tokens import LONGEST_HEADER, Authenticator, Caller, Unauthenticated, authenticator_from

STORES = {"redis_url": "redis://x", "queue_redis_url": "redis://x", "database_url": "postgresql://x"}


def reason(answer: Caller | Unauthenticated) -> str | None:
    assert isinstance(answer, Unauthenticated), answer
    return answer.reason


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that was verified."""
    seen: list[str] = []
    claims_of = PlainTokens.claims_of

    def count(plain: PlainTokens, token: str, now: float) -> Any:
        seen.append(token)
        return claims_of(plain, token, now)

    monkeypatch.setattr(PlainTokens, "claims_of", count)
    return seen


# What is believed


def test_a_token_names_its_user() -> None:
    assert with_secrets().caller_of(bearer("7")) == Caller(7)
    assert with_secrets().caller_of(bearer("9007199254740991")) == Caller(2**53 - 1)


def test_only_the_role_of_that_name_makes_an_administrator() -> None:
    authenticator = with_secrets()
    assert authenticator.caller_of(bearer(role="admin")) == Caller(7, is_admin=True)
    for role in ("Admin", "administrator", "", "user", ["admin"], {"admin": True}, True, 1):
        assert authenticator.caller_of(bearer(role=role)) == Caller(7), role


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer ", "Bearer   "])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    assert with_secrets().caller_of(f"{scheme} {token()}") == Caller(7)


def test_clocks_may_differ_by_ten_seconds_and_no_more() -> None:
    authenticator = with_secrets()
    now = time.time()
    assert authenticator.caller_of(bearer(expires_in=-5)) == Caller(7)
    assert authenticator.caller_of(bearer(nbf=int(now + 8))) == Caller(7)
    assert reason(authenticator.caller_of(bearer(expires_in=-12))) == "the token is expired"
    assert reason(authenticator.caller_of(bearer(nbf=int(now + 15)))) == "the token is not valid yet"


def test_while_a_secret_is_replaced_both_are_good() -> None:
    both = with_secrets(OTHER_SECRET, SECRET)
    assert both.caller_of(bearer(key=SECRET)) == Caller(7)
    assert both.caller_of(bearer(key=OTHER_SECRET)) == Caller(7)
    assert reason(with_secrets(OTHER_SECRET).caller_of(bearer(key=SECRET))) == "the token is signed with an unknown key"


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", rsa_key()), ("ES256", ec_key())])
def test_a_public_key_verifies_what_its_private_half_signed(algorithm: str, key: Any) -> None:
    authenticator = Authenticator(KeySet(keys_in_set({"keys": [public_jwk(key)]})))
    assert authenticator.caller_of(bearer(key=key, algorithm=algorithm)) == Caller(7)
    stranger: Any = rsa_key("other") if algorithm == "RS256" else ec_key("other")
    assert reason(authenticator.caller_of(bearer(key=stranger, algorithm=algorithm))) is not None


def test_audience_and_issuer_are_looked_at_when_they_are_set() -> None:
    careful = with_secrets(audience="shop", issuer="https://id.example")
    assert careful.caller_of(bearer(aud="shop", iss="https://id.example")) == Caller(7)
    assert careful.caller_of(bearer(aud=["blog", "shop"], iss="https://id.example")) == Caller(7)
    assert (
        reason(careful.caller_of(bearer(aud="blog", iss="https://id.example"))) == "the token is for another audience"
    )
    assert reason(careful.caller_of(bearer(aud="shop", iss="x"))) == "the token is from another issuer"
    assert reason(careful.caller_of(bearer(aud="shop"))) == "the token lacks a claim that is required"
    assert reason(careful.caller_of(bearer(iss="https://id.example"))) == "the token lacks a claim that is required"
    assert with_secrets().caller_of(bearer(aud="blog", iss="x")) == Caller(7)


# What is not


@pytest.mark.parametrize("header", [None, "", "Basic dTpw", "Digest x", "BearerX x"])
def test_who_sends_no_token_is_told_nothing_about_one(header: str | None) -> None:
    assert with_secrets().caller_of(header) == Unauthenticated()


@pytest.mark.parametrize("sub", ["", "0", "-7", "+7", "007", "7.0", "7 ", "٣", "9007199254740992", "x", 7, None, ["7"]])
def test_a_sub_that_is_no_user_id_is_refused(sub: Any) -> None:
    sent = f"Bearer {sign(good_claims() | {'sub': sub})}"
    assert isinstance(with_secrets().caller_of(sent), Unauthenticated)


@pytest.mark.parametrize("claim", ["exp", "sub"])
def test_a_token_that_never_expires_or_names_nobody_is_refused(claim: str) -> None:
    claims = good_claims()
    del claims[claim]
    assert reason(with_secrets().caller_of(f"Bearer {sign(claims)}")) == "the token lacks a claim that is required"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": "soon"},
        {"exp": None},
        {"exp": [1]},
        {"exp": True},
        {"nbf": "x"},
        {"nbf": float("inf")},
        {"iat": time.time() + 3600},
    ],
)
def test_claims_of_the_wrong_kind_are_refused_and_crash_nothing(claims: dict[str, Any]) -> None:
    assert isinstance(with_secrets().caller_of(f"Bearer {sign(good_claims() | claims)}"), Unauthenticated)


def test_no_token_may_choose_how_it_is_verified() -> None:
    """Alg none, and the public key of a pair taken for a shared secret: the two classics."""
    public = rsa_key()
    by_key = Authenticator(KeySet(keys_in_set({"keys": [public_jwk(public)]})))
    pem = public_pem(public)
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        unsigned = forged({"alg": algorithm, "typ": "JWT"}, good_claims(role="admin"))
        for authenticator in (with_secrets(), by_key):
            assert isinstance(authenticator.caller_of(f"Bearer {unsigned}"), Unauthenticated), algorithm
    confused = sign(good_claims(role="admin"), secret=pem.decode())
    assert reason(by_key.caller_of(f"Bearer {confused}")) == (
        "the token is signed with an algorithm that is not accepted"
    )
    for algorithm in ("HS384", "HS512"):
        assert isinstance(with_secrets().caller_of(bearer(algorithm=algorithm)), Unauthenticated), algorithm
    assert isinstance(with_secrets().caller_of(bearer(key=public, algorithm="RS256")), Unauthenticated)


def made_up() -> list[str]:
    """Made when it is sent: a good token in it that has ended meanwhile would be refused for that alone."""
    return [
        "",
        "x",
        "..",
        "a.b",
        "a.b.c.d",
        "선.착.순",
        "é.é.é",
        "\x00",
        "a" * LONGEST_HEADER,
        f"{token()} x",
        f"{token()},Bearer {token()}",
        f"{token()}x",
        token()[:-2],
        forged({}, {}),
        forged([], []),
        forged({"alg": ["HS256"]}, good_claims()),
        forged({"alg": "HS256", "crit": ["x"], "x": 1}, good_claims()),
        forged({"alg": "HS256", "kid": {"a": 1}}, good_claims()),
        forged({"alg": "HS256"}, "[" * 1000),
        "eyJhbGciOiJIUzI1NiJ9." + "W1tb" * 1500 + ".x",
    ]


def test_whatever_a_stranger_makes_up_is_malformed_and_crashes_nothing() -> None:
    keys = KeySet(keys_in_set({"keys": [public_jwk(rsa_key())]}))
    for sent in made_up():
        for authenticator in (with_secrets(), Authenticator(keys)):
            assert reason(authenticator.caller_of(f"Bearer {sent}")) is not None, sent


def test_one_changed_character_anywhere_makes_a_token_bad() -> None:
    good = token()
    authenticator = with_secrets()
    for place in range(0, len(good), 7):
        changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        assert isinstance(authenticator.caller_of(f"Bearer {changed}"), Unauthenticated), place


# Verified once


def test_a_token_is_verified_once_and_then_known(verified: list[str]) -> None:
    authenticator = with_secrets()
    sent = bearer()
    assert [authenticator.caller_of(sent) for _ in range(5)] == [Caller(7)] * 5
    assert len(verified) == 1
    authenticator.caller_of(bearer("8"))
    assert len(verified) == 2


def test_a_bad_token_is_never_remembered(verified: list[str]) -> None:
    authenticator = with_secrets()
    sent = bearer(key=OTHER_SECRET)
    for _ in range(3):
        assert isinstance(authenticator.caller_of(sent), Unauthenticated)
    assert len(verified) == 3


def test_a_known_token_expires_like_any_other(verified: list[str]) -> None:
    now = [time.time()]
    authenticator = with_secrets(now=lambda: now[0])
    sent = bearer(expires_in=-8)  # within the leeway, for two seconds more
    assert authenticator.caller_of(sent) == Caller(7)
    now[0] += 1
    assert authenticator.caller_of(sent) == Caller(7)
    assert len(verified) == 1
    now[0] += 3
    authenticator.caller_of(sent)
    assert len(verified) == 2  # no longer known: looked at again, and judged by its own words


def test_the_longest_unseen_tokens_are_forgotten_first(verified: list[str]) -> None:
    authenticator = with_secrets(remembered_tokens=2)
    first, second, third = (bearer(str(user)) for user in (1, 2, 3))
    for sent in (first, second, first, third):  # the second is now the longest unseen one
        authenticator.caller_of(sent)
    assert len(verified) == 3
    authenticator.caller_of(first)
    assert len(verified) == 3
    authenticator.caller_of(second)
    assert len(verified) == 4


def test_no_token_can_be_read_from_memory() -> None:
    authenticator = with_secrets()
    sent = bearer()
    authenticator.caller_of(sent)
    remembered = repr(vars(authenticator))
    assert sent not in remembered
    assert token() not in remembered
    assert SECRET not in remembered


def test_many_threads_may_ask_at_once() -> None:
    authenticator = with_secrets(remembered_tokens=5)
    sent = {user: bearer(str(user)) for user in range(1, 11)}
    wrong: list[Any] = []

    def ask() -> None:
        for _ in range(30):
            wrong.extend(
                (user, caller)
                for user, header in sent.items()
                if (caller := authenticator.caller_of(header)) != Caller(user)
            )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Rights


def test_users_act_for_themselves_and_administrators_for_anyone() -> None:
    user, admin = Caller(7), Caller(1, is_admin=True)
    assert (user.may_act_for(7), user.may_act_for(8), admin.may_act_for(8)) == (True, False, True)
    assert (user.only_sees, admin.only_sees) == (7, None)


# From settings


def test_without_authentication_there_is_nobody_who_asks() -> None:
    assert authenticator_from(Settings(**STORES)) is None


def test_each_source_of_keys_is_made_from_its_setting(tmp_path: Any) -> None:
    pem, key_set = tmp_path / "key.pem", tmp_path / "keys.json"
    pem.write_bytes(public_pem(ec_key()))
    key_set.write_text(json.dumps({"keys": [public_jwk(rsa_key(), kid="a"), public_jwk(ec_key(), kid="b")]}))
    by_secret = authenticator_from(Settings(**STORES, auth="jwt", jwt_secrets=(OTHER_SECRET, SECRET)))
    by_pem = authenticator_from(Settings(**STORES, auth="jwt", jwt_public_key=str(pem), jwt_audience="shop"))
    by_set = authenticator_from(Settings(**STORES, auth="jwt", jwt_key_set=str(key_set), jwt_issuer="us"))
    assert by_secret is not None
    assert by_pem is not None
    assert by_set is not None
    assert by_secret.caller_of(bearer()) == Caller(7)
    assert by_pem.caller_of(bearer(key=ec_key(), algorithm="ES256", aud="shop")) == Caller(7)
    assert isinstance(by_pem.caller_of(bearer(key=ec_key(), algorithm="ES256")), Unauthenticated)
    assert by_set.caller_of(bearer(key=rsa_key(), algorithm="RS256", kid="a", iss="us")) == Caller(7)
    assert by_set.caller_of(bearer(key=ec_key(), algorithm="ES256", kid="b", iss="us")) == Caller(7)
    for kid in ("b", "c", None):  # another key's name, nobody's, none where there are two
        assert isinstance(
            by_set.caller_of(bearer(key=rsa_key(), algorithm="RS256", kid=kid, iss="us")), Unauthenticated
        )
