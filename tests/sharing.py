"""Which worker runs which tests, and in which order: what takes long to start is started once, and not at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

TESTS = Path(__file__).parent
TOGETHER = ("tests/shop/", "tests/browser/")
"""Folders whose tests share a running stack: in the hands of several workers each would start its own."""
LONGEST_FIRST = ("shop", "e2e", "cluster", "browser", "simulation", "faults", "stack", "audit", "integration")
"""Folders that take long, before those that are done in seconds: what is left for the end is short."""


class SharedStacks(LoadFileScheduling):
    """A worker takes a file at a time, or a whole folder that shares a stack."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))


def place_in_line(item: pytest.Item) -> int:
    """To order the folders by; within a folder everything stays as it is."""
    folder = item.path.relative_to(TESTS).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
