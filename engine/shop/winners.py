"""Who has a coupon, for whoever has to write to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.context import Engine
from engine.ledger import coupons as ledger_coupons
from engine.ledger.coupons import RecordedWinner

WINNERS_AT_ONCE = 5_000


def recorded_winners(engine: Engine, coupon_id: int) -> Iterator[Sequence[RecordedWinner]]:
    """Everybody whose coupon is recorded, in order of their place in line, some at a time.

    No transaction is open while the caller is at work with some of them. Raises LedgerUnavailable.
    """
    after = 0
    while True:
        with engine.ledger.read() as connection:
            some = ledger_coupons.recorded_winners(connection, coupon_id, after, WINNERS_AT_ONCE)
        if not some:
            return
        yield some
        after = some[-1].sequence
