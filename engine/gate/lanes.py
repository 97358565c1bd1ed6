"""Closing and approving lanes, and what they know: the guard's side of the gate. ``building.py`` has the rebuild's."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from engine.errors import GateUnavailable
from engine.gate import keys
from engine.gate.building import Superseded
from engine.gate.gate import Gate, LaneState, unavailability_translated


def close_lane(gate: Gate, state: LaneState) -> str:
    """From now on the lane decides nothing; the claim to build it, which lasts until somebody else closes the lane.

    Whoever means to take an epoch for that has to have read the ledger's newest one before. Raises Superseded if it is
    not the lane any more that was examined.
    """
    claim = secrets.token_hex(8)
    reply = gate.run("close_lane", [keys.lane(state.lane)], [_text(state.epoch), claim])
    if reply[0] == "lane_changed":
        raise Superseded(f"lane {state.lane} was opened by somebody else under epoch {reply[1]}")
    return claim


def approve_lane(gate: Gate, state: LaneState, epoch: int) -> None:
    """Let the lane go on under this epoch. Raises GateUnavailable if it is not the lane any more that was examined."""
    reply = gate.run(
        "approve_lane", [keys.lane(state.lane)], [epoch, state.replid, _text(state.epoch), _text(state.last_number)]
    )
    if reply[0] == "server_changed":
        raise GateUnavailable(f"the server of lane {state.lane} changed while the lane was being approved")
    if reply[0] == "lane_changed":
        raise GateUnavailable(f"lane {state.lane} was changed by somebody else while it was being approved")


def require_built(gate: Gate, lane: int, epochs: Mapping[int, int]) -> None:
    """Let the lane accept no order any more on what another one held before it was built in this epoch (by lane)."""
    arguments = [number for pair in sorted(epochs.items()) for number in pair]
    if arguments:
        gate.run("require_built", [keys.lane(lane)], arguments)


def known_versions(gate: Gate, entity_keys: Sequence[str]) -> dict[str, int]:
    """The version of each coupon or product that the gate knows, by key; 0 for one that it does not."""
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for key in entity_keys:
            pipeline.hget(key, "version")
        versions = pipeline.execute() if entity_keys else []
    return {key: int(version or 0) for key, version in zip(entity_keys, versions, strict=True)}


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
