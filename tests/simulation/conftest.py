"""The stores of the simulation: a database of its own on the servers that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.stores import Stores


@pytest.fixture(scope="module")
def stores(redis_url: str, postgres_url: str) -> Iterator[Stores]:
    with Stores.connect(redis_url, postgres_url) as stores:
        yield stores
