"""Making live what was only recorded, of coupons and products alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from engine.errors import GateUnavailable

Offer = TypeVar("Offer")


Told = Callable[[int], None]
"""Hears how many more are done with."""


def tell_nobody(_count: int) -> None:
    """Nobody looks on."""


def publish_each(offers: Iterable[Offer], publish: Callable[[Offer], None], told: Told = tell_nobody) -> int:
    """Publish every offer that can be; how many that were.

    One whose lane is not ready, or whose server is away, comes again in a second; the others need not wait.
    """
    published = 0
    for offer in offers:
        with suppress(GateUnavailable):
            publish(offer)
            published += 1
        told(1)
    return published
