"""What needs a stack of its own takes long: ``make test-long`` runs it."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Of the tests of this folder."""
    item.add_marker(pytest.mark.long)
