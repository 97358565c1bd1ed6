"""Whose turn it is to fill a cache."""

from __future__ import annotations

from engine.gate import keys
from engine.gate.gate import Gate, unavailability_translated

FILLING_MS = 5000
"""Longer than a query may take; who dies while asking holds the others up for no longer than they wait anyway."""


def begin(gate: Gate, name: str) -> bool:
    """Become the one who fills this cache; False while somebody else is. Raises GateUnavailable."""
    with unavailability_translated():
        return bool(gate.client.set(keys.filling(name), "1", nx=True, px=FILLING_MS))


def end(gate: Gate, name: str) -> None:
    """Let others have a turn. Raises GateUnavailable.

    It may end another's, if ours took too long: that costs a query.
    """
    with unavailability_translated():
        gate.client.delete(keys.filling(name))
