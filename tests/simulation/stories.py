"""Stories: what has to come together for most faults, and by pure chance would once in a hundred histories.

A story only says what happens next when the planner asks; in between anything may happen by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from engine.gate.keys import lane_of
from tests.simulation.plan import TO_ITS_END, Instruction

if TYPE_CHECKING:
    from tests.simulation.planner import Planner

STOPS_AFTER = (1, 2, 3, 4, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 18, 25)
"""Round trips: most of what is decided on what was read is read in the first few."""
DRAIN_STOPS_AFTER = (3, 4, 4, 4, 4, 5, 7, 10, 12, 13, 14)
"""A drain has its lease and rings no bell after three, knows the head of the outbox after four, has committed it after
ten or so."""
GUARD_STOPS_AFTER = (2, 5, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 25, 27)
"""A rebuild of a single lane begins to build after fifteen or so, and opens the lane after twenty-five or so."""
ORDER_RECORDED_AFTER = (4, 26)
"""A drain knows the head of the outbox after four; it has committed an order, told its lanes and removed it after so
many, two or three lanes later."""
REFUSED_STOPS_AFTER = (3, 4, 4, 5, 5, 6, 7)
"""An order over two or three lanes is refused in the last one after four or so, and has given back what it held after
one or two more."""
FOLLOW_UP_STOPS_AFTER = (3, 4, 5, 6, 7, 8)
"""It has claimed a return after three, carried it out after six or so, and not yet marked it as done."""
CUSTOMERS = {"issue": 3, "order": 3, "order in a crowd": 1, "drain": 2, "cancel": 2}
SLEEPERS = {"drain": 6, "guard": 5, "sweep": 2, "publish": 1, "follow up": 3, "order": 3, "poll": 1, "add stock": 1}
INTERRUPTED = {"drain": 6, "follow up": 5, "order": 4, "charge": 2, "cancel": 2, "issue": 2, "poll": 2, "sweep": 1}
AFTERWARDS = {"issue": 3, "order": 3, "cancel": 1, "drain": 1, "follow up": 1, "poll": 1}


def sleeper(planner: Planner) -> Iterator[Instruction]:
    """Somebody falls asleep in the middle of something, Redis forgets, everybody else goes on, the sleeper wakes."""
    chance = planner.chance
    for _ in range(chance.randint(1, 4)):
        yield planner.sent(planner.chosen(CUSTOMERS))
        if chance.random() < 0.2:
            yield Instruction("copy")
    if chance.random() < 0.4:
        yield Instruction("copy")
        yield planner.sent(chance.choice(("issue", "order")))
        yield planner.sent("drain")
    kind = planner.chosen(SLEEPERS)
    if kind == "guard":
        yield planner.forget() if chance.random() < 0.6 else planner.restart()
    elif kind == "drain":
        yield planner.sent(chance.choice(("issue", "order")))
    number = planner.history.next_number
    stops_after = {"drain": DRAIN_STOPS_AFTER, "guard": GUARD_STOPS_AFTER}.get(kind, STOPS_AFTER)
    yield planner.sent(kind, chance.choice(stops_after))
    planner.put_to_sleep(number)
    if chance.random() < 0.3:
        yield Instruction("pass", values={"minute": chance.random() < 0.5})
    yield chance.choice((planner.forget, planner.forget, planner.restart))()
    if chance.random() < 0.5:
        yield planner.sent(chance.choice(("issue", "order")))
    yield planner.sent("guard")
    yield from _afterwards(planner, 4)
    yield Instruction("run", number, {"rounds": TO_ITS_END})
    yield from _afterwards(planner, 2)


def interruption(planner: Planner) -> Iterator[Instruction]:
    """Somebody dies, sleeps, or does not hear what became of it, in the middle of something that is done once more."""
    chance = planner.chance
    for kind in ("order", "order", "issue", "drain", "cancel", "order"):
        if chance.random() < 0.7:
            yield planner.sent(kind)
    kind = planner.chosen(INTERRUPTED)
    if kind == "drain":
        yield planner.sent("order")
    number = planner.history.next_number
    stops_after = {"poll": (1, 2, 2, 3, 3), "drain": DRAIN_STOPS_AFTER}.get(kind, STOPS_AFTER)
    begun = planner.sent(kind, chance.choice(stops_after))
    yield begun
    fate = chance.choice(("dies", "dies", "sleeps", "ANSWER_LOST", "ANSWER_LOST", "DELAYED"))
    if kind == "poll":
        fate = "sleeps"
    if fate == "sleeps":
        planner.put_to_sleep(number)
    elif fate == "dies":
        yield Instruction("crash", number)
    else:
        yield Instruction("fault", number, {"fault": fate})
    if chance.random() < 0.8:
        yield Instruction("pass", values={"minute": chance.random() < 0.8})
    again = planner.sent("drain") if kind == "poll" else begun
    yield Instruction("start", planner.history.next_number, {**again.values, "rounds": TO_ITS_END})
    yield Instruction("arrive")
    yield from _afterwards(planner, 3)
    yield Instruction("run", number, {"rounds": TO_ITS_END})


def once_more(planner: Planner) -> Iterator[Instruction]:
    """Somebody orders under a key, it is settled or cancelled or not, Redis forgets, and the order is asked after, and
    placed once more."""
    chance = planner.chance
    ordered = planner.sent("order")
    ordered.values["key"] = "first"
    yield ordered
    settled = chance.random() < 0.6
    if settled:
        yield planner.sent("drain")
        yield planner.sent("cancel")
    if chance.random() < 0.7:
        yield Instruction("copy")
    sleeper = planner.history.next_number
    if settled:
        yield planner.sent("follow up", chance.choice((TO_ITS_END, *FOLLOW_UP_STOPS_AFTER)))
        planner.put_to_sleep(sleeper)
    yield planner.forget()
    yield planner.sent("guard")
    yield planner.sent("poll")
    yield Instruction("start", planner.history.next_number, {**ordered.values, "rounds": TO_ITS_END})
    yield planner.sent("drain")
    yield Instruction("run", sleeper, {"rounds": TO_ITS_END})
    yield from _afterwards(planner, 2)


def once_more_on_a_shard(planner: Planner) -> Iterator[Instruction]:
    """Somebody orders of everything under a key, and they or the drain stop somewhere; the server that the order is
    submitted on forgets, and the order is placed once more on what the others still hold."""
    chance, shop = planner.chance, planner.history.shop
    lanes = {product: lane_of("sku", product, shop.lanes) for product in range(1, 1 + len(shop.products))}
    last = max(lanes.values())
    richest = 1 + max(range(len(shop.balances)), key=lambda user: shop.balances[user] or 0)
    ordered = planner.sent("order")
    ordered.values.update(user=richest, key="first", quantities=dict.fromkeys(lanes, 1), redeem=False)
    if chance.random() < 0.4:  # refused, because somebody has the last ones who is forgotten, and asleep
        others = planner.sent("order")
        others.values["quantities"] = {each: shop.products[each - 1][1] for each in lanes if lanes[each] == last}
        yield others
        sleeper = planner.history.next_number
        yield Instruction("start", sleeper, {**ordered.values, "rounds": chance.choice(REFUSED_STOPS_AFTER)})
    else:
        yield Instruction("start", planner.history.next_number, ordered.values)
        sleeper = planner.history.next_number
        yield planner.sent_to_drain(last, chance.randint(*ORDER_RECORDED_AFTER))
    planner.put_to_sleep(sleeper)
    forgotten = planner.forget()
    forgotten.values.update(copy=None, lanes=[last])
    yield forgotten
    if chance.random() < 0.4:
        yield Instruction("pass", values={"minute": True})
        yield planner.sent("sweep")
    if chance.random() < 0.7:
        yield planner.sent("guard")
        yield Instruction("start", planner.history.next_number, ordered.values)
    if chance.random() < 0.6:
        yield planner.sent_to_drain(last)
    yield Instruction("run", sleeper, {"rounds": TO_ITS_END})
    yield planner.sent(chance.choice(("guard", "sweep", "order")))
    yield from _afterwards(planner, 2)


def two_rebuilds(planner: Planner) -> Iterator[Instruction]:
    """A scheduler that should be gone and the one that took over rebuild at the same time, each as far as it comes
    before the other goes on; people shop in between."""
    chance = planner.chance
    for _ in range(chance.randint(0, 3)):
        yield planner.sent(planner.chosen(CUSTOMERS))
    yield planner.forget() if chance.random() < 0.8 else planner.restart()
    rebuilders = []
    for _ in range(2):
        number = planner.history.next_number
        yield planner.sent("guard", chance.choice(GUARD_STOPS_AFTER))
        planner.put_to_sleep(number)
        rebuilders.append(number)
    for _ in range(chance.randint(1, 4)):
        rounds = chance.choice((1, 2, 3, 5, 8, TO_ITS_END))
        yield Instruction("run", chance.choice(rebuilders), {"rounds": rounds})
        yield planner.sent(chance.choice(("issue", "order")))
    chance.shuffle(rebuilders)
    for number in rebuilders:
        yield Instruction("run", number, {"rounds": TO_ITS_END})
        yield from _afterwards(planner, 2)


def _afterwards(planner: Planner, most: int) -> Iterator[Instruction]:
    for _ in range(planner.chance.randint(0, most)):
        yield planner.sent(planner.chosen(AFTERWARDS))


STORIES: Mapping[str, Callable[[Planner], Iterator[Instruction]]] = {
    "sleeper": sleeper,
    "interruption": interruption,
    "once more": once_more,
    "once more on a shard": once_more_on_a_shard,
    "two rebuilds": two_rebuilds,
}
