"""The planner: decides by chance, seeded, what happens next in a history."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tests.simulation.actors import Actor, Fault
from tests.simulation.plan import TO_ITS_END, Instruction, Profile
from tests.simulation.stories import STORIES
from tests.simulation.wishes import drawn_values

if TYPE_CHECKING:
    from tests.simulation.history import History

STEPS = (8, 26)
MOST_ACTORS = 7
MOST_FORGETTINGS = 2
STORIES_SHARE = 0.7
STRICTNESS = 0.85
"""How often a history that tells a story goes on with it, rather than that something happens by chance."""

WEIGHTS = {
    "start": 20,
    "run": 12,
    "crash": 2,
    "fault": 3,
    "arrive": 2,
    "cut": 1,
    "pass": 2,
    "copy": 2,
    "forget": 3,
    "restart": 1,
}

ERRANDS = {
    "issue": 12,
    "issue to a crowd": 2,
    "order": 14,
    "order in a crowd": 2,
    "poll": 4,
    "charge": 2,
    "cancel": 9,
    "add quantity": 1,
    "add stock": 1,
    "offer coupon": 1,
    "offer product": 1,
    "drain": 14,
    "guard": 2,
    "sweep": 3,
    "publish": 2,
    "follow up": 3,
}
WORK_OF_THE_ENGINE = ("drain", "guard", "sweep", "publish", "follow up")


class Planner:
    """Decides what happens next. Looks at the history only to choose among what is possible."""

    def __init__(self, chance: random.Random, profile: Profile, history: History) -> None:
        self.chance = chance
        self.profile = profile
        self.history = history
        self._left = chance.randint(*STEPS)
        self._asleep: dict[int, int] = {}
        """Until when which actor is not let go on: as many steps before the end."""
        self._closed = False
        """Whether the gate is closed: then mostly a guard is sent, or nothing else would happen for long."""
        # Some histories are full of cancellations and have no drains, others the other way round: what is rare in a
        # mixture of everything happens often enough in some of them.
        names = [*WEIGHTS, *ERRANDS]
        self._taste = {name: chance.choice((0, 1, 1, 1, 2, 3)) for name in names}
        self._taste |= dict.fromkeys(("start", "run", "issue", "drain", "guard"), 1)
        tells = chance.random() < STORIES_SHARE
        self._story: Iterator[Instruction] = STORIES[profile.story](self) if tells else iter(())

    def next(self) -> Instruction | None:
        """The next instruction; None when the history is over."""
        if self._left < 0:
            return None
        self._left -= 1
        if self._left < 0:
            order = [actor.number for actor in self.history.alive()]
            self.chance.shuffle(order)
            return Instruction("finish", values={"order": order})
        told = next(self._story, None) if self.chance.random() < STRICTNESS else None
        return told or self._by_chance()

    # -- for stories

    def sent(self, kind: str, rounds: int = TO_ITS_END) -> Instruction:
        """Somebody new, for this."""
        self._closed = self._closed and not (kind == "guard" and rounds == TO_ITS_END)
        return Instruction(
            "start", self.history.next_number, {"kind": kind, "rounds": rounds, **drawn_values(self, kind)}
        )

    def sent_to_drain(self, lane: int, rounds: int = TO_ITS_END) -> Instruction:
        """Somebody new, to drain this lane."""
        sent = self.sent("drain", rounds)
        sent.values["lane"] = lane
        return sent

    def chosen(self, weights: Mapping[str, int]) -> str:
        """One of these, as often as its weight says."""
        return self.chance.choices(list(weights), list(weights.values()))[0]

    def put_to_sleep(self, number: int) -> None:
        """Chance does not wake this actor any more."""
        self._asleep[number] = -1

    def forget(self) -> Instruction:
        """Redis forgets everything, or what came after one of the copies."""
        self._closed = True
        copies = range(len(self.history.copies))
        copy = self.chance.choice(copies) if copies and self.chance.random() < 0.7 else None
        return Instruction("forget", values={"copy": copy, "lanes": self._server()})

    def restart(self) -> Instruction:
        """Another server takes over, and knows everything."""
        self._closed = True
        return Instruction("restart", values={"lanes": self._server()})

    # -- by chance

    def _by_chance(self) -> Instruction:
        possible = {verb: self._weight(verb, weight) for verb, weight in WEIGHTS.items()}
        verb = self.chosen({verb: weight for verb, weight in possible.items() if weight and self._is_possible(verb)})
        by_verb: dict[str, Callable[[], Instruction]] = {
            "start": self._start,
            "run": self._run,
            "crash": lambda: Instruction("crash", self.chance.choice(self.history.alive()).number),
            "fault": self._fault,
            "arrive": lambda: Instruction("arrive"),
            "cut": self._cut,
            "pass": lambda: Instruction("pass", values={"minute": self.chance.random() < 0.6}),
            "copy": lambda: Instruction("copy"),
            "forget": self.forget,
            "restart": self.restart,
        }
        return by_verb[verb]()

    def _start(self) -> Instruction:
        number = self.history.next_number
        errands = {kind: self._weight(kind, weight) for kind, weight in ERRANDS.items()}
        if self._closed and self.chance.random() < 0.8:
            errands = {"guard": 1}
        kind = self.chosen(errands)
        haste = 0.4 if kind in WORK_OF_THE_ENGINE else self.profile.haste
        return self.sent(kind, TO_ITS_END if self.chance.random() < haste else self._rounds(number))

    def _run(self) -> Instruction:
        number = self.chance.choice(self._awake()).number
        return Instruction("run", number, {"rounds": self._rounds(number)})

    def _rounds(self, number: int) -> int:
        """How far an actor goes; sometimes it falls asleep after that."""
        if self.chance.random() < 0.3:
            self._asleep[number] = self._left - self.chance.randint(3, 30)
            return self.chance.randint(0, 16)
        return self.chance.choice((0, 1, 1, 2, 3, 5, 8, 13, TO_ITS_END, TO_ITS_END, TO_ITS_END))

    def _fault(self) -> Instruction:
        actor = self.chance.choice(self._awake())
        return Instruction("fault", actor.number, {"fault": self.chance.choice(tuple(Fault)).name})

    def _cut(self) -> Instruction:
        sleeping = [actor for actor in self.history.alive() if actor.in_transaction]
        return Instruction("cut", self.chance.choice(sleeping).number)

    def _server(self) -> list[int] | None:
        """The lanes of the server that fails; None for all lanes."""
        return [self.chance.randrange(self.history.shop.lanes)] if self.profile.shards else None

    # -- what is possible, and how likely

    def _is_possible(self, verb: str) -> bool:
        history = self.history
        if verb == "start":
            return len(history.alive()) < MOST_ACTORS
        if verb in ("run", "fault"):
            return bool(self._awake())
        if verb == "crash":
            return bool(history.alive())
        if verb == "cut":
            return any(actor.in_transaction for actor in history.alive())
        if verb == "arrive":
            return bool(history.in_flight)
        if verb == "copy":
            return not history.copies or history.copies[-1].step < history.record.step - 3
        if verb == "forget":
            decided, forgettings = len(history.record.decided_at), len(history.record.forgettings)
            return decided > 1 + forgettings and forgettings < MOST_FORGETTINGS
        return verb != "restart" or not self._closed

    def _awake(self) -> Sequence[Actor]:
        return [
            actor
            for actor in self.history.alive()
            if actor.waits_for is None and self._asleep.get(actor.number, self._left) >= self._left
        ]

    def _weight(self, name: str, weight: int) -> int:
        return self.profile.weights.get(name, weight) * self._taste[name]
