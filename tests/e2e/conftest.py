"""Two shops for the end-to-end tests: one as it comes, and one whose stores a test may take away for a while.

They live as long as these tests go on: a stack that nobody asks anything costs some of the other tests' time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import httpx
import pytest

from ops.postgres import discard_postgres
from tests.e2e.whole_stack import BreakableShop, Shop, new_folder, open_breakable_shop, open_shop


@pytest.fixture(scope="package")
def shop() -> Iterator[Shop]:
    """The whole stack on stores of its own."""
    shop = open_shop()
    yield shop
    shop.close()


@pytest.fixture(scope="package")
def client(shop: Shop) -> httpx.Client:
    """A client of the shop."""
    return shop.client


@pytest.fixture(scope="package")
def breakable_shop() -> Iterator[BreakableShop]:
    """The whole stack on stores that can be killed. Whoever kills one brings it back."""
    stores = new_folder()
    shop = open_breakable_shop(stores)
    yield shop
    shop.close()
    discard_postgres(stores / "postgres")
    shutil.rmtree(stores, ignore_errors=True)
