"""Heartbeats: who is alive, for readiness and for people. Losing them means nothing."""

from __future__ import annotations

from engine.errors import EngineError
from engine.gate import keys
from engine.gate.gate import Gate, unavailability_translated

HEARTBEAT_SECONDS = 5


def beat(gate: Gate, name: str) -> None:
    """Tell that ``name`` is alive. Never raises: a heart that Redis cannot hear is still beating."""
    try:
        with unavailability_translated():
            gate.client.set(keys.heartbeat(name), "1", ex=HEARTBEAT_SECONDS)
    except EngineError:
        return


def is_alive(gate: Gate, name: str) -> bool:
    """Whether ``name`` was heard lately."""
    with unavailability_translated():
        return bool(gate.client.exists(keys.heartbeat(name)))
