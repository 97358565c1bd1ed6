"""One running shop for all tests of this folder; some take its stores or processes away, and bring them back.

A whole stack takes longer to start than most of these tests to run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import httpx
import pytest

from ops.postgres import discard_postgres
from tests.e2e.whole_stack import BreakableShop, new_folder, open_breakable_shop


@pytest.fixture(scope="package")
def shop() -> Iterator[BreakableShop]:
    """The whole stack on stores that can be killed, which writes down everything that it does, for machines."""
    stores = new_folder()
    shop = open_breakable_shop(stores, LOG_FORMAT="json", LOG_LEVEL="debug")
    yield shop
    shop.close()
    discard_postgres(stores / "postgres")
    shutil.rmtree(stores, ignore_errors=True)


@pytest.fixture(scope="package")
def client(shop: BreakableShop) -> httpx.Client:
    """A client of the shop."""
    return shop.client
