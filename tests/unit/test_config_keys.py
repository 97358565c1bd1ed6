"""The settings of AUTH=jwt: one source of keys, usable, and never told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine.config import Settings
from engine.errors import InvalidSettings
from tests.unit.bearers import OTHER_SECRET, SECRET, ec_key, private_pem, public_jwk, public_pem, rsa_key
from tests.unit.test_config import ENOUGH, problems_of

JWT = {**ENOUGH, "AUTH": "jwt"}
SHORT = "x" * 31


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a file with this content; its path."""

    def write(content: bytes | str) -> str:
        path = tmp_path / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def test_with_tokens_every_address_may_be_listened_on() -> None:
    settings = Settings.from_environment({**JWT, "JWT_SECRET": SECRET, "HOST": "0.0.0.0"})  # noqa: S104
    assert (settings.auth, settings.jwt_secrets, settings.host) == ("jwt", (SECRET,), "0.0.0.0")  # noqa: S104


def test_several_secrets_are_separated_by_spaces() -> None:
    settings = Settings.from_environment({**JWT, "JWT_SECRET": f" {SECRET}  {OTHER_SECRET} "})
    assert settings.jwt_secrets == (SECRET, OTHER_SECRET)


def test_audience_and_issuer_are_taken_as_they_are() -> None:
    environ = {**JWT, "JWT_SECRET": SECRET, "JWT_AUDIENCE": "shop", "JWT_ISSUER": "https://id.example"}
    settings = Settings.from_environment(environ)
    assert (settings.jwt_audience, settings.jwt_issuer) == ("shop", "https://id.example")


def test_each_source_of_keys_is_enough(write: Any) -> None:
    for key in (rsa_key(), ec_key()):
        path = write(public_pem(key))
        assert Settings.from_environment({**JWT, "JWT_PUBLIC_KEY": path}).jwt_public_key == path
    path = write(json.dumps({"keys": [public_jwk(rsa_key(), kid="a")]}))
    assert Settings.from_environment({**JWT, "JWT_JWKS": path}).jwt_key_set == path
    for address in ("https://id.example/keys", "http://127.0.0.1:9/keys"):
        assert Settings.from_environment({**JWT, "JWT_JWKS": address}).jwt_key_set == address


def test_a_secret_may_be_kept_in_a_file(write: Any) -> None:
    path = write(f"{SECRET} {OTHER_SECRET}\n")
    assert Settings.from_environment({**JWT, "JWT_SECRET_FILE": path}).jwt_secrets == (SECRET, OTHER_SECRET)
    assert problems_of({**JWT, "JWT_SECRET_FILE": path, "JWT_SECRET": SECRET}) == ["JWT_SECRET_FILE"]
    assert problems_of({**JWT, "JWT_SECRET_FILE": path + "x"})[0] == "JWT_SECRET_FILE"


def test_no_source_and_more_than_one_are_refused(write: Any) -> None:
    sources = {"JWT_SECRET": SECRET, "JWT_PUBLIC_KEY": write(public_pem(ec_key())), "JWT_JWKS": "https://id.example/"}
    for given in ({}, *(sources.keys() - {name} for name in sources), sources):
        with pytest.raises(InvalidSettings) as refused:
            Settings.from_environment({**JWT, **{name: sources[name] for name in given}})
        [problem] = refused.value.problems
        assert problem.startswith("JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS: AUTH=jwt needs exactly one of them")


def test_without_tokens_their_settings_do_not_count() -> None:
    assert Settings.from_environment({**ENOUGH, "JWT_SECRET": SHORT}).auth == "off"


@pytest.mark.parametrize("secret", [SHORT, f"{SECRET} {SHORT}", "é" * 15])
def test_a_short_secret_is_refused_and_not_quoted(secret: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_environment({**JWT, "JWT_SECRET": secret})
    assert refused.value.problems[0].startswith("JWT_SECRET: must have at least 32 bytes")
    assert not any(part in str(refused.value) for part in secret.split())
    Settings.from_environment({**JWT, "JWT_SECRET": "é" * 16})


USELESS_PEMS = {
    "not a key": b"hello",
    "empty": b"",
    "private": private_pem(rsa_key()),
    "short": public_pem(rsa_key("short", bits=1024)),
    "another curve": public_pem(ec_key("wide", curve=ec.SECP384R1)),
    "a curve without a name in JWK": public_pem(ec_key("brain", curve=ec.BrainpoolP256R1)),
    "another kind": ed25519.Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "damaged": public_pem(rsa_key()).replace(b"MII", b"XXX"),
    "huge": b"x" * 300_000,
}


@pytest.mark.parametrize("content", USELESS_PEMS.values(), ids=USELESS_PEMS.keys())
def test_a_file_without_a_usable_public_key_is_refused_and_not_quoted(write: Any, content: bytes) -> None:
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_environment({**JWT, "JWT_PUBLIC_KEY": write(content)})
    [problem] = refused.value.problems
    assert problem.startswith("JWT_PUBLIC_KEY: ")
    told = set(content.decode().splitlines()) & set(problem.splitlines())
    assert not told
    assert len(problem) < 400


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "eHg"}]}', "[" * 9999]
)
def test_a_key_set_without_a_usable_key_is_refused(write: Any, content: str) -> None:
    assert problems_of({**JWT, "JWT_JWKS": write(content)}) == ["JWT_JWKS"]


@pytest.mark.parametrize("name", ["JWT_PUBLIC_KEY", "JWT_JWKS"])
@pytest.mark.parametrize("path", ["/nowhere", "/", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(name: str, path: str) -> None:
    assert problems_of({**JWT, name: path}) == [name]


@pytest.mark.parametrize("address", ["ftp://id.example/keys", "https://", "https:///keys", "http://[::1", "file:///x"])
def test_an_address_that_cannot_have_keys_is_refused(address: str) -> None:
    assert problems_of({**JWT, "JWT_JWKS": address}) == ["JWT_JWKS"]


def test_wrong_keys_are_named_together_with_all_that_is_wrong_besides() -> None:
    assert problems_of({**JWT, "JWT_SECRET": SHORT, "PORT": "0"}) == ["PORT", "JWT_SECRET"]


def test_settings_do_not_tell_their_secrets() -> None:
    settings = Settings.from_environment({**JWT, "JWT_SECRET": SECRET})
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
