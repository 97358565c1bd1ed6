"""Opening and closing lanes: the guard's and the rebuild's side of the gate."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import GateUnavailable
from engine.gate import keys
from engine.gate.gate import Gate, unavailability_translated


def open_lane(
    gate: Gate, lane: int, *, epoch: int, replid: str, last_number: int, request_key: str, rebuilt: bool
) -> None:
    """Let a lane decide, on the server with this replication id only. Raises GateUnavailable if another one answers."""
    reply = gate.run(
        "open_lane", [keys.lane(lane)], [epoch, replid, last_number, gate.lanes, request_key, int(rebuilt)]
    )
    if reply[0] == "server_changed":
        raise GateUnavailable(f"the server of lane {lane} changed while the lane was being opened")
    if reply[0] == "epoch_not_newer":
        raise GateUnavailable(f"lane {lane} was opened by somebody else under epoch {reply[1]}")


def known_versions(gate: Gate, entity_keys: Sequence[str]) -> dict[str, int]:
    """The version of each coupon or product that the gate knows, by key; 0 for one that it does not."""
    with unavailability_translated(), gate.client.pipeline(transaction=False) as pipeline:
        for key in entity_keys:
            pipeline.hget(key, "version")
        versions = pipeline.execute() if entity_keys else []
    return {key: int(version or 0) for key, version in zip(entity_keys, versions, strict=True)}


def close_lane(gate: Gate, lane: int) -> None:
    """From now on the lane decides nothing. What it decided stays in its outbox."""
    with unavailability_translated():
        gate.client.hset(keys.lane(lane), "open", "0")
