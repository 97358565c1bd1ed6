"""The stock gate in plain Python: what the scripts for products and holds answer and leave behind.

Written from the scripts' headers, not from their bodies; one lane that is open, no server. Time is only whether a
hold's deadline has passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Answer = list[Any]


@dataclass
class Product:
    """What is sold, and how much of it is free to take."""

    version: int
    name: str
    price: int
    status: str
    supplied: int
    available: int


@dataclass
class Hold:
    """What is remembered under a nonce; ``listed`` while it has a deadline, ``overdue`` once that has passed."""

    state: str
    request_id: str = ""
    lines: tuple[tuple[int, int, int], ...] = ()
    keep: bool = False
    listed: bool = False
    overdue: bool = False
    answer: tuple[str, ...] = ()
    order_lane: str = ""
    shared: bool = False

    @property
    def lines_text(self) -> str:
        return ",".join(f"{product}:{quantity}:{price}" for product, quantity, price in self.lines)


@dataclass(frozen=True)
class Reserve:
    """One call of reserve_stock."""

    nonce: str
    quantities: Mapping[int, int]
    keep: bool
    append: bool
    backlog_limit: int
    late: bool
    """Whether an earlier lane's hold is past its deadline."""

    @property
    def order_lane(self) -> str:
        return "0" if self.append else "1"


@dataclass
class StockGate:
    """One lane with its products and holds."""

    epoch: int
    last_number: int = 0
    products: dict[int, Product] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    outbox: list[tuple[str, str]] = field(default_factory=list)
    """Entry ids and the lines that they tell of."""
    bell: bool = False
    returned: bool = False

    def publish(self, product_id: int, terms: Product) -> Answer:
        """Newer terms replace older ones; what came in is added once."""
        known = self.products.get(product_id)
        if known and known.version >= terms.version:
            return ["unchanged", str(known.available), str(self.epoch)]
        terms.available = terms.supplied - (known.supplied - known.available if known else 0)
        self.products[product_id] = terms
        return ["published", str(terms.available), str(self.epoch)]

    def reserve(self, ask: Reserve) -> Answer:
        """All of the products or none. A deadline is answered as DEADLINE."""
        hold = self.holds.get(ask.nonce)
        if hold and hold.state == "refused":
            return list(hold.answer)
        if hold and hold.state == "ending":
            return ["ending"]
        if hold and not (hold.state == "released" and not hold.request_id):
            if hold.order_lane != ask.order_lane:
                return ["key_reused"]
            deadline = "DEADLINE" if hold.listed else ""
            hold.shared = hold.shared or not hold.request_id
            answer = ["replayed", hold.request_id, 0, str(self.epoch), deadline, hold.lines_text]
            return answer + self._names(ask.quantities)
        if ask.late:
            return ["hold_expired"]
        refusal = self._refusal(ask.quantities)
        if refusal:
            if ask.keep:
                remembered = self.holds.setdefault(ask.nonce, Hold("refused"))
                remembered.state, remembered.answer = "refused", tuple(refusal)
            return refusal
        if len(self.outbox) >= ask.backlog_limit:
            return ["backlogged"]
        return self._taken(ask)

    def settle(self, nonces: Sequence[str]) -> Answer:
        """The units do not come back."""
        return ["settled", sum(self._ended(nonce, "settled") is not None for nonce in nonces)]

    def release(self, nonce: str, shared: bool) -> Answer:
        """The units come back, once; not those that two attempts count on, unless that is known."""
        known = self.holds.get(nonce)
        if known and known.shared and known.state in ("held", "ending") and not shared:
            return ["shared"]
        hold = self._ended(nonce, "released")
        if hold is None:
            return ["gone"]
        for product_id, quantity, _ in hold.lines:
            self.products[product_id].available += quantity
        return ["released"]

    def claim(self, nonces: Sequence[str]) -> Answer:
        """Overdue holds whose order does not wait here are set aside."""
        claimed: Answer = [str(self.epoch)]
        waiting = {entry_id for entry_id, _ in self.outbox}
        for nonce in nonces:
            hold = self.holds.get(nonce)
            if hold is None or hold.state not in ("held", "ending"):
                if hold:
                    hold.listed = False
            elif hold.overdue and _entry_id(hold.request_id) not in waiting:
                hold.state = "ending"
                claimed += [nonce, hold.request_id, hold.lines_text, hold.order_lane, "DEADLINE"]
        return claimed

    def put_back(self, quantities: Mapping[int, int]) -> Answer:
        """The units of the one order that is ever cancelled here."""
        if self.returned:
            return ["already_returned", str(self.epoch), "1"]
        self.returned = True
        for product_id, quantity in quantities.items():
            self.products[product_id].available += quantity
        return ["returned", str(self.epoch), "1"]

    def _refusal(self, quantities: Mapping[int, int]) -> list[str]:
        short = ["out_of_stock"]
        for product_id, quantity in quantities.items():
            product = self.products.get(product_id)
            if product is None or product.status != "ACTIVE":
                return ["product_not_found", str(product_id)]
            if product.available < quantity:
                short += [str(product_id), str(product.available)]
        return short if len(short) > 1 else []

    def _taken(self, ask: Reserve) -> Answer:
        lines = tuple((each, count, self.products[each].price) for each, count in ask.quantities.items())
        hold = Hold("held", lines=lines, keep=ask.keep, listed=True, order_lane=ask.order_lane)
        ring = 0
        if ask.append:
            self.last_number += 1
            hold.request_id = f"0.{self.epoch}.{self.last_number}.{ask.nonce}"
            self.outbox.append((f"{self.epoch}-{self.last_number}", hold.lines_text))
            ring, self.bell = int(not self.bell), True
        for product_id, quantity in ask.quantities.items():
            self.products[product_id].available -= quantity
        self.holds[ask.nonce] = hold
        answer = ["reserved", hold.request_id, ring, str(self.epoch), "DEADLINE", hold.lines_text]
        return answer + self._names(ask.quantities)

    def _names(self, quantities: Mapping[int, int]) -> list[str]:
        known = {each: self.products[each].name if each in self.products else "" for each in quantities}
        return [word for each, name in known.items() for word in (str(each), name)]

    def _ended(self, nonce: str, state: str) -> Hold | None:
        """The hold that ends now, if it had not."""
        hold = self.holds.get(nonce)
        if hold is None:
            return None
        hold.listed, lived = False, hold.state in ("held", "ending")
        if lived and hold.keep:
            hold.state = state
        elif lived:
            del self.holds[nonce]
        return hold if lived else None


def _entry_id(request_id: str) -> str:
    return "-".join(request_id.split(".")[1:3])
