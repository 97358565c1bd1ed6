"""The outbox of a lane: decisions that are not yet in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import LockNotOwnedError, RedisClusterException, RedisError
from redis.lock import Lock

from engine.gate import keys
from engine.gate.gate import BELL_SECONDS, Gate, unavailability_translated
from engine.gate.lock import OneServerLock
from engine.gate.request_ids import RequestId

LEASE_SECONDS = 3


@dataclass(frozen=True)
class Entry:
    """One decision: where it stands in line and what it says, as texts."""

    epoch: int
    number: int
    fields: Mapping[str, str]

    @property
    def entry_id(self) -> str:
        return f"{self.epoch}-{self.number}"


class Whereabouts(NamedTuple):
    """Where a request was found: in the outbox, or not; ``epoch`` is the lane's present one, None while it is not
    ready, and ``user_id`` that of whoever's request waits."""

    waits: bool
    epoch: int | None
    user_id: int | None = None


def place_of(entry_id: str) -> tuple[int, int]:
    """Epoch and number of an entry, from its id in the stream."""
    epoch, _, number = entry_id.partition("-")
    return int(epoch), int(number)


def read_head(gate: Gate, lane: int, limit: int) -> list[Entry]:
    """The oldest entries, at most ``limit``, in order."""
    with unavailability_translated():
        rows: Any = gate.client.xrange(keys.outbox(lane), count=limit)
    return [Entry(*place_of(entry_id), fields=fields) for entry_id, fields in rows]


def wait_for_more(gate: Gate, lane: int, timeout_seconds: float) -> bool:
    """Block until the outbox holds an entry, at most the time-out; whether it does."""
    with unavailability_translated():
        return bool(gate.client.xread({keys.outbox(lane): "0-0"}, count=1, block=round(timeout_seconds * 1000)))


def remove(gate: Gate, lane: int, entries: Sequence[Entry]) -> None:
    """Take entries out. Only after the ledger has committed them: this is the one way out of an outbox."""
    if entries:
        with unavailability_translated():
            gate.client.xdel(keys.outbox(lane), *(entry.entry_id for entry in entries))


def backlog(gate: Gate) -> int:
    """Entries waiting in all lanes."""
    with unavailability_translated():
        return sum(int(gate.client.xlen(keys.outbox(lane))) for lane in range(gate.lanes))


def find(gate: Gate, lane: int, requests: Sequence[RequestId]) -> list[Whereabouts]:
    """Whether each of these requests waits in its lane's outbox: one round trip for all. Raises GateUnavailable."""
    entry_ids = [request.entry_id for request in requests]
    present, *answers = gate.run("find_requests", [keys.lane(lane), keys.outbox(lane)], entry_ids)
    epoch = int(present) if present else None
    found = []
    for request, answer in zip(requests, answers, strict=True):
        if answer[0] == "absent":
            found.append(Whereabouts(False, epoch))
        elif answer[1] == str(request):
            found.append(Whereabouts(True, epoch, owner_in({"user_id": answer[2]})))
        else:
            # Somebody put another request's number into an id of ours: there is no such request.
            found.append(Whereabouts(False, request.epoch))
    return found


def owner_in(fields: Mapping[str, str]) -> int | None:
    """Whose request the fields of an entry tell of; None when they do not say, as of one that came in damaged."""
    text = fields.get("user_id", "")
    return int(text) if text.isascii() and text.isdigit() else None


def arm_bell(gate: Gate, lane: int) -> None:
    """Keep others from ringing: the drain that calls this is looking anyway."""
    with unavailability_translated():
        gate.client.set(keys.bell(lane), "1", px=BELL_SECONDS * 1000)


def disarm_bell(gate: Gate, lanes: Iterable[int]) -> None:
    """From now on the next decision rings. Always before the look that it must not miss."""
    with unavailability_translated():
        for lane in lanes:
            gate.client.delete(keys.bell(lane))


class Lease:
    """Keeps drains of one lane from doing the same work twice. Correctness does not depend on it."""

    def __init__(self, gate: Gate, lane: int) -> None:
        self._lock: Lock = gate.client.lock(
            keys.lease(lane), timeout=LEASE_SECONDS, blocking=False, thread_local=False, lock_class=OneServerLock
        )

    def take(self) -> bool:
        """Take the lease, or keep it for another while; False when another drain has it."""
        with unavailability_translated():
            if self._lock.local.token is not None:
                try:
                    self._lock.reacquire()
                    return True
                except LockNotOwnedError:
                    # A batch took longer than the lease. Whoever has it now works beside us, which is harmless.
                    self._lock.local.token = None
            return bool(self._lock.acquire())

    def release(self) -> None:
        """Give it up. Never raises: a lease that is not ours any more, or cannot be given up now, expires by itself."""
        with suppress(RedisError, RedisClusterException, OSError):
            self._lock.release()


def is_leased(gate: Gate, lane: int) -> bool:
    """Whether a drain is at work."""
    with unavailability_translated():
        return bool(gate.client.exists(keys.lease(lane)))
