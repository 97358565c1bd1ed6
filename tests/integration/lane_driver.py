"""Driving one lane of the gate by its raw scripts and keys, without a ledger; and taking down the whole keyspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.gate import keys
from engine.gate.gate import Gate
from engine.gate.scripts import Argument
from engine.gate.turns import TurnLimits, limits_text

REQUEST_KEY = "5e" * 32
EPOCH = 7
LARGEST = 2**53 - 1


@dataclass
class LaneDriver:
    """One lane. What a test does not name is an ordinary value."""

    gate: Gate
    number: int

    @property
    def client(self) -> Any:
        return self.gate.client

    @property
    def replid(self) -> str:
        return str(self.client.info("replication")["master_replid"])

    @property
    def lane_key(self) -> str:
        return keys.lane(self.number)

    def now_ms(self) -> int:
        """Redis' own clock."""
        seconds, microseconds = self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def close(self, claim: str = "claim") -> list[Any]:
        """As who has just examined the lane."""
        examined = self.client.hget(self.lane_key, "epoch") or ""
        return self.gate.run("close_lane", [self.lane_key], [examined, claim])

    def begin_build(self, epoch: Argument, replid: str = "") -> list[Any]:
        """As who has closed the lane for that. Who would be refused even then closes nothing."""
        refused = self.begin_closed(epoch, replid, claim="")
        if refused != ["superseded"]:
            return refused
        self.close()
        return self.begin_closed(epoch, replid)

    def begin_closed(self, epoch: Argument, replid: str = "", claim: str = "claim") -> list[Any]:
        return self.gate.run("begin_build", [self.lane_key], [epoch, replid or self.replid, claim])

    def open_built(self, epoch: Argument, last_number: Argument = 0, replid: str = "") -> list[Any]:
        arguments: list[Argument] = [epoch, replid or self.replid, last_number, self.gate.lanes, REQUEST_KEY]
        return self.gate.run("open_lane", [self.lane_key], arguments)

    def open(self, epoch: Argument = EPOCH, last_number: Argument = 0, replid: str = "") -> list[Any]:
        """As a rebuild with nothing to build does: the answer of the first script that refuses, or of the last."""
        begun = self.begin_build(epoch, replid)
        return self.open_built(epoch, last_number, replid) if begun == ["building"] else begun

    def approve(self, epoch: Argument, **examined: Argument) -> list[Any]:
        """As the guard does with a lane that it has examined just now; ``examined`` replaces what it saw."""
        seen = {
            "replid": self.replid,
            "examined_epoch": str(self.client.hget(self.lane_key, "epoch")),
            "last_number": str(self.client.hget(self.lane_key, "last_number")),
            **examined,
        }
        return self.gate.run("approve_lane", [self.lane_key], [epoch, *seen.values()])

    def publish(
        self,
        coupon_id: int,
        total: Argument = 10,
        status: str = "ACTIVE",
        starts_at_ms: Argument = "",
        ends_at_ms: Argument = "",
        version: Argument = 1,
        epoch: Argument = EPOCH,
    ) -> list[Any]:
        script_keys = [self.lane_key, keys.coupon(self.number, coupon_id)]
        arguments: list[Argument] = [epoch, version, status, total, starts_at_ms, ends_at_ms]
        return self.gate.run("publish_coupon", script_keys, arguments)

    def issue_keys(self, coupon_id: int) -> list[str]:
        """KEYS of issue_coupon for one ask."""
        number = self.number
        return [
            keys.lane(number),
            keys.outbox(number),
            keys.bell(number),
            keys.coupon(number, coupon_id),
            keys.winners(number, coupon_id),
        ]

    def issue(
        self,
        coupon_id: int,
        user_id: int,
        nonce: str = "",
        epoch: Argument = EPOCH,
        bell_ms: int = 5000,
        backlog_limit: int = 1_000_000,
        limits: TurnLimits = (),
    ) -> list[Any]:
        """The answer to one ask, and whether to ring behind it when it was granted."""
        ask = (coupon_id, user_id, nonce or f"n{user_id}", limits)
        reply = self.issue_many([ask], epoch=epoch, bell_ms=bell_ms, backlog_limit=backlog_limit)
        if isinstance(reply[0], str):
            return reply
        ring, answer = reply
        return [*answer, ring] if answer[0] == "issued" else answer

    def issue_many(
        self,
        asks: Sequence[tuple[Argument, Argument, str] | tuple[Argument, Argument, str, TurnLimits]],
        epoch: Argument = EPOCH,
        bell_ms: Argument = 5000,
        backlog_limit: Argument = 1_000_000,
    ) -> list[Any]:
        """The raw reply to several asks: (coupon, user, nonce), with limits behind them."""
        script_keys = [keys.lane(self.number), keys.outbox(self.number), keys.bell(self.number)]
        arguments: list[Argument] = [self.number, epoch, bell_ms, backlog_limit]
        for coupon_id, user_id, nonce, *limits in asks:
            of_this_ask = limits[0] if limits else ()
            script_keys += self.issue_keys(int(coupon_id))[3:]
            script_keys += [keys.turns(self.number, who) for who, _ in of_this_ask]
            arguments += (nonce, coupon_id, user_id, limits_text(of_this_ask, " "))
        return self.gate.run("issue_coupon", script_keys, arguments)

    def coupon(self, coupon_id: int) -> dict[str, str]:
        return dict(self.client.hgetall(keys.coupon(self.number, coupon_id)))

    def change_coupon(self, coupon_id: int, **fields: object) -> None:
        """Change the record itself, past every script."""
        self.client.hset(keys.coupon(self.number, coupon_id), mapping=fields)

    def change_lane(self, **fields: object) -> None:
        """Change the lane's state itself, past every script."""
        self.client.hset(self.lane_key, mapping=fields)

    def outbox(self) -> list[tuple[str, dict[str, str]]]:
        return list(self.client.xrange(keys.outbox(self.number)))


def keyspace(client: Any) -> dict[str, tuple[str, object, bool]]:
    """Every key of the database with its type, its whole value and whether it expires."""
    readers: dict[str, Callable[[str], object]] = {
        "hash": client.hgetall,
        "string": client.get,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda key: (client.xrange(key), client.xinfo_stream(key)["last-generated-id"]),
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
    }
    found = {}
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        found[key] = (kind, readers[kind](key), client.pttl(key) >= 0)
    assert len(found) == client.dbsize()
    return found
