"""Which faults meet in which round: every point often enough in little time, or whatever chance brings."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from tests.faults.machine.faults import (
    DRAIN_POINTS,
    FOLLOWUP_POINTS,
    KILL,
    NETWORK_DISTURBANCES,
    POINTS,
    SCHEDULER_POINTS,
    SLEEP,
    WEB_POINTS,
    Disturbance,
    Point,
    possible_disturbances,
)
from tests.faults.machine.machine import Machine
from tests.faults.machine.outcomes import Round
from tests.faults.machine.rounds import Injection, Plan

TOGETHER: Sequence[tuple[Sequence[Point], int]] = (
    (WEB_POINTS, 2),
    (DRAIN_POINTS, 2),
    (FOLLOWUP_POINTS, 1),
    (SCHEDULER_POINTS, 2),
)
"""How many points of a kind one round injects: of each kind of process, some are left to go on."""
ONLY_WITH_SEVERAL_LANES = frozenset({"order.between_lanes"})
ONLY_WITH_ONE_LANE = frozenset({"guard.before_approval"})
"""What a lane has counted does not tell of another lane's holds: where there are several, one whose server changed is
always rebuilt."""
MEANWHILE = (Machine.forget_everything, None, Machine.restart_redis, None)
"""What happens while processes sleep, in turn."""
ROUNDS_PER_INJECTION = 3
"""After so many rounds for each wanted injection of the slowest kind it is clear that a point is not reached."""
SOAK_DISTURBANCE_PROBABILITY = 0.4
SOAK_SLEEP_PROBABILITY = 0.35


def reachable_points(lanes: int) -> frozenset[str]:
    """The points that somebody comes by with so many lanes."""
    never = ONLY_WITH_SEVERAL_LANES if lanes == 1 else ONLY_WITH_ONE_LANE
    return frozenset(point.name for point in POINTS) - never


class PointPlans:
    """Rounds until each of ``points`` has done ``action`` so many times; :meth:`note` has to be told of each round."""

    def __init__(self, action: str, times: int, points: Collection[str]) -> None:
        self._action = action
        self.missing = Counter(dict.fromkeys(points, times))
        slowest = max(math.ceil(sum(each.name in points for each in kind) / count) for kind, count in TOGETHER)
        self._most_rounds = ROUNDS_PER_INJECTION * times * slowest

    def __iter__(self) -> Iterator[Plan]:
        for number in range(self._most_rounds):
            wanted = [point for points, count in TOGETHER for point in self._neediest(points, count)]
            if not wanted:
                return
            meanwhile = MEANWHILE[number % len(MEANWHILE)] if self._action == SLEEP else None
            injections = tuple(Injection(point, self._action) for point in wanted)
            yield Plan(injections, meanwhile=meanwhile, together=self._action == KILL)

    def note(self, done: Round) -> None:
        """What the round did inject."""
        for name, _ in done.injected:
            self.missing[name] -= 1

    def _neediest(self, points: Sequence[Point], count: int) -> list[Point]:
        needy = [point for point in points if self.missing[point.name] > 0]
        return sorted(needy, key=lambda point: -self.missing[point.name])[:count]


def disturbance_plans(machine: Machine) -> Iterator[Plan]:
    """Every disturbance once; those of the network in pairs, on different ways."""
    for disturbance in possible_disturbances(machine):
        if disturbance not in NETWORK_DISTURBANCES:
            yield Plan(disturbances=(disturbance,))
    half = len(NETWORK_DISTURBANCES) // 2
    for pair in zip(NETWORK_DISTURBANCES[:half], NETWORK_DISTURBANCES[half:], strict=True):
        yield Plan(disturbances=pair)


def random_plan(machine: Machine, chance: random.Random) -> Plan:
    """Whatever may meet: some points, each to die or to sleep at, perhaps a disturbance on top."""
    reachable = reachable_points(machine.stack.engine.gate.lanes)
    injections = [
        Injection(point, SLEEP if chance.random() < SOAK_SLEEP_PROBABILITY else KILL)
        for points, count in TOGETHER
        for point in chance.sample([each for each in points if each.name in reachable], chance.randint(0, count))
    ]
    disturbances: tuple[Disturbance, ...] = ()
    if not injections or chance.random() < SOAK_DISTURBANCE_PROBABILITY:
        disturbances = (chance.choice(possible_disturbances(machine)),)
    meanwhile = chance.choice(MEANWHILE)
    if any(each.takes_store_away for each in disturbances):
        # Nothing that the machine would have to do to that store to make somebody come by.
        injections = [each for each in injections if each.point.process != "scheduler"]
        meanwhile = None
    return Plan(tuple(injections), disturbances, meanwhile, together=chance.random() < 0.5)
