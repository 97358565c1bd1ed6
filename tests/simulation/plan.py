"""The plan of a history: concrete instructions, made one after the other by chance, and able to be played again.

An instruction names everything that it needs, so a plan can be played without the chance that made it, and with parts
left out: an instruction for an actor that is not there does nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.actors import Actor, Fault

if TYPE_CHECKING:
    from tests.simulation.history import History

STEPS = (10, 32)
MOST_ACTORS = 7
MOST_FORGETTINGS = 2
TO_ITS_END = 10_000
FALLS_ASLEEP_AFTER = (1, 2, 3, 4, 4, 4, 5, 5, 6, 6, 7, 8, 9, 11, 14, 18, 25)
"""Round trips of a sleeper: most of what is decided on what was read is read in the first few."""
STRICTNESS = 0.85
"""How often a history that tells of a sleeper keeps to that, rather than that something happens by chance."""


@dataclass(frozen=True)
class Profile:
    """A family of histories: how many lanes, how Redis forgets, what happens how often."""

    name: str
    lanes: tuple[int, ...] = (1,)
    stories: float = 0.7
    """How many of the histories tell of a sleeper; the others are made by pure chance."""
    shards: bool = False
    """Whether every lane is on a server of its own, which fails and forgets alone."""
    weights: dict[str, int] = field(default_factory=dict)
    """How often an instruction or an errand is chosen, where it differs from :data:`WEIGHTS` and :data:`ERRANDS`."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("one-lane"),
        Profile("lanes", lanes=(2, 3, 4)),
        Profile("shards", lanes=(2, 3, 4), shards=True),
        Profile("calm", stories=0.0, weights=dict.fromkeys(("forget", "restart"), 0)),
    )
}

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
SLEEPERS = {"drain": 6, "guard": 5, "sweep": 2, "publish": 1, "follow up": 3, "order": 3, "poll": 1, "add stock": 1}
CLIENTS = ("issue", "issue to a crowd", "order", "order in a crowd", "poll", "charge", "cancel", "add quantity", "add stock", "offer coupon", "offer product")


@dataclass(frozen=True)
class Instruction:
    """What the history does next."""

    verb: str
    actor: int = 0
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shop:
    """What a history starts with; ids are 1, 2, 3 … in the order given."""

    lanes: int
    coupons: tuple[int, ...]
    """How many there are of each."""
    products: tuple[tuple[int, int], ...]
    """Price and units of each."""
    balances: tuple[int | None, ...]
    """KRW of each user; None for somebody without an account."""


def draw_shop(chance: random.Random, profile: Profile) -> Shop:
    """A small shop: so little of everything that actors get into each other's way."""
    return Shop(
        lanes=chance.choice(profile.lanes),
        coupons=tuple(chance.randint(1, 4) for _ in range(chance.randint(1, 2))),
        products=tuple((chance.choice((100, 300)), chance.randint(1, 4)) for _ in range(chance.randint(1, 3))),
        balances=tuple(chance.choice((0, 300, 1000, 1000, 5000, 5000, 5000, None)) for _ in range(chance.randint(3, 5))),
    )


class Planner:
    """Decides what happens next. Looks at the history only to choose among what is possible."""

    def __init__(self, chance: random.Random, profile: Profile, history: History) -> None:
        self._chance = chance
        self._profile = profile
        self._history = history
        self._left = chance.randint(*STEPS)
        self._asleep: dict[int, int] = {}
        """Until when which actor is not let go on: as many steps before the end."""
        self._closed = False
        """Whether the gate is closed: then mostly a guard is sent, or nothing else would happen for long."""
        # Some histories are full of cancellations and have no drains, others the other way round: what is rare in a
        # mixture of everything happens often enough in some of them.
        self._story = self._tell_of_a_sleeper() if chance.random() < profile.stories else iter(())
        names = [*WEIGHTS, *ERRANDS]
        self._taste = {name: chance.choice((0, 1, 1, 1, 2, 3)) for name in names}
        self._taste |= dict.fromkeys(("start", "run", "issue", "drain", "guard"), 1)

    def next(self) -> Instruction | None:
        """The next instruction; None when the history is over."""
        if self._left < 0:
            return None
        self._left -= 1
        if self._left < 0:
            order = [actor.number for actor in self._history.alive()]
            self._chance.shuffle(order)
            return Instruction("finish", values={"order": order})
        told = next(self._story, None) if self._chance.random() < STRICTNESS else None
        return told or self._by_chance()

    def _tell_of_a_sleeper(self) -> Iterator[Instruction]:
        """Somebody falls asleep in the middle of something, Redis forgets, everybody else goes on, the sleeper wakes.

        By pure chance all that comes together once in a hundred histories, and it is what most faults take.
        """
        chance = self._chance
        for _ in range(chance.randint(1, 4)):
            yield self._sent(self._chosen({"issue": 3, "order": 3, "order in a crowd": 1, "drain": 2, "cancel": 2}))
            if chance.random() < 0.2:
                yield Instruction("copy")
        kind = self._chosen(SLEEPERS)
        if kind == "guard":
            yield self._forget() if chance.random() < 0.6 else self._restart()
        elif kind == "drain":
            yield self._sent(chance.choice(("issue", "order")))
        sleeper = self._history.next_number
        yield self._sent(kind, chance.choice(FALLS_ASLEEP_AFTER))
        self._asleep[sleeper] = -1
        if chance.random() < 0.3:
            yield Instruction("pass", values={"minute": chance.random() < 0.5})
        yield chance.choice((self._forget, self._forget, self._restart))()
        if chance.random() < 0.4:
            yield self._sent(chance.choice(("issue", "order")))
        self._closed = False
        yield self._sent("guard")
        for _ in range(chance.randint(1, 4)):
            yield self._sent(self._chosen({"issue": 3, "order": 3, "cancel": 1, "drain": 1, "follow up": 1, "poll": 1}))
        yield Instruction("run", sleeper, {"rounds": TO_ITS_END})
        for _ in range(chance.randint(0, 3)):
            yield self._sent(self._chosen({"issue": 1, "order": 1, "drain": 1}))

    def _sent(self, kind: str, rounds: int = TO_ITS_END) -> Instruction:
        """Somebody new, for this."""
        number = self._history.next_number
        return Instruction("start", number, {"kind": kind, "rounds": rounds, **self._values(kind)})

    def _by_chance(self) -> Instruction:
        possible = {verb: self._weight(verb, weight) for verb, weight in WEIGHTS.items()}
        verb = self._chosen({verb: weight for verb, weight in possible.items() if weight and self._is_possible(verb)})
        instruction: Instruction = getattr(self, f"_{verb}")()
        return instruction

    # -- one for each verb

    def _start(self) -> Instruction:
        number = self._history.next_number
        errands = {kind: self._weight(kind, weight) for kind, weight in ERRANDS.items()}
        if self._closed and self._chance.random() < 0.8:
            errands = {"guard": 1}
        kind = self._chosen(errands)
        rounds = TO_ITS_END if self._chance.random() < (0.8 if kind in CLIENTS else 0.4) else self._rounds(number)
        self._closed = self._closed and not (kind == "guard" and rounds == TO_ITS_END)
        return Instruction("start", number, {"kind": kind, "rounds": rounds, **self._values(kind)})

    def _run(self) -> Instruction:
        number = self._chance.choice(self._awake()).number
        return Instruction("run", number, {"rounds": self._rounds(number)})

    def _rounds(self, number: int) -> int:
        """How far an actor goes; sometimes it falls asleep after that."""
        if self._chance.random() < 0.3:
            self._asleep[number] = self._left - self._chance.randint(3, 30)
            return self._chance.randint(0, 16)
        return self._chance.choice((0, 1, 1, 2, 3, 5, 8, 13, TO_ITS_END, TO_ITS_END, TO_ITS_END))

    def _crash(self) -> Instruction:
        return Instruction("crash", self._chance.choice(self._history.alive()).number)

    def _fault(self) -> Instruction:
        actor = self._chance.choice(self._awake())
        return Instruction("fault", actor.number, {"fault": self._chance.choice(tuple(Fault)).name})

    def _arrive(self) -> Instruction:
        return Instruction("arrive")

    def _cut(self) -> Instruction:
        sleeping = [actor for actor in self._history.alive() if actor.in_transaction]
        return Instruction("cut", self._chance.choice(sleeping).number)

    def _pass(self) -> Instruction:
        return Instruction("pass", values={"minute": self._chance.random() < 0.6})

    def _copy(self) -> Instruction:
        return Instruction("copy")

    def _forget(self) -> Instruction:
        self._closed = True
        copies = range(len(self._history.copies))
        copy = self._chance.choice(copies) if copies and self._chance.random() < 0.7 else None
        return Instruction("forget", values={"copy": copy, "lanes": self._server()})

    def _restart(self) -> Instruction:
        self._closed = True
        return Instruction("restart", values={"lanes": self._server()})

    def _server(self) -> list[int] | None:
        """The lanes of the server that fails; None for all lanes."""
        return [self._chance.randrange(self._history.shop.lanes)] if self._profile.shards else None

    # -- what is possible, and how likely

    def _is_possible(self, verb: str) -> bool:
        history = self._history
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
            for actor in self._history.alive()
            if actor.waits_for is None and self._asleep.get(actor.number, self._left) >= self._left
        ]

    def _weight(self, name: str, weight: int) -> int:
        return self._profile.weights.get(name, weight) * self._taste[name]

    def _chosen(self, weights: dict[str, int]) -> str:
        return self._chance.choices(list(weights), list(weights.values()))[0]

    def _values(self, kind: str) -> dict[str, Any]:
        """What exactly an actor is sent for."""
        chance, shop = self._chance, self._history.shop
        user = 1 + chance.randrange(len(shop.balances))
        key = chance.choice((None, None, "first", "second"))
        client = {"user": user, "key": key, "retries": chance.choice((0, 0, 1, 2)), "polls": chance.choice((0, 1, 2))}
        if kind == "issue":
            return {**client, "coupon": 1 + chance.randrange(len(shop.coupons))}
        if kind == "order":
            wanted = chance.sample(range(1, 1 + len(shop.products)), chance.randint(1, len(shop.products)))
            quantities = {product: chance.choice((1, 1, 2)) for product in sorted(wanted)}
            return {**client, "quantities": quantities, "redeem": chance.choice((False, False, True))}
        if kind in ("issue to a crowd", "order in a crowd"):
            users = [1 + chance.randrange(len(shop.balances)) for _ in range(chance.randint(2, 4))]
            products, coupons = len(shop.products), len(shop.coupons)
            what = {"product": 1 + chance.randrange(products), "coupon": 1 + chance.randrange(coupons)}
            return {**what, "users": users, "key": key}
        if kind == "charge":
            return {**client, "amount": chance.choice((100, 200))}
        if kind == "cancel":
            return {**client, "place": chance.randrange(4)}
        if kind == "poll":
            return {"place": chance.randrange(8), "polls": chance.choice((1, 2))}
        if kind == "drain":
            decided = list(self._history.record.lanes_of.values())
            busy = [lane for lanes in decided[-3:] for lane in sorted(lanes)] or [0]
            lane = chance.choice((chance.randrange(shop.lanes), *busy))
            return {"lane": lane, "linger": chance.choice((0.0, 0.0, 0.6))}
        return self._offer(kind)

    def _offer(self, kind: str) -> dict[str, Any]:
        chance, shop = self._chance, self._history.shop
        if kind == "add quantity":
            status = chance.choice((None, None, "ACTIVE", "INACTIVE"))
            return {"coupon": 1 + chance.randrange(len(shop.coupons)), "add": chance.randint(0, 2), "status": status}
        if kind == "add stock":
            price = chance.choice((None, 200))
            return {"product": 1 + chance.randrange(len(shop.products)), "add": chance.randint(0, 2), "price": price}
        if kind == "offer coupon":
            return {"total": chance.randint(1, 2)}
        if kind == "offer product":
            return {"stock": chance.randint(1, 2)}
        return {}


__all__ = ["PROFILES", "TO_ITS_END", "Fault", "Instruction", "Planner", "Profile", "Shop", "draw_shop"]
