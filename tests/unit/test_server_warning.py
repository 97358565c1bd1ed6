"""Servers with the known Lua vulnerability are named, others are not."""

from __future__ import annotations

import pytest

from engine.gate.server import warning_for


@pytest.mark.parametrize("version", ["6.2.19", "7.0.15", "7.2.4", "7.4.5", "8.0.3", "8.2.1"])
def test_an_affected_redis_is_warned_about(version: str) -> None:
    warning = warning_for({"redis_version": version})
    assert warning is not None
    assert version in warning


@pytest.mark.parametrize("version", ["6.2.20", "7.2.11", "7.4.6", "8.2.2", "8.4.0", "9.0.1", "unknown", ""])
def test_a_fixed_or_unknown_redis_is_not(version: str) -> None:
    assert warning_for({"redis_version": version}) is None


def test_valkey_is_judged_by_its_own_version_and_not_by_the_redis_it_imitates() -> None:
    assert warning_for({"redis_version": "7.2.4", "valkey_version": "9.1.2"}) is None
    assert warning_for({"redis_version": "7.2.4", "valkey_version": "8.1.3"}) is not None
