"""The quarantine: decisions that the ledger refused to record, until a person has decided about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, select, update

from engine.ledger.tables import quarantined_outcomes


class QuarantineEnd(StrEnum):
    """What a person made of it: recorded after all, or given up."""

    RECORDED = "RECORDED"
    DROPPED = "DROPPED"


@dataclass(frozen=True)
class QuarantinedOutcome:
    """A row of ``quarantined_outcomes``: what the entry said, and why it was refused when it came."""

    id: int
    request_id: str
    lane: int
    epoch: int
    number: int
    kind: str
    fields: Mapping[str, str]
    error: str
    quarantined_at: datetime
    ended_at: datetime | None
    ended_as: str | None
    ended_because: str | None


def quarantined_count(connection: Connection) -> int:
    """How many wait for a person."""
    query = select(func.count()).where(quarantined_outcomes.c.ended_at.is_(None))
    return int(connection.execute(query).scalar_one())


def quarantined_outcomes_after(
    connection: Connection, after_id: int, limit: int, *, ended_too: bool = False
) -> list[QuarantinedOutcome]:
    """Those that wait, in order of id, at most ``limit``; with ``ended_too``, those of before as well."""
    query = select(quarantined_outcomes).where(quarantined_outcomes.c.id > after_id)
    if not ended_too:
        query = query.where(quarantined_outcomes.c.ended_at.is_(None))
    rows = connection.execute(query.order_by(quarantined_outcomes.c.id).limit(limit)).mappings()
    return [QuarantinedOutcome(**row) for row in rows]


def lock_quarantined(connection: Connection, outcome_id: int) -> QuarantinedOutcome | None:
    """The row, locked until the transaction ends: of two who decide about it, the second sees what the first did."""
    query = select(quarantined_outcomes).where(quarantined_outcomes.c.id == outcome_id)
    row = connection.execute(query.with_for_update()).mappings().one_or_none()
    return None if row is None else QuarantinedOutcome(**row)


def end_quarantined(connection: Connection, outcome_id: int, end: QuarantineEnd, because: str | None = None) -> None:
    """Nobody has to look at it any more. The caller has locked the row."""
    connection.execute(
        update(quarantined_outcomes)
        .where(quarantined_outcomes.c.id == outcome_id)
        .values(ended_at=func.now(), ended_as=end.value, ended_because=because)
    )
