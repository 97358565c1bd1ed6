"""What some of these tests have in common: a lane or the ledger alone, and for follow-ups the stand-in for the data
platform and delays without chance."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine.context import Engine
from engine.flow import followups
from engine.flow.followups import retry_delay_seconds
from engine.gate.gate import Gate
from engine.ledger.session import Ledger
from ops.mock_data_platform import MockDataPlatform
from tests.integration.lane_driver import LaneDriver
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


@pytest.fixture(params=[0, 13], ids=["lane 0", "lane 13"])
def lane(redis_url: str, request: pytest.FixtureRequest) -> Iterator[LaneDriver]:
    """A lane of an empty server."""
    gate = Gate.connect(redis_url, lanes=16, backlog_limit=1_000_000, timeout_seconds=5)
    lane = LaneDriver(gate, request.param)
    lane.client.flushdb()
    yield lane
    gate.close()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """The ledger alone, with nothing in it."""
    ledger = Ledger(database_url)
    yield ledger
    ledger.close()
