"""The gate: a client, the lanes it serves and what this process knows about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis.exceptions
from redis.cluster import RedisCluster

from engine.errors import BrokenContract, GateUnavailable, LaneCountMismatch
from engine.gate import keys
from engine.gate.clients import RedisClient, connect
from engine.gate.scripts import Argument, Call, script

BELL_SECONDS = 5
"""How long an armed bell keeps others from ringing: longer than a busy worker needs to get to it."""

_UNAVAILABLE = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.RedisClusterException,
    redis.exceptions.OutOfMemoryError,
    OSError,
)
_UNAVAILABLE_REPLIES = ("OOM", "MISCONF", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "UNBLOCKED")
_OF_A_PIPELINE = " caused error: "
"""redis-py puts the command before the reply when a command of a pipeline fails."""


@dataclass(frozen=True)
class LaneState:
    """How a lane stands, from ``inspect_lane.lua``; None where the lane has no such field."""

    lane: int
    open: bool
    epoch: int | None
    approved_replid: str
    last_number: int | None
    lanes: int | None
    request_key: str
    replid: str
    backlog: int
    head_age_ms: int | None
    built_epoch: int | None = None
    returned: int = 0

    @property
    def ready(self) -> bool:
        """Whether this lane decides: open, and going on with the history that the guard approved."""
        return self.open and self.approved_replid == self.replid

    def is_life_of(self, other: LaneState) -> bool:
        """Whether both were read from the same server, with no epoch begun in between."""
        return (self.replid, self.epoch) == (other.replid, other.epoch)


@dataclass(frozen=True)
class Published:
    """Where the gate took terms over: what the ledger may rely on only while the lane is in that epoch."""

    lane: int
    epoch: int


class Gate:
    """Runs decisions. Thread-safe; one per process."""

    def __init__(self, client: RedisClient, lanes: int, backlog_limit: int) -> None:
        self.client = client
        self.lanes = lanes
        self.backlog_limit = backlog_limit
        self._known: dict[int, LaneState] = {}
        self._request_key = ""

    @classmethod
    def connect(cls, url: str, *, lanes: int, backlog_limit: int, timeout_seconds: float) -> Gate:
        """A gate on the Redis at ``url``; nothing is sent before the first decision."""
        with unavailability_translated():
            return cls(connect(url, timeout_seconds=timeout_seconds), lanes, backlog_limit)

    def close(self) -> None:
        self.client.close()

    def run(self, name: str, script_keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """Call ``lua/<name>.lua`` once. Raises GateUnavailable; after a time-out the outcome is unknown."""
        with unavailability_translated():
            return script(name).run(self.client, script_keys, arguments)

    def inspect(self, lane: int) -> LaneState:
        """Ask Redis how the lane stands."""
        return _lane_state(lane, self.run("inspect_lane", [keys.lane(lane), keys.outbox(lane)], []))

    def inspect_all(self) -> list[LaneState]:
        """How every lane stands, in one round trip; on a cluster, in one each. Raises GateUnavailable for all."""
        calls: list[Call] = [([keys.lane(lane), keys.outbox(lane)], []) for lane in range(self.lanes)]
        return [_lane_state(lane, reply) for lane, reply in enumerate(self.run_each("inspect_lane", calls))]

    def known_lane(self, lane: int) -> LaneState:
        """What this process last learned of a lane's epoch and request key; asks Redis the first time.

        Raises GateUnavailable while the lane is not ready, or when the data has another number of lanes.
        """
        known = self._known.get(lane)
        if known is None:
            known = self.inspect(lane)
            if known.lanes is not None and known.lanes != self.lanes:
                raise GateUnavailable(str(LaneCountMismatch(recorded=known.lanes, configured=self.lanes)))
            if not known.ready:
                raise GateUnavailable(f"lane {lane} is not ready")
            self._request_key = known.request_key
            self._known[lane] = known
        return known

    def request_key(self) -> str:
        """The secret that seals request ids: the same in all lanes and for ever, so it is asked for once."""
        for lane in range(self.lanes):
            if self._request_key:
                break
            with suppress(GateUnavailable):  # one server away must not keep the others' lanes from their requests
                self.known_lane(lane)
        if not self._request_key:
            raise GateUnavailable("no lane is ready")
        return self._request_key

    def decide(self, lane: int, ask: Callable[[LaneState], list[Any]]) -> list[Any]:
        """Run a deciding script under the lane's epoch; learn a new epoch at most once.

        ``ask`` runs the script and returns its reply. Statuses that every deciding script shares end here:
        lane_not_ready raises GateUnavailable, stale_epoch is asked again under the right epoch.
        """
        for _ in range(2):
            reply = ask(self.known_lane(lane))
            if reply[0] == "lane_not_ready":
                self._known.pop(lane, None)
                raise GateUnavailable(f"lane {lane} is not ready")
            if reply[0] != "stale_epoch":
                return reply
            self._known.pop(lane, None)
        raise GateUnavailable(f"lane {lane} changes its epoch faster than it can be read")

    def decide_each(
        self, lane: int, name: str, calls: Callable[[LaneState], Sequence[Call]]
    ) -> list[list[Any] | GateUnavailable]:
        """As :meth:`decide` for several calls of one deciding script, one after the other in one round trip.

        ``calls`` gives them for a lane's state, always as many. Raises GateUnavailable when none could be made or the
        answers did not arrive; what became of the lane between two of them is told in the place of the later one.
        """
        known = self.known_lane(lane)
        replies = self.run_each(name, calls(known))
        stale = [place for place, reply in enumerate(replies) if reply[0] == "stale_epoch"]
        if stale:
            self._known.pop(lane, None)
            afresh = calls(self.known_lane(lane))
            for place, reply in zip(stale, self.run_each(name, [afresh[place] for place in stale]), strict=True):
                replies[place] = reply
        if any(reply[0] in ("lane_not_ready", "stale_epoch") for reply in replies):
            self._known.pop(lane, None)
        return [
            GateUnavailable(f"lane {lane} is not ready") if reply[0] in ("lane_not_ready", "stale_epoch") else reply
            for reply in replies
        ]

    def run_each(self, name: str, calls: Sequence[Call]) -> list[list[Any]]:
        """Call ``lua/<name>.lua`` several times, in order, in one round trip; on a cluster, in one each."""
        if len(calls) == 1 or isinstance(self.client, RedisCluster):
            return [self.run(name, *call) for call in calls]
        with unavailability_translated():
            return script(name).run_each(self.client, calls)


@contextmanager
def unavailability_translated() -> Iterator[None]:
    """Turn the driver's exceptions into the engine's: nothing above this module knows redis-py."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise GateUnavailable(f"{type(error).__name__}: {error}") from error
    except redis.exceptions.ResponseError as error:
        if str(error).rpartition(_OF_A_PIPELINE)[2].startswith(_UNAVAILABLE_REPLIES):
            raise GateUnavailable(str(error)) from error
        raise BrokenContract(f"Redis refused a command: {error}") from error
    except redis.exceptions.RedisError as error:
        raise GateUnavailable(f"{type(error).__name__}: {error}") from error


def _lane_state(lane: int, reply: Sequence[str]) -> LaneState:
    return LaneState(
        lane=lane,
        open=reply[0] == "1",
        epoch=_number(reply[1]),
        approved_replid=reply[2],
        last_number=_number(reply[3]),
        lanes=_number(reply[4]),
        request_key=reply[5],
        replid=reply[6],
        backlog=int(reply[7]),
        head_age_ms=_number(reply[8]),
        built_epoch=_number(reply[9]),
        returned=int(reply[10]),
    )


def _number(text: str) -> int | None:
    return int(text) if text else None
