"""A shop whose stores and processes the tests of this folder take away; each test leaves it in order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from ops.postgres import discard_postgres
from tests.e2e.whole_stack import BreakableShop, new_folder, open_breakable_shop


@pytest.fixture(scope="package")
def shop() -> Iterator[BreakableShop]:
    """The whole stack on stores that can be killed; it may be restarted as often as it is killed."""
    stores = new_folder()
    shop = open_breakable_shop(stores)
    yield shop
    shop.close()
    discard_postgres(stores / "postgres")
    shutil.rmtree(stores, ignore_errors=True)
