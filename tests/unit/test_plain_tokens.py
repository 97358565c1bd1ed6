"""Tokens that are recognised without the library: never one that the library would have refused, or read otherwise."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.token_keys import keys_in_set
from tests.unit.bearers import OTHER_SECRET, SECRET, bearer, ec_key, good_claims, public_jwk, sign, with_secrets
from web.key_sources import KeySet
from web.tokens import Authenticator, Caller


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that the library has judged."""
    seen: list[str] = []
    decode = jwt.decode

    def count(text: str, *arguments: Any, **options: Any) -> Any:
        seen.append(text)
        return decode(text, *arguments, **options)

    monkeypatch.setattr(jwt, "decode", count)
    return seen


def test_tokens_like_one_that_the_library_accepted_are_recognised_without_it(decoded: list[str]) -> None:
    authenticator = with_secrets(SECRET, OTHER_SECRET)
    users = [authenticator.caller_of(bearer(str(user), role="admin")) for user in range(1, 6)]
    assert users == [Caller(user, is_admin=True) for user in range(1, 6)]
    assert authenticator.caller_of(bearer(key=OTHER_SECRET)) == Caller(7)
    assert len(decoded) == 1


def test_a_token_with_a_key_pair_is_always_the_librarys_to_judge(decoded: list[str]) -> None:
    authenticator = Authenticator(KeySet(keys_in_set({"keys": [public_jwk(ec_key())]})))
    for user in range(1, 4):
        assert authenticator.caller_of(bearer(str(user), key=ec_key(), algorithm="ES256")) == Caller(user)
    assert len(decoded) == 3


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.deferred(lambda: st.integers(int(time.time()) - 40, int(time.time()) + 40)),  # of now, not of the collection
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["7", "shop", "blog", "us", "admin"]),
    st.lists(st.sampled_from(["shop", "blog", 1]), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
LEFT_OUT = "left out"
CHANGES = st.dictionaries(
    st.sampled_from(["sub", "exp", "aud", "iss", "nbf", "iat", "jti", "role", "x"]),
    st.one_of(st.just(LEFT_OUT), ODD),
    max_size=2,
)
"""What differs from plain claims: often nothing, so that both kinds of verdict are common."""


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(
    changes=CHANGES,
    header=st.sampled_from([{"alg": "HS256", "typ": "JWT"}, {"alg": "HS256"}, {"alg": "HS256", "b64": False}]),
    secret=st.sampled_from([SECRET, OTHER_SECRET, SECRET.upper()]),
    spoil=st.one_of(st.none(), st.tuples(st.integers(0, 400), st.sampled_from("A.=_-é+/ "))),
    audience=st.sampled_from(["", "shop"]),
    issuer=st.sampled_from(["", "us"]),
)
def test_whatever_is_recognised_is_what_the_library_would_have_accepted(
    changes: dict[str, Any], header: Any, secret: str, spoil: tuple[int, str] | None, audience: str, issuer: str
) -> None:
    claims = {**good_claims(aud="shop", iss="us"), **changes}
    sent = sign({name: value for name, value in claims.items() if value != LEFT_OUT}, header, secret)
    if spoil is not None:
        place = spoil[0] % len(sent)
        sent = sent[:place] + spoil[1] + sent[place + 1 :]
    experienced, inexperienced = (
        with_secrets(SECRET, OTHER_SECRET, audience=audience, issuer=issuer) for _ in range(2)
    )
    for known in ({"alg": "HS256", "typ": "JWT"}, {"alg": "HS256"}):
        plain = sign(good_claims(aud="shop", iss="us"), known)
        assert experienced.caller_of(f"Bearer {plain}") == Caller(7)
    assert experienced.caller_of(f"Bearer {sent}") == inexperienced.caller_of(f"Bearer {sent}")
