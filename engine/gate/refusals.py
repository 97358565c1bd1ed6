"""How often something was refused, and why: for people who look. No decision reads it; losing it means nothing."""

from __future__ import annotations

from collections.abc import Mapping

from engine.gate import keys
from engine.gate.gate import Gate, unavailability_translated


def add_refusals(gate: Gate, counts: Mapping[str, int]) -> None:
    """Add to the counts, by ``<code>`` or ``<code>:<reason>``, in one round trip.

    Raises GateUnavailable; after a time-out they may have been counted all the same.
    """
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for name, count in counts.items():
            pipeline.hincrby(keys.refusals(), name, count)
        pipeline.execute()
