"""A stack for a crowd, started beside the settings of somebody's own."""

from __future__ import annotations

import pytest

from engine.config import Settings
from loadtests.private_stack import inherited_environ

OWN = {"REDIS_URL": "redis://127.0.0.1:6379/0", "DATABASE_URL": "postgresql://seonchak@127.0.0.1/seonchak"}
GUARDED = {"AUTH": "jwt", "JWT_SECRET": "s" * 32, "LIMIT_PER_USER": "5", "LIMIT_PER_ADDRESS": "7"}


def test_a_private_stack_starts_and_limits_nobody_beside_the_settings_of_a_guarded_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**GUARDED, "LANES": "4"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment({**inherited_environ(), **OWN})
    assert (settings.auth, settings.limit_per_user, settings.limit_per_address) == ("off", 0, 0)
    assert settings.lanes == 4
