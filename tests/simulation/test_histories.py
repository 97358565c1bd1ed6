"""Many short histories of the whole hand-over, each as its seed makes it: nothing may be off in any of them."""

from __future__ import annotations

from collections import Counter

from tests.simulation.examples import FIRST_SEED, HISTORIES
from tests.simulation.plan import PROFILES
from tests.simulation.run import Summary, minimal, play, play_many
from tests.simulation.stores import Stores


def test_nothing_is_off_in_any_history(stores: Stores) -> None:
    summary = Summary()
    for verdict in play_many(stores, range(FIRST_SEED, FIRST_SEED + HISTORIES)):
        summary.add(verdict)
        assert not verdict.violations, f"{verdict}\n\nthe same, as short as can be:\n{minimal(stores, verdict)}"
    print(summary)
    _assert_much_happened(summary.events)


def _assert_much_happened(events: Counter[str]) -> None:
    """A simulation in which nothing happens finds nothing."""
    expected = (
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
    rare = {name: events[name] for name in expected if events[name] < HISTORIES / 50}
    assert not rare


def test_the_same_seed_is_the_same_history(stores: Stores) -> None:
    for seed in (11, 12, 13):
        for profile in PROFILES.values():
            first, second = (play(stores, seed, profile).history for _ in range(2))
            assert second.lines == first.lines
            assert second.plan == first.plan
            assert play(stores, seed, profile, first.plan).history.lines == first.lines
