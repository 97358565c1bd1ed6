"""What chance brings together can be done together, and every point comes often enough."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from tests.faults.machine.faults import CLOCK_DISTURBANCES, KILL, POINTS, possible_disturbances
from tests.faults.machine.outcomes import Round
from tests.faults.machine.plans import TOGETHER, PointPlans, random_plan, reachable_points
from tests.faults.test_fault_points import points_in_the_table

LANES = 2
MACHINE: Any = SimpleNamespace(
    stack=SimpleNamespace(clock=object(), engine=SimpleNamespace(gate=SimpleNamespace(lanes=LANES)))
)
ALL = frozenset(points_in_the_table())
WITHOUT_CLOCK: Any = SimpleNamespace(stack=SimpleNamespace(clock=None))


def test_the_machine_knows_every_point_there_is() -> None:
    assert sorted(point.name for point in POINTS) == sorted(points_in_the_table())
    assert {point.name for points, _ in TOGETHER for point in points} == set(points_in_the_table())


def test_every_point_comes_so_often_and_no_more_rounds_are_made() -> None:
    plans, rounds = PointPlans(KILL, 3, ALL), 0
    for plan in plans:
        assert len(plan.injections) == len({injection.point.name for injection in plan.injections})
        plans.note(Round(0, 1, tuple((injection.point.name, "kills") for injection in plan.injections)))
        rounds += 1
    assert set(plans.missing.values()) == {0}
    assert rounds == max(-(-len(points) * 3 // count) for points, count in TOGETHER)


def test_a_point_that_nobody_reaches_ends_the_rounds_and_is_told_of() -> None:
    plans = PointPlans(KILL, 2, ALL)
    for plan in plans:
        reached = [injection.point.name for injection in plan.injections if injection.point.name != "issue.decided"]
        plans.note(Round(0, 1, tuple((name, "kills") for name in reached)))
    assert {name: count for name, count in plans.missing.items() if count} == {"issue.decided": 2}


def test_what_one_number_of_lanes_cannot_reach_another_can() -> None:
    assert ALL - reachable_points(1) == {"order.between_lanes"}
    assert ALL - reachable_points(2) == {"guard.before_approval"}
    only = PointPlans(KILL, 2, ALL - reachable_points(2))
    for plan in only:
        assert [each.point.name for each in plan.injections] == ["guard.before_approval"]
        only.note(Round(0, 1, (("guard.before_approval", "kills"),)))
    assert set(only.missing.values()) == {0}


def test_the_clock_is_only_set_where_there_is_one() -> None:
    assert set(CLOCK_DISTURBANCES) <= set(possible_disturbances(MACHINE))
    assert set(possible_disturbances(MACHINE)) - set(possible_disturbances(WITHOUT_CLOCK)) == set(CLOCK_DISTURBANCES)


def test_chance_repeats_itself_with_its_seed_and_asks_nothing_of_a_store_that_is_away() -> None:
    first, second = (
        [random_plan(MACHINE, chance) for _ in range(500)] for chance in (random.Random(7), random.Random(7))
    )
    assert first == second
    away = [plan for plan in first if any(each.takes_store_away for each in plan.disturbances)]
    assert away
    for plan in away:
        assert plan.meanwhile is None
        assert all(injection.point.provoke is None for injection in plan.injections)
    assert any(plan.meanwhile is not None and plan.disturbances for plan in first)
    assert {injection.point.name for plan in first for injection in plan.injections} == reachable_points(LANES)
