"""The benchmark's arithmetic: medians, ratios, goals, and what makes a run fail."""

from __future__ import annotations

import json

import pytest

from loadtests.benchmark import wording
from loadtests.benchmark.decisions import script_time
from loadtests.benchmark.durability import Look, lags_ms
from loadtests.benchmark.http_rows import GENERATOR_LIMIT, Slices, limits_of_the_generator, merged, route_figures
from loadtests.benchmark.loads import Load
from loadtests.benchmark.results import Figure, Goal, Results, Row, at_least, at_most, ratios
from loadtests.benchmark.routes import Issue, Lock, Products
from loadtests.verdict import Check


def load(per_second: float, p99_ms: float = 10.0, share: float = 0.1) -> Load:
    return Load(2.0, {200: round(per_second * 2)}, p99_ms / 2, p99_ms, p99_ms, share)


def figure(*rounds: float, goal: Goal | None = None, unit: str = "×") -> Figure:
    return Figure("key", "section", "title", rounds, unit, goal)


def slices(kind: type[Issue] | type[Lock] | type[Products], loads: list[Load], beside: list[Load]) -> Slices:
    return Slices(object.__new__(kind), loads, beside)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert figure(1.0, 9.0, 2.0).value == 2.0


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (at_least(1.0), 1.0, True),
        (at_least(1.0), 0.999, False),
        (at_most(1.5), 1.5, True),
        (at_most(1.5), 1.501, False),
        (at_most(0), 0, True),
        (at_most(0), 1, False),
    ],
)
def test_a_goal_is_met_on_its_own_side_and_exactly_on_it(goal: Goal, value: float, met: bool) -> None:
    assert figure(value, goal=goal).met is met
    assert (goal.reached_by(value) >= 1.0) is met


def test_a_figure_without_a_goal_is_neither_met_nor_missed() -> None:
    assert figure(1.0).met is None
    assert wording.verdict_of(figure(1.0)) == ""


def test_ratios_are_taken_round_by_round() -> None:
    """The machine was half as fast in the second round, for both: the ratio does not change."""
    assert ratios([100.0, 50.0], [200.0, 100.0]) == (0.5, 0.5)


def test_ratios_of_what_was_not_measured_in_turns_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_a_missed_goal_fails_only_a_strict_run() -> None:
    results = Results(figures=[figure(0.5, goal=at_least(1.0))], checks=[Check("it is so", True, "")])
    assert results.exit_code(strict=False) == 0
    assert results.exit_code(strict=True) == 1
    assert Results(figures=[figure(2.0, goal=at_least(1.0))]).exit_code(strict=True) == 0


def test_a_failed_check_fails_every_run() -> None:
    results = Results(checks=[Check("it is so", True, ""), Check("it is not", False, "")])
    assert results.exit_code(strict=False) == 1
    assert [check.name for check in results.failed] == ["it is not"]


def test_json_keeps_every_round_and_says_what_was_missed() -> None:
    results = Results(rows=[Row("empty", "empty", (1.0, 3.0, 2.0), (1.0,), (2.0,), 0.1)])
    results.figures = [figure(1.0, 2.0, 4.0, goal=at_least(3.0))]
    found = json.loads(json.dumps(results.as_json()))
    assert found["rows"][0]["perSecond"] == {"median": 2.0, "rounds": [1.0, 3.0, 2.0]}
    assert found["figures"][0]["value"] == 2.0
    assert found["figures"][0]["rounds"] == [1.0, 2.0, 4.0]
    assert found["figures"][0]["goal"] == {"bound": "at least", "value": 3.0}
    assert found["figures"][0]["met"] is False


def test_each_route_is_held_against_the_empty_slice_beside_it() -> None:
    figures = route_figures({"products": slices(Products, [load(50), load(90)], [load(100), load(300)])})
    assert [each.key for each in figures] == ["products/empty"]
    assert figures[0].rounds == (0.5, 0.3)
    assert figures[0].goal == at_least(1.0)


def test_issue_is_held_against_the_lock_when_both_were_measured() -> None:
    issue = slices(Issue, [load(1000, p99_ms=30)], [load(500, p99_ms=20)])
    lock = slices(Lock, [load(20, p99_ms=900)], [load(500)])
    found = {each.key: each for each in route_figures({"issue": issue, "lock": lock})}
    assert found["issue/empty"].value == 2.0
    assert found["issue-p99/empty"].value == 1.5
    assert found["issue-p99/empty"].met is True
    assert found["issue/lock"].value == 50.0
    assert found["issue-p99/lock"].value == pytest.approx(1 / 30)
    assert "lock/empty" not in found
    assert "issue/lock" not in {each.key for each in route_figures({"issue": issue})}


def test_a_generator_at_its_limit_is_told_of() -> None:
    rows = [
        Row("calm", "calm", (1.0,), (1.0,), (1.0,), GENERATOR_LIMIT),
        Row("busy", "busy", (1.0,), (1.0,), (1.0,), GENERATOR_LIMIT + 0.01),
    ]
    told = limits_of_the_generator(rows)
    assert len(told) == 1
    assert told[0].startswith("busy")


def test_checks_of_many_slices_become_one_but_a_failed_one_stays() -> None:
    checks = [
        Check("issue, round 1/2: only the expected answers", True, "10 answered"),
        Check("issue, round 2/2: only the expected answers", True, "20 answered"),
        Check("orders, round 2/2: only the expected answers", False, "others {500: 1}"),
        Check("nothing is in quarantine", True, "0 entries"),
    ]
    assert merged(checks) == [
        Check("issue: only the expected answers", True, "10 answered, and in 1 more slices"),
        checks[2],
        checks[3],
    ]


def test_the_lag_of_a_place_ends_with_the_first_look_that_saw_it() -> None:
    looks = [Look(10.00, 0), Look(10.10, 2), Look(10.20, 2), Look(10.50, 3)]
    decided = [(1, 10.00), (2, 10.05), (3, 10.15)]
    assert lags_ms(decided, looks) == pytest.approx([50.0, 100.0, 350.0])


def test_a_place_that_was_never_seen_makes_no_lag() -> None:
    with pytest.raises(ValueError, match="place 2 was never seen"):
        lags_ms([(1, 10.0), (2, 10.0)], [Look(10.1, 1)])


def test_what_a_script_calls_is_in_its_time_already() -> None:
    statistics = {
        "cmdstat_evalsha": {"calls": 10, "usec": 300},
        "cmdstat_eval": {"calls": 1, "usec": 40},
        "cmdstat_hmget": {"calls": 22, "usec": 60},
        "cmdstat_xadd": {"calls": 11, "usec": 50},
    }
    assert script_time(statistics) == (340, 11)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0, "×", "0.00×"),
        (0.0421, "×", "0.042×"),
        (1.234, "×", "1.23×"),
        (61.04, "µs", "61.0 µs"),
        (1234.5, "ms", "1,234 ms"),
        (3.0, "", "3"),
    ],
)
def test_values_are_told_with_about_three_digits(value: float, unit: str, words: str) -> None:
    assert wording.amount(value, unit) == words


@pytest.mark.parametrize(
    ("goal", "unit", "words"),
    [
        (at_least(1.0), "×", "≥ 1.0×"),
        (at_least(150), "×", "≥ 150×"),
        (at_most(0.1), "×", "≤ 0.1×"),
        (at_most(2000), "ms", "≤ 2,000 ms"),
        (at_most(0), "", "≤ 0"),
        (None, "×", "–"),
    ],
)
def test_goals_are_told_as_they_were_set(goal: Goal | None, unit: str, words: str) -> None:
    assert wording.goal_of(goal, unit) == words
