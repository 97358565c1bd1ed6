"""What tests of follow-ups have in common: the stand-in for the data platform, and delays without chance."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine.context import Engine
from engine.flow import followups
from engine.flow.followups import retry_delay_seconds
from ops.mock_data_platform import MockDataPlatform
from tests.integration.placed_orders import SECRET, with_settings


@pytest.fixture
def longest_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance has no say here: a failed row is due again when the test says so, or in two seconds at the earliest."""
    monkeypatch.setattr(followups, "retry_delay_seconds", lambda attempts: retry_delay_seconds(attempts, lambda: 1.0))


@pytest.fixture
def platform() -> Iterator[MockDataPlatform]:
    """The stand-in, serving."""
    platform = MockDataPlatform(0, SECRET)
    thread = threading.Thread(target=platform.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield platform
    platform.stop()
    thread.join()


@pytest.fixture
def connected(engine: Engine, platform: MockDataPlatform) -> Iterator[Engine]:
    """An engine that knows the platform."""
    connected = with_settings(engine, data_platform_url=platform.url, data_platform_secret=SECRET)
    yield connected
    connected.close()
