"""What every client asked and was told, and what was done to the stack meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.faults.machine.asking import Exchange

GATE_REFUSALS = ("OUT_OF_STOCK", "PRODUCT_NOT_FOUND")
"""What an order can be told before anything of it was submitted."""
LEDGER_REFUSALS = ("INSUFFICIENT_BALANCE", "COUPON_NOT_USABLE", "USER_NOT_FOUND")
"""What an order can be told after its stock was held."""


@dataclass(eq=False, slots=True)
class Wish:
    """One thing that a client wanted: with a key it asks again until it knows, and all of that is one wish."""

    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def begin(self) -> float:
        return self.exchanges[0].begin

    @property
    def end(self) -> float:
        return self.exchanges[-1].end

    @property
    def unknown(self) -> bool:
        """Whether some answer is missing: then it may have been granted without anybody's hearing of it."""
        return any(exchange.unknown for exchange in self.exchanges)

    def promised(self) -> list[Exchange]:
        """The answers that said yes."""
        return [exchange for exchange in self.exchanges if exchange.accepted]


@dataclass(eq=False, slots=True)
class Issue(Wish):
    """A coupon for a user."""

    coupon_id: int = 0
    user_id: int = 0
    key: str | None = None


@dataclass(eq=False, slots=True)
class Purchase(Wish):
    """An order: units by product."""

    user_id: int = 0
    quantities: Mapping[int, int] = field(default_factory=dict)
    user_coupon_id: int | None = None
    key: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it was accepted and then could not be paid or redeemed, as somebody was told who waited."""
        return any(exchange.code in LEDGER_REFUSALS for exchange in self.exchanges)


@dataclass(eq=False, slots=True)
class Charge(Wish):
    """Money onto a balance."""

    user_id: int = 0
    amount: int = 0
    key: str = ""


@dataclass(eq=False, slots=True)
class Cancellation(Wish):
    """An order taken back."""

    order_id: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """One answer to the question where a request stands."""

    request_id: str
    begin: float
    end: float
    status: int
    state: str
    result: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Redis lost what it knew, at some instant from ``at`` to ``until``.

    ``waiting`` are the requests that were in outboxes at that instant; None when nobody could look, then whatever was
    promised within ``seconds`` before may be lost.
    """

    at: float
    until: float
    waiting: frozenset[str] | None = None
    seconds: float = 0.0

    def falls_into(self, begin: float, end: float) -> bool:
        """Whether it may have happened from ``begin`` to ``end``."""
        return begin <= self.until and self.at <= end


@dataclass
class History:
    """All that happened between two checks. Appending is safe from any thread."""

    issues: list[Issue] = field(default_factory=list)
    purchases: list[Purchase] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    cancellations: list[Cancellation] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    forgettings: list[Forgetting] = field(default_factory=list)

    def submissions(self) -> Iterable[Issue | Purchase]:
        """Everything that gets a request id."""
        yield from self.issues
        yield from self.purchases

    def promised_ids(self) -> set[str]:
        """Every request id that a client was told."""
        return {exchange.request_id for wish in self.submissions() for exchange in wish.promised()}
