"""Making live what was only recorded, of coupons and products alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from engine.errors import GateUnavailable

Offer = TypeVar("Offer")


def publish_each(offers: Iterable[Offer], publish: Callable[[Offer], None]) -> int:
    """Publish every offer that can be; how many that were.

    One whose lane is not ready, or whose server is away, comes again in a second; the others need not wait.
    """
    published = 0
    for offer in offers:
        with suppress(GateUnavailable):
            publish(offer)
            published += 1
    return published
