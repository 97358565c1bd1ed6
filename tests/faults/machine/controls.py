"""Negative controls with real processes: each guard off once, and what of the verdict notices it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Barrier

from tests.faults.machine.asking import Asker
from tests.faults.machine.breaks import BREAKS, Break
from tests.faults.machine.faults import POINTS, REVERTED, SLEEP
from tests.faults.machine.history import Issue
from tests.faults.machine.machine import Machine, running_machine
from tests.faults.machine.rounds import Injection, Plan, run_round
from tests.faults.machine.verdict import Kind, Violation

MOST_ROUNDS = 4
FEW, MANY, BURSTS = 1, 24, 5
_POINTS = {point.name: point for point in POINTS}


def _sleeping(*points: str) -> tuple[Injection, ...]:
    return tuple(Injection(_POINTS[name], SLEEP) for name in points)


def _all_at_once(machine: Machine) -> None:
    """More people than coupons, in the same instant."""
    machine.offers.enlarge(machine.offers.small_coupon, FEW)
    coupon_id = machine.offers.small_coupon
    together = Barrier(MANY)

    def ask(number: int) -> None:
        user_id = next(machine.crowd.newcomers)
        with closing(Asker(machine.stack.web_ports, number)) as asker:
            asker.ask("GET", "/products")  # so that there is a connection
            together.wait()
            told = asker.ask("POST", f"/coupons/{coupon_id}/issue", {"userId": user_id})
        machine.crowd.history.issues.append(Issue([told], coupon_id=coupon_id, user_id=user_id))

    for _ in range(BURSTS):
        with ThreadPoolExecutor(MANY) as pool:
            list(pool.map(ask, range(MANY)))


_DRAINS_SLEEP = Plan(
    _sleeping("drain.after_reading_head"), meanwhile=Machine.forget_everything, together=False, sleep_seconds=4.0
)
PLANS: Mapping[str, Plan] = {
    "server check": Plan(disturbances=(REVERTED,)),
    "epoch fence": _DRAINS_SLEEP,
    "rebuild token": Plan(_sleeping("rebuild.building"), together=False, sleep_seconds=5.0),
    "single-script atomicity": Plan(meanwhile=_all_at_once),
    "unique keys": _DRAINS_SLEEP,
    "lease": _DRAINS_SLEEP,
}
EXPECTED: Mapping[str, frozenset[Kind]] = {
    "server check": frozenset({Kind.TAKEN_BACK}),
    "epoch fence": frozenset({Kind.TAKEN_BACK}),
    "rebuild token": frozenset({Kind.TAKEN_BACK}),
    "single-script atomicity": frozenset({Kind.OVERSOLD}),
    "unique keys": frozenset({Kind.TWICE}),
    "lease": frozenset(),
}
"""One of these has to be noticed; where there is none, correctness does not depend on the guard: nothing may be."""


@dataclass(frozen=True)
class Control:
    """What was noticed while a guard was off."""

    broken: Break
    rounds: int
    violations: Sequence[Violation]

    @property
    def as_expected(self) -> bool:
        kinds, expected = {violation.kind for violation in self.violations}, EXPECTED[self.broken.name]
        return bool(kinds & expected) if expected else not kinds

    def cells(self) -> list[str]:
        """One line of the table: the guard, what is off, what noticed, for example."""
        kinds = Counter(violation.kind for violation in self.violations)
        noticed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing"
        telling = [each.text for each in self.violations if each.kind in EXPECTED[self.broken.name]]
        first = telling[0] if telling else "correctness does not depend on it"
        return [self.broken.name, self.broken.what, noticed, first.replace("|", "/")[:160]]


def run_controls() -> list[Control]:
    """Every guard off once, on a stack of its own, until something is noticed or enough rounds were made."""
    found = []
    for broken in BREAKS:
        found.append(_run_control(broken))
        print(f"{broken.name}: {' | '.join(found[-1].cells()[2:])}", flush=True)
    return found


def table(controls: Sequence[Control]) -> str:
    """The table, as Markdown."""
    head = ["switched off", "so that", "the verdict notices", "for example"]
    lines = [head, ["---"] * len(head), *(control.cells() for control in controls)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _run_control(broken: Break) -> Control:
    violations: list[Violation] = []
    rounds = 0
    with running_machine(broken=broken) as machine:
        while not EXPECTED[broken.name] & {each.kind for each in violations} and rounds < MOST_ROUNDS:
            run_round(machine, PLANS[broken.name])
            violations += machine.rest().violations
            rounds += 1
    return Control(broken, rounds, violations)
