"""Driving the stock scripts of lane 0 by their raw keys. What a test does not name is an ordinary value."""

from __future__ import annotations

from typing import Any

from engine.context import Engine
from engine.gate import keys
from engine.gate.turns import TurnLimits, limits_text

NONCE, OTHER = "o" + "a" * 44, "o" + "b" * 44
HOLD_MS, KEEP_MS = 30_000, 60_000
SHORT = {
    "user": "user_id",
    "coupon": "user_coupon_id",
    "hold": "hold_ms",
    "keep": "keep_ms",
    "bell": "bell_ms",
    "limit": "backlog_limit",
    "deadline": "held_until_ms",
}
LANE, OUTBOX, BELL, HOLDS = keys.lane(0), keys.outbox(0), keys.bell(0), keys.holds(0)


def reserve(
    engine: Engine,
    quantities: dict[int, Any],
    nonce: str = NONCE,
    carried: tuple[Any, ...] = (),
    turns: TurnLimits = (),
    **changes: Any,
) -> list[Any]:
    """The script's raw answer; ``carried`` are ids and names from earlier lanes, ``changes`` replace what the order
    says, and None leaves it out."""
    wanted: dict[str, Any] = {
        "lane": 0,
        "epoch": engine.gate.client.hget(LANE, "epoch"),
        "nonce": nonce,
        "user_id": 7,
        "user_coupon_id": "",
        "hold_ms": HOLD_MS,
        "keep_ms": 0,
        "bell_ms": 5000,
        "backlog_limit": 100,
        "order_lane": 0,
        "held": "",
        "lines": "",
        "held_until_ms": "",
        "limits": limits_text(turns, ";"),
    }
    changes = {SHORT.get(name, name): value for name, value in changes.items()}
    if "append" in changes:
        wanted["order_lane"] = 0 if changes.pop("append") else 1
    assert changes.keys() <= wanted.keys()
    pairs = [part for pair in quantities.items() for part in pair]
    script_keys = [LANE, OUTBOX, BELL, keys.hold(0, nonce), HOLDS, *(keys.sku(0, each) for each in quantities)]
    script_keys += [keys.turns(0, who) for who, _ in turns]
    order = " ".join(f"{name}={value}" for name, value in {**wanted, **changes}.items() if value is not None)
    return engine.gate.run("reserve_stock", script_keys, [order, *pairs, *carried])


def built_epoch(engine: Engine) -> str:
    """The lane's, as it is now."""
    return str(engine.gate.client.hget(LANE, "built_epoch"))


def settle(engine: Engine, *nonces: str, built: str | None = None) -> list[Any]:
    script_keys = [LANE, HOLDS, *(keys.hold(0, each) for each in nonces)]
    return engine.gate.run("settle_holds", script_keys, [built or built_epoch(engine), *nonces])


def release(
    engine: Engine,
    *products: int,
    nonce: str = NONCE,
    built: str | None = None,
    deadline_ms: str = "",
    shared: bool = True,
) -> list[Any]:
    script_keys = [LANE, HOLDS, keys.hold(0, nonce), *(keys.sku(0, each) for each in products)]
    arguments = [built or built_epoch(engine), nonce, deadline_ms, int(shared), *products]
    return engine.gate.run("release_stock", script_keys, arguments)


def claim(engine: Engine, *nonces: str, grace_ms: int = 0) -> list[Any]:
    script_keys = [LANE, OUTBOX, HOLDS, *(keys.hold(0, each) for each in nonces)]
    return engine.gate.run("claim_holds", script_keys, [grace_ms, *nonces])


def put_back(engine: Engine, quantities: dict[int, Any], built: str | None = None, keep_ms: Any = KEEP_MS) -> list[Any]:
    current = built or built_epoch(engine)
    script_keys = [LANE, keys.returned(0, NONCE), *(keys.sku(0, each) for each in quantities)]
    return engine.gate.run("return_stock", script_keys, [current, engine.gate.lanes, keep_ms, *quantities.values()])


def available(engine: Engine, product: int) -> int:
    """Units free to take."""
    return int(str(engine.gate.client.hget(keys.sku(0, product), "available")))


def change_product(engine: Engine, product: int, **fields: Any) -> None:
    """Change the record itself, past every script."""
    engine.gate.client.hset(keys.sku(0, product), mapping=fields)


def change_lane(engine: Engine, **fields: Any) -> None:
    """Change the lane's state itself, past every script."""
    engine.gate.client.hset(LANE, mapping=fields)


def hold(engine: Engine, nonce: str = NONCE) -> dict[str, str]:
    """The record of a hold, or of the answer that is remembered in its place."""
    found: Any = engine.gate.client.hgetall(keys.hold(0, nonce))
    return dict(found)


def deadlines(engine: Engine) -> dict[str, float]:
    """The deadline of every hold that has not ended."""
    found: Any = engine.gate.client.zrange(HOLDS, 0, -1, withscores=True)
    return dict(found)


def forgotten(engine: Engine, key: str) -> None:
    """Return when Redis has let the key expire."""
    while engine.gate.client.exists(key):
        continue
