"""Settings: read once, every problem named at once, nothing guessed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from engine.config import Settings, is_loopback
from engine.errors import EngineError, InvalidSettings

REDIS = "redis://127.0.0.1:6379/0"
POSTGRES = "postgresql://seonchak@127.0.0.1:5432/seonchak"
ENOUGH = {"REDIS_URL": REDIS, "DATABASE_URL": POSTGRES}


def problems_of(environ: dict[str, str]) -> list[str]:
    """The variables that are complained about, in the order in which they are named."""
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_environment(environ)
    assert all(problem in str(refused.value) for problem in refused.value.problems)
    return [problem.partition("=")[0].partition(":")[0].partition(" ")[0] for problem in refused.value.problems]


def test_two_addresses_are_enough_and_the_rest_has_defaults() -> None:
    settings = Settings.from_environment(ENOUGH)
    assert settings == Settings(
        redis_url=REDIS,
        queue_redis_url=REDIS,
        database_url=POSTGRES.replace("postgresql://", "postgresql+psycopg://"),
    )
    assert (settings.lanes, settings.host, settings.port, settings.auth) == (1, "127.0.0.1", 8000, "off")


def test_every_setting_is_taken_from_its_variable() -> None:
    settings = Settings.from_environment(
        {
            "REDIS_URL": "redis+cluster://127.0.0.1:7000",
            "QUEUE_REDIS_URL": "rediss://127.0.0.1:7001",
            "DATABASE_URL": POSTGRES,
            "LANES": "16",
            "HOST": "localhost",
            "PORT": "8123",
            "AUTH": "off",
            "BACKLOG_LIMIT": "17",
            "LEDGER_POOL_SIZE": "3",
            "DATA_PLATFORM_URL": "https://platform.example/events",
            "DATA_PLATFORM_SECRET": "hush",
        }
    )
    assert settings.queue_redis_url == "rediss://127.0.0.1:7001"
    assert (settings.lanes, settings.host, settings.port) == (16, "localhost", 8123)
    assert (settings.backlog_limit, settings.ledger_pool_size) == (17, 3)
    assert (settings.data_platform_url, settings.data_platform_secret) == ("https://platform.example/events", "hush")


def test_everything_that_is_missing_is_named_at_once() -> None:
    assert problems_of({}) == ["REDIS_URL", "QUEUE_REDIS_URL", "DATABASE_URL"]


def test_everything_that_is_wrong_is_named_at_once() -> None:
    wrong = {
        "REDIS_URL": "http://127.0.0.1",
        "QUEUE_REDIS_URL": "redis+cluster://127.0.0.1",
        "DATABASE_URL": "mysql://127.0.0.1",
        "LANES": "0",
        "PORT": "eighty",
        "AUTH": "maybe",
        "BACKLOG_LIMIT": "-1",
        "LEDGER_POOL_SIZE": "1.5",
        "DATA_PLATFORM_URL": "ftp://platform.example",
        "HOST": "0.0.0.0",  # noqa: S104 - this is what has to be refused
    }
    assert sorted(problems_of(wrong)) == sorted([*wrong, "DATA_PLATFORM_SECRET"])


@pytest.mark.parametrize("name", ["LANES", "PORT", "BACKLOG_LIMIT", "LEDGER_POOL_SIZE"])
@pytest.mark.parametrize("value", ["0", "-1", "+1", "1.0", "1e3", "0x10", "１", "²", "nan", "1_000", "9" * 30])
def test_a_number_is_plain_digits_within_its_range(name: str, value: str) -> None:
    assert problems_of({**ENOUGH, name: value}) == [name]


@pytest.mark.parametrize(("name", "least", "most"), [("LANES", 1, 1024), ("PORT", 1, 65535)])
def test_the_ends_of_a_range_belong_to_it(name: str, least: int, most: int) -> None:
    for value in (least, most):
        assert getattr(Settings.from_environment({**ENOUGH, name: str(value)}), name.lower()) == value
    for value in (least - 1, most + 1):
        assert problems_of({**ENOUGH, name: str(value)}) == [name]


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"])
def test_the_queue_lives_where_the_gate_lives_unless_told_otherwise(scheme: str) -> None:
    assert Settings.from_environment({**ENOUGH, "REDIS_URL": f"{scheme}://x"}).queue_redis_url == f"{scheme}://x"


def test_the_queue_cannot_live_on_a_cluster() -> None:
    for scheme in ("redis+cluster", "rediss+cluster"):
        cluster = {**ENOUGH, "REDIS_URL": f"{scheme}://127.0.0.1:7000"}
        assert problems_of(cluster) == ["QUEUE_REDIS_URL"]
        assert Settings.from_environment({**cluster, "QUEUE_REDIS_URL": REDIS}).queue_redis_url == REDIS


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_postgres_means_the_same_driver(scheme: str) -> None:
    settings = Settings.from_environment({**ENOUGH, "DATABASE_URL": f"{scheme}://u:p@h/d"})
    assert settings.database_url == "postgresql+psycopg://u:p@h/d"


def test_spaces_around_a_value_do_not_count_and_an_empty_one_is_a_missing_one() -> None:
    settings = Settings.from_environment(
        {**ENOUGH, "REDIS_URL": f"  {REDIS}\n", "LANES": " 4 ", "PORT": "", "HOST": " "}
    )
    assert (settings.redis_url, settings.lanes, settings.port, settings.host) == (REDIS, 4, 8000, "127.0.0.1")
    assert problems_of({**ENOUGH, "DATABASE_URL": "  "}) == ["DATABASE_URL"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_without_authentication_loopback_is_allowed(host: str) -> None:
    assert is_loopback(host)
    assert Settings.from_environment({**ENOUGH, "HOST": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "10.0.0.1", "example.org", "localhost.evil", "127.1"])  # noqa: S104
def test_without_authentication_every_other_address_is_refused(host: str) -> None:
    assert not is_loopback(host)
    assert problems_of({**ENOUGH, "HOST": host}) == ["HOST"]


def test_what_is_signed_needs_a_secret() -> None:
    assert problems_of({**ENOUGH, "DATA_PLATFORM_URL": "http://127.0.0.1:9"}) == ["DATA_PLATFORM_SECRET"]


@pytest.mark.parametrize("url", ["platform.example", "http://", "https:///path", "http://[::1", "file:///etc/passwd"])
def test_an_address_of_the_data_platform_that_cannot_be_is_refused(url: str) -> None:
    assert problems_of({**ENOUGH, "DATA_PLATFORM_URL": url, "DATA_PLATFORM_SECRET": "x"}) == ["DATA_PLATFORM_URL"]


def test_settings_cannot_be_changed_and_do_not_tell_their_secret() -> None:
    settings = Settings.from_environment({**ENOUGH, "DATA_PLATFORM_SECRET": "hush"})
    assert "hush" not in repr(settings)
    with pytest.raises(FrozenInstanceError):
        settings.lanes = 2  # type: ignore[misc]


def test_settings_that_are_printed_show_no_password_that_is_in_an_address() -> None:
    settings = Settings.from_environment(
        {
            "REDIS_URL": "rediss://gate:hush@127.0.0.1:7000",
            "QUEUE_REDIS_URL": "redis://:hush@127.0.0.1:7001",
            "DATABASE_URL": "postgresql://seonchak:hush@127.0.0.1/seonchak",
            "DATA_PLATFORM_URL": "https://us:hush@platform.example/events",
            "DATA_PLATFORM_SECRET": "hush",
            "AUTH": "jwt",
            "JWT_JWKS": "https://us:hush@keys.example/jwks.json",
        }
    )
    assert [name for name, value in vars(settings).items() if "hush" in str(value)] != []
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)


def test_the_environment_of_the_process_is_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ENOUGH, "LANES": "3"}.items():
        monkeypatch.setenv(name, value)
    for name in ("QUEUE_REDIS_URL", "HOST", "PORT", "AUTH", "DATA_PLATFORM_URL", "BACKLOG_LIMIT", "LEDGER_POOL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Settings.from_environment().lanes == 3


def test_wrong_settings_are_an_error_of_the_engine_that_names_them_line_by_line() -> None:
    error = InvalidSettings(["A is not set", "B=1: must be 2"])
    assert isinstance(error, EngineError)
    assert str(error) == "wrong settings:\n  - A is not set\n  - B=1: must be 2"
