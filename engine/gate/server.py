"""What is known about the server behind REDIS_URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.gate.gate import Gate, unavailability_translated

CVE = "CVE-2025-49844"
_FIXED_IN_REDIS = ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 2, 2))
_FIXED_IN_VALKEY = ((7, 2, 11), (8, 0, 6), (8, 1, 4), (9, 0, 0))


def security_warning(gate: Gate) -> str | None:
    """In words, why this server should not be left as it is; None if nothing is known. Raises GateUnavailable."""
    with unavailability_translated():
        info: Any = gate.client.info("server")
    return warning_for(info)


def warning_for(info: Mapping[str, Any]) -> str | None:
    """As :func:`security_warning`, for the ``server`` section of INFO.

    Whoever may run scripts on an affected server can run code on its machine (CVSS 10), and running scripts is what
    this engine does. Source: the advisories of Redis and Valkey of October 2025. Distributions that patch without
    changing the version are warned about too: whether theirs is patched is for their reader to check.
    """
    valkey = info.get("valkey_version")
    name, version = ("Valkey", valkey) if valkey else ("Redis", info.get("redis_version", ""))
    numbers = tuple(int(part) for part in str(version).split(".")[:3] if part.isdigit())
    fixed = _FIXED_IN_VALKEY if valkey else _FIXED_IN_REDIS
    enough = next((least for least in fixed if numbers[:2] <= least[:2]), None)
    if len(numbers) < 3 or enough is None or numbers >= enough:
        return None
    return f"{name} {version} may have {CVE} (code execution by Lua scripts); {'.'.join(map(str, enough))} has not"
