"""What an audit checks, what it found, and since when something has been as it is."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

EXAMPLES_SHOWN = 3
DETAIL_CHARACTERS = 500
"""A detail is for a person: some of what is wrong, and how much more of it there is."""


class CheckName(StrEnum):
    """Everything that is checked, in the order in which it is told. Clients may branch on these."""

    LANES = "lanes are open and know what the ledger knows"
    DECISIONS = "every decision waits in its outbox or is in the ledger"
    DRAINED = "outboxes are drained"
    HOLDS = "no hold is long overdue"
    QUARANTINE = "nothing is in quarantine"
    PARKED = "no follow-up is parked"
    WORKED_OFF = "follow-ups are worked off"
    LIVE = "every change is live"
    COUPON_TERMS = "the gate gives coupons by the published terms"
    COUPONS = "coupons issued are those recorded and those waiting"
    WINNERS = "the gate knows a winner for every coupon issued"
    NUMBERED = "recorded coupons are counted and numbered without a gap"
    PRODUCT_TERMS = "the gate sells products by the published terms"
    STOCK = "units free at the gate are those in stock less held and to be returned"
    UNITS = "stock is what was supplied less what was sold"
    BALANCES = "balances are the sums of their transactions"
    PENDING = "no transaction is pending"
    AMOUNTS = "orders come to what their items cost"
    PAYMENTS = "orders are paid once, and refunded once when cancelled"
    REDEMPTIONS = "coupons are used exactly by completed orders"
    FOLLOWUPS = "orders have their follow-ups"
    HISTORY = "the history tells what was followed up"
    STATISTICS = "statistics are the sums of what was followed up"


LOOKED_AT: Mapping[CheckName, str] = {
    CheckName.LANES: "lane",
    CheckName.DECISIONS: "lane",
    CheckName.DRAINED: "lane",
    CheckName.HOLDS: "lane",
    CheckName.WORKED_OFF: "kind",
    CheckName.COUPON_TERMS: "coupon",
    CheckName.COUPONS: "coupon",
    CheckName.WINNERS: "coupon",
    CheckName.NUMBERED: "coupon",
    CheckName.PRODUCT_TERMS: "product",
    CheckName.STOCK: "product",
    CheckName.UNITS: "product",
    CheckName.BALANCES: "account",
    CheckName.PENDING: "account",
    CheckName.AMOUNTS: "order",
    CheckName.PAYMENTS: "order",
    CheckName.REDEMPTIONS: "order",
    CheckName.FOLLOWUPS: "order",
    CheckName.HISTORY: "order",
    CheckName.STATISTICS: "product",
}
"""What each check counts; the others count nothing but what is off."""

BOOKS = (
    CheckName.NUMBERED,
    CheckName.UNITS,
    CheckName.BALANCES,
    CheckName.PENDING,
    CheckName.AMOUNTS,
    CheckName.PAYMENTS,
    CheckName.REDEMPTIONS,
    CheckName.FOLLOWUPS,
    CheckName.HISTORY,
    CheckName.STATISTICS,
)
"""Checks within the ledger: they read every order, account and coupon there ever was."""


@dataclass(frozen=True)
class Check:
    """One thing that has to be so. ``detail`` names what is off, in a bounded number of characters."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Off:
    """Something that is not as it should be, in words that begin with what it is about."""

    check: CheckName
    what: str


@dataclass(frozen=True)
class Suspicion:
    """Something that may be so for a moment. It counts as long as its token stays the same: no progress was made."""

    token: Hashable
    what: str


class Findings:
    """What was looked at, and what of it is off or could not be seen."""

    def __init__(self) -> None:
        self._looked_at: Counter[CheckName] = Counter()
        self._off: dict[CheckName, list[str]] = defaultdict(list)
        self._off_count: Counter[CheckName] = Counter()
        self._unseen: dict[CheckName, list[str]] = defaultdict(list)

    def looked_at(self, check: CheckName, how_many: int) -> None:
        """So many entities were compared."""
        self._looked_at[check] += how_many

    def off(self, check: CheckName, what: str, how_many: int = 1) -> None:
        """So many are off; ``what`` names one or more of them."""
        self._off_count[check] += how_many
        _remember(self._off[check], what)

    def unseen(self, check: CheckName, what: str) -> None:
        """This could not be compared, in every look that was taken."""
        _remember(self._unseen[check], what)

    @property
    def anything_unseen(self) -> bool:
        return any(self._unseen.values())

    def checks(self, names: Iterable[CheckName]) -> list[Check]:
        """The checks of these names."""
        return [Check(name.value, not self._off_count[name], self._detail(name)) for name in names]

    def _detail(self, name: CheckName) -> str:
        detail = "none" if name not in LOOKED_AT else _counted(self._looked_at[name], LOOKED_AT[name])
        if self._off_count[name]:
            more = self._off_count[name] - len(self._off[name])
            some = "; ".join(self._off[name])
            detail = f"{self._off_count[name]:,} off: {some}" + (f"; and {more:,} more" if more > 0 else "")
        if self._unseen[name]:
            detail += f" (not compared: {'; '.join(self._unseen[name])})"
        return detail if len(detail) <= DETAIL_CHARACTERS else detail[: DETAIL_CHARACTERS - 1] + "…"


class Watch:
    """Remembers since when each suspicion has stood unchanged, from one look, or one audit, to the next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[tuple[CheckName, str], tuple[Hashable, float]] = {}

    def lasting(
        self, suspicions: Mapping[tuple[CheckName, str], Suspicion], seconds: float
    ) -> dict[tuple[CheckName, str], Suspicion]:
        """Those that have stood for so long. The ones that are gone, or another by now, are forgotten."""
        now = self._clock()
        known, self._since = self._since, {}
        for key, suspicion in suspicions.items():
            token, since = known.get(key, (None, now))
            self._since[key] = (suspicion.token, since if token == suspicion.token else now)
        return {key: each for key, each in suspicions.items() if now - self._since[key][1] >= seconds}


def _counted(how_many: int, what: str) -> str:
    return f"{how_many:,} {what}{'' if how_many == 1 else 's'} looked at"


def _remember(some: list[str], what: str) -> None:
    if what and len(some) < EXAMPLES_SHOWN:
        some.append(what)
