"""What is known about the server behind REDIS_URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.cluster import RedisCluster

from engine.errors import InvalidSettings
from engine.gate.gate import Gate, unavailability_translated

CVE = "CVE-2025-49844"
NO_EVICTION = "noeviction"
_FIXED_IN_REDIS = ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 2, 2))
_FIXED_IN_VALKEY = ((7, 2, 11), (8, 0, 6), (8, 1, 4), (9, 0, 0))


def security_warning(gate: Gate) -> str | None:
    """In words, why this server should not be left as it is; None if nothing is known. Raises GateUnavailable."""
    with unavailability_translated():
        info: Any = gate.client.info("server")
    return warning_for(info)


def refuse_eviction(gate: Gate) -> None:
    """Raises InvalidSettings when a server would drop keys to save memory, and GateUnavailable.

    What it drops first is what has an expiry: the marker that an order's units are back on sale, the answer under an
    idempotency key. Without them units come back twice and an order is placed twice, and no counter would tell. The
    policy is asked of INFO because CONFIG is often forbidden; replicas are asked, too, because they may take over.
    """
    client = gate.client
    with unavailability_translated():
        if isinstance(client, RedisCluster):
            infos: list[Any] = [client.info("memory", target_nodes=node) for node in client.get_nodes()]
        else:
            infos = [client.info("memory")]
    policies = sorted({str(info.get("maxmemory_policy", NO_EVICTION)) for info in infos} - {NO_EVICTION})
    if policies:
        problem = (
            f"REDIS_URL: the server has maxmemory-policy {' and '.join(policies)}: out of memory it would forget what "
            f"is sold. Set maxmemory-policy {NO_EVICTION}; it refuses writes then, and the shop says BUSY"
        )
        raise InvalidSettings([problem])


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
