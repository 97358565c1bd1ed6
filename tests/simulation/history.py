"""One history: a shop, actors that take turns, faults, and in the end everybody awake or gone and all at rest."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.context import Engine
from engine.errors import BrokenContract, EngineError, LaneCountMismatch
from tests.simulation.actors import Actor, Fault, arrive
from tests.simulation.beginning_and_end import MINUTE, NoRest, come_to_rest, open_shop
from tests.simulation.errands import ERRANDS, Errand
from tests.simulation.plan import PROFILES, TO_ITS_END, Instruction, Profile, Shop, draw_shop
from tests.simulation.planner import Planner
from tests.simulation.record import NEVER, Record, nonce_of
from tests.simulation.round_trips import Clock, Listener, stepwise
from tests.simulation.stores import Copy, Stores

FIVE_SECONDS = 5.0
"""Longer than a bell, a lease and a wait for a lock; shorter than anything else."""
MOST_ROUND_TRIPS = 600
"""Of one actor in one go: far more than any of them needs when it is not running in circles."""


@dataclass(frozen=True)
class Line:
    """One line of a history as it is printed."""

    step: int
    who: str
    what: str
    outcome: object = None

    def __str__(self) -> str:
        outcome = "" if self.outcome is None else f"  ->  {str(self.outcome)[:110]}"
        return f"{self.step:5d}  {self.who:24s} {self.what}{outcome}"


@dataclass
class History:
    """Plays a plan, by chance or given, on stores that it empties first."""

    stores: Stores
    seed: int
    profile: Profile = PROFILES["one-lane"]
    given: Sequence[Instruction] | None = None
    record: Record = field(default_factory=Record)
    copies: list[Copy] = field(default_factory=list)
    in_flight: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    plan: list[Instruction] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What went wrong on the way, in words: an actor that ended with what no actor may end with."""
    counts: Counter[str] = field(default_factory=Counter)
    say: Callable[[Line], None] | None = None

    def __post_init__(self) -> None:
        chance = random.Random(f"{self.profile.name} {self.seed}")
        self.shop: Shop = draw_shop(chance, self.profile)
        self._chance = chance
        self._actors: dict[int, Actor] = {}
        self._idle: list[Engine] = []
        self._engine_of: dict[int, Engine] = {}
        self._started = 0
        self._clock = Clock()
        self._decided: list[str] = []
        self._servers = 0
        self.quiet = self.stores.process(self.shop.lanes)

    # -- what a planner looks at

    @property
    def next_number(self) -> int:
        return self._started + 1

    def alive(self) -> list[Actor]:
        """Actors that have not come to their end."""
        return list(self._actors.values())

    # -- playing

    def play(self) -> None:
        """From the opening of the shop until all is at rest."""
        with stepwise(self._clock, Listener(self._heard), self.seed):
            self._open_shop()
            for instruction in self._instructions():
                self.plan.append(instruction)
                getattr(self, f"_do_{instruction.verb}")(instruction)
            self._do_finish(Instruction("finish"))
            self._come_to_rest()

    def _instructions(self) -> Iterator[Instruction]:
        if self.given is not None:
            yield from self.given
            return
        planner = Planner(self._chance, self.profile, self)
        while instruction := planner.next():
            yield instruction

    def _open_shop(self) -> None:
        shop, stores = self.shop, self.stores
        stores.empty()
        for lane in range(shop.lanes):
            self._fail_over([lane] if self.profile.shards else None)
        open_shop(stores, shop, self.quiet)
        self._tell("the shop", f"opens: {shop}")

    # -- one for each verb

    def _do_start(self, instruction: Instruction) -> None:
        values = dict(instruction.values)
        kind, rounds = values.pop("kind"), values.pop("rounds")
        number = instruction.actor
        self._started = max(self._started, number)
        if kind == "order":
            values["redeem"] = self._coupon_of(values["user"]) if values["redeem"] else None
        if kind == "cancel":
            values["order"] = self._order_at(values["place"])
        if kind == "poll":
            accepted = self.record.accepted()
            values["request"] = accepted[values["place"] % len(accepted)] if accepted else None
        engine = self._idle.pop() if self._idle else self.stores.process(self.shop.lanes)
        errand = Errand(engine, self.record, values)
        actor = Actor(number, f"{kind} #{number}", lambda: ERRANDS[kind](errand))
        self._actors[number] = actor
        self._engine_of[number] = engine
        shown = ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, 0))
        self._tell(actor.name, f"is sent: {shown}")
        self._turn(actor)
        self._run(number, rounds)

    def _do_run(self, instruction: Instruction) -> None:
        self._run(instruction.actor, instruction.values["rounds"])

    def _do_fault(self, instruction: Instruction) -> None:
        actor = self._actors.get(instruction.actor)
        if actor is not None and actor.waits_for is None:
            self._go_on(actor, Fault[instruction.values["fault"]])

    def _do_crash(self, instruction: Instruction) -> None:
        if instruction.actor in self._actors:
            self._crash(self._actors[instruction.actor])

    def _do_cut(self, instruction: Instruction) -> None:
        actor = self._actors.get(instruction.actor)
        if actor is not None and actor.in_transaction:
            actor.lose_sessions()
            self._event(actor.name, "loses its session: it slept in a transaction for too long")

    def _do_arrive(self, _: Instruction) -> None:
        if self.in_flight:
            label, perform = self.in_flight.pop(0)
            self._event("the network", f"delivers what was given up: {label}")
            arrive(perform)

    def _do_pass(self, instruction: Instruction) -> None:
        minute = instruction.values["minute"]
        seconds = MINUTE if minute else FIVE_SECONDS
        self._clock.advance(seconds)
        for actor in self.alive():
            if actor.waits_for is not None:
                self._time_out(actor)
            elif minute:
                actor.lose_sessions()
        self.stores.pass_time(self.shop.lanes, seconds, claims=minute)
        self._event("the clock", "goes on by a minute" if minute else "goes on by five seconds")

    def _do_copy(self, _: Instruction) -> None:
        self.copies.append(self.stores.copy(self.record.step))
        self._event("redis", f"writes its file (copy {len(self.copies) - 1})")

    def _do_forget(self, instruction: Instruction) -> None:
        number, lanes = instruction.values["copy"], instruction.values["lanes"]
        if number is not None and number >= len(self.copies):
            return
        copy = None if number is None else self.copies[number]
        self.stores.put_back(copy, lanes)
        self._fail_over(lanes)
        where = "" if lanes is None else f" in lanes {lanes}"
        what = "forgets everything" if copy is None else f"comes back as it was at step {copy.step}"
        self._event("redis", f"{what}{where}, on another server")
        self.record.forget(NEVER if copy is None else copy.step, range(self.shop.lanes) if lanes is None else lanes)

    def _do_restart(self, instruction: Instruction) -> None:
        lanes = instruction.values["lanes"]
        self._fail_over(lanes)
        where = "" if lanes is None else f" in lanes {lanes}"
        self._event("redis", f"goes on{where}, on another server that knows everything")

    def _fail_over(self, lanes: Sequence[int] | None) -> None:
        """Another server for these lanes, one for all of them; for None, for all there are."""
        self._servers += 1
        self.stores.fail_over(self._servers, range(self.shop.lanes) if lanes is None else lanes)

    def _do_finish(self, instruction: Instruction) -> None:
        """Everybody wakes, one after the other, and comes to an end."""
        numbers = [*instruction.values.get("order", []), *self._actors]
        while self._actors:
            before = self.record.step
            for number in numbers:
                self._run(number, TO_ITS_END)
            if self.record.step == before and self._actors:
                self._time_out(next(actor for actor in self.alive() if actor.waits_for is not None))
        while self.in_flight:
            self._do_arrive(instruction)

    # -- turns

    def _run(self, number: int, rounds: int) -> None:
        """Let an actor do so many round trips, if it lives that long and nothing makes it wait."""
        for _ in range(min(rounds, MOST_ROUND_TRIPS)):
            actor = self._actors.get(number)
            if actor is None or actor.waits_for is not None:
                return
            self._go_on(actor)
        if rounds == TO_ITS_END and number in self._actors:
            self.faults.append(f"{self._actors[number]} runs in circles")
            self._crash(self._actors[number])

    def _go_on(self, actor: Actor, fault: Fault | None = None) -> None:
        what, step = actor.about_to, self.record.step + 1
        self.record.step = step
        self.counts["round trips"] += 1
        self._turn(actor, fault)
        note = f"  [{fault.value}]" if fault else ""
        self._tell(actor.name, what + note, actor.outcome, step)
        self._look_at_locks()

    def _turn(self, actor: Actor, fault: Fault | None = None) -> None:
        """Let it go on until its next round trip, its end, or a lock that another holds."""
        actor.go_on(fault)
        self._settle(actor)

    def _settle(self, actor: Actor) -> None:
        while actor.waits_for is not None and self._is_answered_or_waits(actor):
            actor.go_on()
        self._note_closed_orders()
        self.in_flight.extend(actor.delayed)
        actor.delayed.clear()
        if actor.waits_for is not None:
            self.counts["waits for locks"] += 1
        if actor.finished:
            self._end(actor)

    def _is_answered_or_waits(self, actor: Actor) -> bool:
        """True when the statement has ended; False when it waits for somebody who will not end by itself."""
        while not actor.is_answered():
            if self._waits_for_others(actor):
                return False
            actor.is_answered(0.001)
        return True

    def _waits_for_others(self, actor: Actor) -> bool:
        """Whether a lock keeps it. A circle of waits does not: Postgres is about to break it."""
        waiting = {each.backend: each for each in [*self.alive(), actor] if each.waits_for is not None}
        blocking = self.stores.is_waiting_for_lock(actor.backend)
        seen: set[int] = set()
        todo = list(blocking)
        while todo:
            backend = todo.pop()
            if backend == actor.backend:
                return False
            if backend not in seen and backend in waiting:
                seen.add(backend)
                todo.extend(self.stores.is_waiting_for_lock(backend))
        return bool(blocking)

    def _look_at_locks(self) -> None:
        """Who waited for a lock that is free now goes on within Postgres, at once: wait for that, too.

        Then nobody is left waiting for what another waits for. Postgres would let either of them have it first.
        """
        for actor in self.alive():
            if actor.waits_for is not None and self._is_answered_or_waits(actor):
                actor.go_on()
                self._settle(actor)
        waiting = {actor.backend: actor for actor in self.alive() if actor.waits_for is not None}
        second = self.stores.second_in_a_queue(list(waiting)) if len(waiting) > 1 else None
        if second is not None:
            self._time_out(waiting[second])

    def _time_out(self, actor: Actor) -> None:
        self._note(actor.name, "has waited for a lock for too long")
        actor.cancel_statement()
        actor.go_on()
        self._settle(actor)
        self._look_at_locks()

    def _crash(self, actor: Actor) -> None:
        if actor.waits_for is not None:
            self._time_out(actor)
        if actor.number in self._actors:
            self._event(actor.name, f"is killed before: {actor.about_to}")
            self._engine_of.pop(actor.number)
            actor.crash()
            self._end(actor)
            self._look_at_locks()

    def _end(self, actor: Actor) -> None:
        del self._actors[actor.number]
        engine = self._engine_of.pop(actor.number, None)
        if engine is not None:
            self._idle.append(engine)
        error = actor.failure
        if error is None:
            return
        self._tell(actor.name, "ends with", f"{type(error).__name__}: {error}")
        if not isinstance(error, EngineError) or isinstance(error, BrokenContract | LaneCountMismatch):
            self.faults.append(f"{actor} ended with {type(error).__name__}: {error}")

    # -- the end

    def _come_to_rest(self) -> None:
        try:
            for number, found in enumerate(come_to_rest(self.stores, self.quiet), 1):
                verdicts = {lane: str(verdict) for lane, verdict in found.items()}
                self._tell("the engine", f"comes to rest, round {number}", verdicts)
        except (EngineError, NoRest) as error:
            self.faults.append(f"the engine does not come to rest: {type(error).__name__}: {error}")

    # -- writing down

    def _heard(self, reply: object) -> None:
        self._decided += self.record.see(reply)

    def _note_closed_orders(self) -> None:
        """An idempotency key that comes again after its order is closed gets that order's end."""
        for request_id in self._decided:
            if self.stores.rows("SELECT 1 FROM orders WHERE nonce = %(nonce)s", nonce=nonce_of(request_id)):
                self.record.closed_before.add(request_id)
        self._decided.clear()

    def _coupon_of(self, user_id: int) -> int | None:
        rows = self.stores.rows("SELECT id FROM user_coupons WHERE user_id = %(user)s ORDER BY id", user=user_id)
        return rows[0]["id"] if rows else None

    def _order_at(self, place: int) -> int | None:
        rows = self.stores.rows("SELECT id FROM orders WHERE status IN ('COMPLETED', 'CANCELLED') ORDER BY id")
        return rows[place % len(rows)]["id"] if rows else None

    def _event(self, who: str, what: str) -> None:
        self._note(who, what)
        self._look_at_locks()

    def _note(self, who: str, what: str) -> None:
        self.record.step += 1
        self._tell(who, what)
        self.counts[re.sub(r"[\d(].*|:.*|,.*", "", what).strip()] += 1

    def _tell(self, who: str, what: str, outcome: Any = None, step: int | None = None) -> None:
        line = Line(self.record.step if step is None else step, who, what, outcome)
        self.lines.append(line)
        if self.say is not None:
            self.say(line)


__all__ = ["History", "Line"]
