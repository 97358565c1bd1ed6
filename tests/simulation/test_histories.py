"""Many short histories of the whole hand-over, each as its seed makes it: nothing may be off in any of them."""

from __future__ import annotations

import pytest

from tests.simulation.examples import FIRST_SEED, HISTORIES
from tests.simulation.plan import PROFILES
from tests.simulation.run import Summary, minimal, play, play_many
from tests.simulation.stores import Stores

EXPECTED = (
    "coupon COMPLETED",
    "coupon FAILED (TEMPORARY_ERROR)",
    "order COMPLETED",
    "order FAILED (INSUFFICIENT_BALANCE)",
    "order FAILED (TEMPORARY_ERROR)",
    "orders cancelled",
    "epochs begun",
    "is killed before",
    "goes on",
    "forgets everything",
    "comes back as it was at step",
    "waits for locks",
    "has waited for a lock for too long",
    "loses its session",
    "delivers what was given up",
)
"""What has to happen in one history of a hundred at least."""
PER_TEST = 50
"""As many as are over long before a test takes too long, on a machine that others use, too."""
BLOCKS = [
    range(first, min(first + PER_TEST, FIRST_SEED + HISTORIES))
    for first in range(FIRST_SEED, FIRST_SEED + HISTORIES, PER_TEST)
]


@pytest.fixture(scope="module")
def summary() -> Summary:
    """What became of all histories of these tests."""
    return Summary()


@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_nothing_is_off_in_any_history(stores: Stores, summary: Summary, seeds: range) -> None:
    for verdict in play_many(stores, seeds):
        summary.add(verdict)
        assert not verdict.violations, f"{verdict}\n\nthe same, as short as can be:\n{minimal(stores, verdict)}"


def test_much_happened_in_them(stores: Stores, summary: Summary) -> None:
    """A simulation in which nothing happens finds nothing."""
    if not summary.histories:  # this test was asked for alone
        for verdict in play_many(stores, BLOCKS[0]):
            summary.add(verdict)
    histories = sum(summary.histories.values())
    print(summary)
    rare = {name: summary.events[name] for name in EXPECTED if summary.events[name] < histories / 100}
    assert not rare


def test_the_same_seed_is_the_same_history(stores: Stores) -> None:
    for seed in (11, 12, 13):
        for profile in PROFILES.values():
            first, second = (play(stores, seed, profile).history for _ in range(2))
            assert second.lines == first.lines
            assert second.plan == first.plan
            assert play(stores, seed, profile, first.plan).history.lines == first.lines
