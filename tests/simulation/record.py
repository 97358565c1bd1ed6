"""What clients were told, and when Redis forgot: all that the judge knows of a history besides the stores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.outcomes import Issued, Refused, RequestState, Submitted

REQUEST_ID = re.compile(r"\d+\.\d+\.\d+\.[co][0-9A-Za-z_-]+")
NEVER = -1


@dataclass
class Ask:
    """One call of a client. ``answer`` is None while there is none, and for ever when none came: it may have worked."""

    kind: str
    user_id: int
    target: Any
    key: str | None
    began: int
    answer: Any = None
    ended: int | None = None

    @property
    def unanswered(self) -> bool:
        return self.ended is None


@dataclass(frozen=True)
class Forgetting:
    """At step ``at`` Redis went back to what it was at ``since`` (NEVER: to nothing), in these lanes."""

    at: int
    since: int
    lanes: frozenset[int]


@dataclass(frozen=True)
class Told:
    """What somebody heard of a request, once."""

    step: int
    state: RequestState | Refused


@dataclass
class Record:
    """Grows while a history goes on."""

    step: int = 0
    asks: list[Ask] = field(default_factory=list)
    told: dict[str, list[Told]] = field(default_factory=dict)
    """By request id, what was told of it; an accepted request is in here even if nobody asked after it."""
    decided_at: dict[str, int] = field(default_factory=dict)
    """By request id, the step at which Redis decided it, whether or not anybody heard."""
    lanes_of: dict[str, frozenset[int]] = field(default_factory=dict)
    """By request id, the lanes that took part."""
    closed_before: set[str] = field(default_factory=set)
    """Request ids whose order the ledger had closed, under the same idempotency key, before they were decided."""
    forgettings: list[Forgetting] = field(default_factory=list)
    cancelled_units: Counter[int] = field(default_factory=Counter)
    """By product, the units of orders that were cancelled in the end."""
    left_behind: list[frozenset[int]] = field(default_factory=list)
    """Pairs of lanes: one that was rebuilt, and one whose outbox could not be emptied before."""

    def begin(self, kind: str, user_id: int, target: Any, key: str | None) -> Ask:
        """A client asks."""
        ask = Ask(kind, user_id, target, key, self.step)
        self.asks.append(ask)
        return ask

    def answered(self, ask: Ask, answer: Any) -> None:
        """The client has heard it."""
        ask.answer = answer
        ask.ended = self.step
        if isinstance(answer, Issued | Submitted):
            self.told.setdefault(answer.request_id, [])

    def heard_state(self, request_id: str, state: RequestState | Refused) -> None:
        """A client asked after a request and heard this."""
        self.told.setdefault(request_id, []).append(Told(self.step, state))

    def see(self, reply: object) -> list[str]:
        """Look at an answer of Redis; the request ids in it that were never seen before."""
        found = [text for text in _texts(reply) if text not in self.decided_at and REQUEST_ID.fullmatch(text)]
        for request_id in found:
            self.decided_at[request_id] = self.step
            self.lanes_of[request_id] = frozenset({int(request_id.split(".", 1)[0])})
        return found

    def forget(self, since: int, lanes: Collection[int]) -> None:
        """Redis goes back."""
        self.forgettings.append(Forgetting(self.step, since, frozenset(lanes)))

    def is_forgotten(self, request_id: str, until: int | None = None) -> bool:
        """Whether Redis forgot this decision after it had made it (and before the step ``until``)."""
        decided = self.decided_at.get(request_id, NEVER)
        return any(each.since < decided for each in self._forgettings_after(request_id, until))

    def may_have_forgotten_its_end(self, request_id: str, until: int | None) -> bool:
        """Whether Redis went back, before the step ``until``, to a time at which this order was not yet settled, for
        all that a client can know: with its hold, a rebuild drops what the order's key was answered."""
        return bool(self._forgettings_after(request_id, until))

    def _forgettings_after(self, request_id: str, until: int | None) -> list[Forgetting]:
        """Those in a lane of this request, after its decision and before the step ``until``."""
        decided, lanes = self.decided_at.get(request_id, NEVER), self.lanes_of.get(request_id, frozenset())
        return [
            each
            for each in self.forgettings
            if decided <= each.at and lanes & each.lanes and (until is None or each.at <= until)
        ]

    def forgot_after(self, step: int) -> bool:
        """Whether Redis forgot anything that it had known at this step."""
        return any(each.since < step <= each.at for each in self.forgettings)

    def accepted(self) -> list[str]:
        """Every request id that a client was given, in the order of their decision."""
        return sorted(self.told, key=lambda request_id: self.decided_at.get(request_id, NEVER))


def nonce_of(request_id: str) -> str:
    """The part that a repeated idempotency key has in common."""
    return request_id.rpartition(".")[2]


def _texts(reply: object) -> Iterable[str]:
    if isinstance(reply, str):
        yield reply
    elif isinstance(reply, Mapping):
        for value in reply.values():
            yield from _texts(value)
    elif isinstance(reply, list | tuple):
        for value in reply:
            yield from _texts(value)
