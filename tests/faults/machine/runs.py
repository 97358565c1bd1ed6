"""Whole runs: rounds with rests between them, until all is done that was planned; then the table."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from tests.faults.machine.faults import CLOCK_DISTURBANCES, KILL, POINTS, SLEEP
from tests.faults.machine.machine import Machine
from tests.faults.machine.outcomes import Outcomes, Round
from tests.faults.machine.plans import PointPlans, disturbance_plans, random_plan
from tests.faults.machine.reopening import measure_reopening
from tests.faults.machine.rounds import Injection, Plan, run_round
from tests.faults.machine.verdict import Kind, Violation

REST_EVERY_SECONDS = 75.0
"""Often enough that a fault is near what it broke, seldom enough that the load goes on."""
VIOLATIONS_SHOWN = 30
SHORT_SLEEP_SECONDS = 4.0


class Run:
    """One run of the machine and what came of it."""

    def __init__(self, machine: Machine, reports: Path, name: str) -> None:
        self.machine = machine
        self.outcomes = Outcomes()
        self.notes: list[str] = []
        self.complaints: list[str] = []
        """Why the run proves nothing, or is not in time, though nothing was wrong with any answer."""
        self._reports = reports
        self._name = name
        self._started = time.monotonic()
        self._rested = time.monotonic()
        self._rounds: list[Round] = []

    def move_to(self, machine: Machine) -> None:
        """Go on with another machine; what was found so far stays."""
        self.machine, self._rounds, self._rested = machine, [], time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._started

    def go(self, plan: Plan) -> Round:
        """One round, and a rest when it is time for one."""
        began = time.monotonic()
        done = run_round(self.machine, plan)
        self._rounds.append(done)
        words = ", ".join(f"{name} {what.removesuffix('s')}" for name, what in done.injected)
        self.say(f"{time.monotonic() - began:5.1f} s  {words or 'nothing was reached'}")
        if time.monotonic() - self._rested > REST_EVERY_SECONDS:
            self.rest()
        return done

    def rest(self) -> None:
        """Check everything that was told since the last rest."""
        rest = self.machine.rest()
        self.outcomes.add(self._rounds, rest)
        wishes = len(rest.history.issues) + len(rest.history.purchases)
        self.say(f"rest: {wishes:,} wishes checked, {len(rest.violations)} things wrong")
        for violation in rest.violations[:VIOLATIONS_SHOWN]:
            self.say(f"  {violation.kind}: {violation.text}")
        if rest.violations:
            self._keep_log()
        self._rounds = []
        self._rested = time.monotonic()

    def give_up(self, error: TimeoutError) -> None:
        """The stack does not heal: that is a finding, and the end of the run."""
        self._keep_log()
        names = ", ".join(dict.fromkeys(name for each in self._rounds[-1:] for name in each.names))
        self.outcomes.violations.append((names, Violation(Kind.OTHER, f"does not heal: {str(error)[:2000]}")))
        self.say(str(error))

    def say(self, text: str) -> None:
        """A line with the time since the beginning."""
        print(f"[{self.seconds / 60:5.1f} min] {text}", flush=True)

    def conclude(self) -> int:
        """Print the table and write it down; the exit code."""
        outcomes = self.outcomes
        print("\n" + outcomes.table(), *self.notes, sep="\n", flush=True)
        for names, violation in outcomes.violations[:VIOLATIONS_SHOWN]:
            print(f"WRONG ({violation.kind}) while {names}: {violation.text}")
        for complaint in self.complaints:
            print(f"WRONG: {complaint}")
        self._reports.mkdir(parents=True, exist_ok=True)
        path = self._reports / f"{self._name}.md"
        path.write_text("\n\n".join([outcomes.markdown(), *self.notes]) + "\n", encoding="utf-8")
        wrong = len(outcomes.violations) + len(self.complaints)
        counts = outcomes.total.counts
        print(
            f"{'FAILED' if wrong else 'PASSED'}: {wrong} things wrong in {self.seconds / 60:.1f} minutes; "
            f"{counts['kills']:,} kills, {counts['sleeps']:,} sleeps and {counts['others']:,} other faults, "
            f"{counts['accepted']:,} promises. The table is in {path}",
            flush=True,
        )
        return 1 if wrong else 0

    def _keep_log(self) -> None:
        """What the processes said is in a folder that goes; somebody will want to read it."""
        self._reports.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.machine.stack.folder / "output", self._reports / f"{self._name}-processes.log")


def points(run: Run, names: Collection[str], *, kills: int, sleeps: int) -> bool:
    """Each of these points so often; False when the stack did not heal, and nothing more can be done to it."""
    try:
        for action, times in ((KILL, kills), (SLEEP, sleeps)):
            plans = PointPlans(action, times, names)
            for plan in plans:
                plans.note(run.go(plan))
            run.complaints += [
                f"{name} is {count} of {times} {action}s short" for name, count in plans.missing.items() if count > 0
            ]
        run.rest()
    except TimeoutError as error:
        run.give_up(error)
        return False
    return True


def disturbances(run: Run) -> None:
    """Each of them once."""
    try:
        for plan in disturbance_plans(run.machine):
            run.go(plan)
        _say_what_was_impossible(run)
        run.rest()
    except TimeoutError as error:
        run.give_up(error)


def reopening(run: Run) -> None:
    """Forget a rush that has a hundred thousand winners, and see how soon it goes on."""
    try:
        measured = measure_reopening(run.machine)
        run.notes.append(f"{measured}.")
        run.say(f"{measured}; issuing took {measured.issuing_seconds:.0f} s")
        if not measured.in_time:
            run.complaints.append(str(measured))
        run.rest()
    except TimeoutError as error:
        run.give_up(error)


def soak(run: Run, *, minutes: int, seed: int) -> None:
    """Whatever chance brings."""
    seed = seed or random.SystemRandom().randrange(1, 2**32)
    chance = random.Random(seed)
    run.notes.append(f"{minutes} minutes, SEED={seed} repeats the choice of faults.")
    run.say(f"SEED={seed}")
    _say_what_was_impossible(run)
    try:
        while run.seconds < minutes * 60:
            run.go(random_plan(run.machine, chance))
        run.rest()
    except TimeoutError as error:
        run.give_up(error)


def short(run: Run) -> None:
    """A little of everything: kills, sleeps through a loss of memory, a network that goes deaf."""
    points = {point.name: point for point in POINTS}

    def together(action: str, *names: str) -> tuple[Injection, ...]:
        return tuple(Injection(points[name], action) for name in names)

    try:
        killed = run.go(
            Plan(together(KILL, "issue.decided", "drain.before_commit", "followups.claimed", "rebuild.building"))
        )
        slept = run.go(
            Plan(
                together(SLEEP, "drain.after_reading_head", "order.decided", "rebuild.before_opening"),
                meanwhile=Machine.forget_everything,
                together=False,
                sleep_seconds=SHORT_SLEEP_SECONDS,
            )
        )
        run.go(next(plan for plan in disturbance_plans(run.machine) if "deaf" in plan.disturbances[0].name))
        run.rest()
    except TimeoutError as error:
        run.give_up(error)
        return
    done = [what for _, what in (*killed.injected, *slept.injected)]
    if "kills" not in done or "sleeps" not in done:
        run.complaints.append("nothing was killed, or nothing slept")


def _say_what_was_impossible(run: Run) -> None:
    if run.machine.stack.clock is None:
        names = " and ".join(disturbance.name for disturbance in CLOCK_DISTURBANCES)
        run.notes.append(f"Not injected, because it needs a C compiler: {names}.")
