"""What a stack that is ready proposes to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import Settings
from ops.hints import hints

ADDRESS = "http://127.0.0.1:8000/"
OPEN = Settings(redis_url="", queue_redis_url="", database_url="")


def proposed(given: dict[str, str], settings: Settings = OPEN) -> dict[str, str]:
    """The rest of each line by its first word."""
    lines = hints(ADDRESS, settings, given, Path("/srv/var"))
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines}


def test_the_page_to_open_comes_first_then_the_rush_to_start() -> None:
    found = proposed({})
    assert list(found) == ["open", "rush", "docs", "stop"]
    assert found["open"] == (f"{ADDRESS} in a browser: the console, where a rush can be started")
    assert found["rush"].startswith("make rush, ")
    assert found["stop"].endswith("/srv/var")


def test_commands_find_the_stack_that_proposed_them() -> None:
    assert proposed({"DATA_DIR": "here"})["rush"].startswith("DATA_DIR=here make rush, ")


@pytest.mark.parametrize("name", ["JWT_SECRET", "JWT_SECRET_FILE"])
def test_a_token_is_signed_with_the_secret_that_the_stack_was_given(name: str) -> None:
    found = proposed({name: "a secret"}, Settings("", "", "", auth="jwt", jwt_secrets=("a secret",)))
    assert found["token"].startswith(f"{name}=… make token USER=7 ADMIN=1, ")
    assert "a secret" not in str(found)


def test_in_a_shop_that_is_none_to_play_with_the_page_starts_no_rush() -> None:
    assert "rush" not in proposed({"DEMO_DATA": "0"})["open"]


@pytest.mark.parametrize(
    ("settings", "begins"),
    [
        (Settings("", "", "", auth="jwt", jwt_secrets=("x",)), "make token USER=7 ADMIN=1, "),
        (Settings("", "", "", auth="jwt", jwt_public_key="key.pem"), "an administrator's, from whoever signs yours"),
        (Settings("", "", "", auth="jwt", jwt_key_set="keys.json"), "an administrator's, from whoever signs yours"),
    ],
)
def test_where_callers_say_who_they_are_a_token_is_what_is_needed_first(settings: Settings, begins: str) -> None:
    found = proposed({}, settings)
    assert list(found) == ["open", "token", "docs", "stop"]
    assert found["token"].startswith(begins)
