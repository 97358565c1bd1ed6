"""Faults that are known and wait to be mended: met again, they are counted and do not make a history fail.

Whoever mends one takes it out of here; then every history that meets it fails again, and the fault stays mended.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.upkeep.auditing.findings import CheckName
from tests.simulation.record import Record, nonce_of


@dataclass(frozen=True)
class Known:
    """One fault: its name in the summary, and whether something that is off is nothing but this."""

    name: str
    is_met: Callable[[Record, str, str], bool]
    """Told of the record, of what is off and of the request that it is about ('' for none)."""


def _decided_again(record: Record, violation: str, request_id: str) -> bool:
    """An order that Redis forgot was shown FAILED; its key was used again, and the order of that is shown for both."""
    again = [each for each in record.decided_at if nonce_of(each) == nonce_of(request_id) and each != request_id]
    return violation.startswith("what was told") and "was shown FAILED (TEMPORARY_ERROR)" in violation and bool(again)


def _counter_came_back(record: Record, violation: str, _: str) -> bool:
    """Redis came back with decisions that it had forgotten before; they are dropped, and the lane counts on from them.

    Until its next decision is recorded the audit misses them.
    """
    said = violation.startswith(f"audited: {CheckName.DECISIONS}") and violation.endswith("none waiting")
    return said and any(each.since >= 0 for each in record.forgettings)


def _left_behind(record: Record, violation: str, request_id: str) -> bool:
    """A rebuild could not empty another lane's outbox and went on: orders in there lose what the rebuilt lane held."""
    lanes = record.lanes_of.get(request_id, frozenset())
    return violation.startswith("what was accepted") and any(pair <= lanes for pair in record.left_behind)


def _return_forgotten(record: Record, violation: str, _: str) -> bool:
    """Redis came back without units that it had put back on sale for a cancelled order, and with every decision.

    It is approved, the follow-up is done, and nobody puts the units back again.
    """
    said = re.fullmatch(
        r"gate of products: product (\d+): the gate says \{(.*), 'available': '(\d+)'\}, "
        r"the ledger \{(.*), 'available': '(\d+)'\}",
        violation,
    )
    if said is None:
        return violation.startswith(f"audited: {CheckName.STOCK}") and bool(record.cancelled_units)
    missing = int(said[5]) - int(said[3])
    came_back = any(each.since >= 0 for each in record.forgettings)
    return came_back and said[2] == said[4] and 0 < missing <= record.cancelled_units[int(said[1])]


def _key_without_its_body(_: Record, violation: str, __: str) -> bool:
    """One server forgot what an idempotency key was first used with, another remembers the order of that."""
    return re.match(r"order #\d+ ended with KeyError", violation) is not None


KNOWN = (
    Known("a key is used with another body, and only its first order is remembered", _key_without_its_body),
    Known("an order shown FAILED is COMPLETED once its key is used again", _decided_again),
    Known("the audit misses decisions that came back and were dropped", _counter_came_back),
    Known("returned units were forgotten, and nothing else", _return_forgotten),
    Known("a rebuild went on without the orders of an outbox that it could not empty", _left_behind),
)


def known_fault(record: Record, violation: str, request_id: str) -> str | None:
    """The name of the fault that this is, if it is one that is known."""
    return next((each.name for each in KNOWN if each.is_met(record, violation, request_id)), None)
