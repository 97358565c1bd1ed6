"""``make token`` and the secret that ``make run`` makes for itself."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from engine.token_keys import key_of_secret
from ops.run import _needs_token_secret, _settings, _token_secret
from ops.stack import secret_path
from tests.integration.command_line import done, ops, refused
from tests.unit.bearers import OTHER_SECRET, SECRET
from web.key_sources import FixedKeys
from web.tokens import Authenticator, Caller, Unauthenticated

VARIABLES = ("JWT_SECRET", "JWT_SECRET_FILE", "JWT_PUBLIC_KEY", "JWT_JWKS", "JWT_AUDIENCE", "JWT_ISSUER", "DATA_DIR")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def caller_of(printed: str, secret: str = SECRET, **options: str) -> Caller | Unauthenticated:
    authenticator = Authenticator(FixedKeys([key_of_secret(secret)]), **options)  # type: ignore[arg-type]
    return authenticator.caller_of(f"Bearer {printed.strip()}")


def test_the_token_is_all_that_is_printed_and_names_the_user() -> None:
    secrets = {"JWT_SECRET": f"{SECRET} {OTHER_SECRET}"}  # new tokens are signed with the first
    assert caller_of(done(ops(None, "token", "--user", "7", **secrets))) == Caller(7)
    assert caller_of(done(ops(None, "token", "--user", "1", "--admin", **secrets))) == Caller(1, is_admin=True)


def test_the_token_is_for_and_from_whom_the_service_expects() -> None:
    expected = {"JWT_SECRET": SECRET, "JWT_AUDIENCE": "shop", "JWT_ISSUER": "us"}
    printed = done(ops(None, "token", "--user", "7", **expected))
    assert caller_of(printed, audience="shop", issuer="us") == Caller(7)
    assert isinstance(caller_of(printed, audience="blog"), Unauthenticated)


def test_a_token_is_good_for_as_long_as_is_asked_for() -> None:
    printed = done(ops(None, "token", "--user", "7", "--hours", "-1", JWT_SECRET=SECRET))
    assert caller_of(printed) == Unauthenticated("the token is expired")


@pytest.mark.parametrize("hours", ["nan", "inf", "-1e300", "soon"])
def test_only_a_time_is_taken_for_one(hours: str) -> None:
    assert "--hours" in refused(ops(None, "token", "--user", "7", "--hours", hours, JWT_SECRET=SECRET))


def test_the_secret_that_make_run_made_is_found_in_its_data_folder(tmp_path: Path) -> None:
    made = _token_secret({"AUTH": "jwt"}, tmp_path)["JWT_SECRET"]
    assert caller_of(done(ops(None, "token", "--user", "7", DATA_DIR=str(tmp_path))), made) == Caller(7)


def test_a_secret_in_a_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f"{SECRET}\n")
    assert caller_of(done(ops(None, "token", "--user", "7", JWT_SECRET_FILE=str(tmp_path / "file")))) == Caller(7)


@pytest.mark.parametrize(("name", "value"), [("JWT_PUBLIC_KEY", "key.pem"), ("JWT_JWKS", "x"), ("DATA_DIR", "/none")])
def test_with_nothing_to_sign_with_it_says_what_to_do(name: str, value: str) -> None:
    complaint = refused(ops(None, "token", "--user", "7", **{name: value}))
    assert ("JWT_SECRET" if name == "DATA_DIR" else name) in complaint


@pytest.mark.parametrize("user", ["", "root", "0", "-1", "007", "7.0", "٣", str(2**53)])
def test_only_a_user_id_is_taken_for_one(user: str) -> None:
    assert "make token USER=7" in refused(ops(None, "token", "--user", user, JWT_SECRET=SECRET))


# The secret of the local stack


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = _token_secret({"AUTH": "jwt"}, tmp_path)
    assert len(first["JWT_SECRET"]) >= 32
    assert _token_secret({"AUTH": "jwt"}, tmp_path) == first
    assert stat.S_IMODE(secret_path(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "given",
    [{}, {"AUTH": "off"}, *({"AUTH": "jwt", name: "x"} for name in VARIABLES[:4])],
)
def test_no_secret_is_made_that_is_not_needed(tmp_path: Path, given: dict[str, str]) -> None:
    assert _token_secret(given, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
@pytest.mark.parametrize("name", VARIABLES[:4])
def test_a_variable_that_is_blank_is_none_that_was_given(tmp_path: Path, name: str, blank: str) -> None:
    given = {"AUTH": "jwt", name: blank}
    assert "JWT_SECRET" in _token_secret(given, tmp_path)
    assert _settings(given)[0].auth == "jwt"


def test_the_stack_starts_without_a_secret_of_the_users_and_not_with_a_bad_one() -> None:
    assert _needs_token_secret({"AUTH": "jwt"})
    settings, _ = _settings({"AUTH": "jwt"})
    assert settings.auth == "jwt"
    with pytest.raises(Exception, match="JWT_SECRET: must have at least 32 bytes"):
        _settings({"AUTH": "jwt", "JWT_SECRET": "short"})
