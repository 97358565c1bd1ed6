"""How far each lane's decisions have been recorded, and what the data was built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from engine.ledger.tables import engine_settings, lane_progress, quarantined_outcomes


@dataclass(frozen=True)
class Progress:
    """The newest epoch that was opened for a lane and the highest number that was recorded."""

    epoch: int
    last_number: int


def progress_of_lanes(connection: Connection) -> dict[int, Progress]:
    """Every lane that was ever opened."""
    return {row.lane: Progress(row.epoch, row.last_number) for row in connection.execute(select(lane_progress))}


def begin_epoch(connection: Connection, lane: int, *, rebuilt: bool) -> Progress:
    """Take the lane's next epoch. Numbers go on where they were.

    ``rebuilt`` says that the gate starts again from the ledger: from this transaction on, no order is recorded any
    more that counts on stock this lane held before.
    """
    connection.execute(select(lane_progress.c.lane).where(lane_progress.c.lane == lane).with_for_update())
    following = {"epoch": lane_progress.c.epoch + 1, "updated_at": func.now()}
    if rebuilt:
        following["built_epoch"] = lane_progress.c.epoch + 1
    statement = (
        insert(lane_progress)
        .values(lane=lane, epoch=1, last_number=0, built_epoch=1)
        .on_conflict_do_update(index_elements=["lane"], set_=following)
        .returning(lane_progress.c.epoch, lane_progress.c.last_number)
    )
    row = connection.execute(statement).one()
    return Progress(row.epoch, row.last_number)


def built_epochs(connection: Connection) -> dict[int, int]:
    """The epoch in which each lane was last rebuilt; a rebuild that wants to begin waits for this transaction.

    KEY SHARE keeps a rebuild's FOR UPDATE waiting, but not the drains of other lanes, which update their own rows.
    """
    query = select(lane_progress.c.lane, lane_progress.c.built_epoch).order_by(lane_progress.c.lane)
    locked = query.with_for_update(read=True, key_share=True)
    return {row.lane: row.built_epoch for row in connection.execute(locked)}


def advance(connection: Connection, lane: int, number: int) -> None:
    """Remember that everything up to ``number`` is recorded; never goes back."""
    connection.execute(
        text("""
            UPDATE lane_progress SET last_number = :number, updated_at = now()
            WHERE lane = :lane AND last_number < :number
        """),
        {"lane": lane, "number": number},
    )


def quarantine(connection: Connection, lane: int, entry: Mapping[str, object]) -> None:
    """Keep a decision that the ledger refused. Repeating it changes nothing."""
    connection.execute(
        insert(quarantined_outcomes)
        .values(lane=lane, **entry)
        .on_conflict_do_nothing(index_elements=["lane", "epoch", "number"])
    )


def is_quarantined(connection: Connection, request_id: str) -> bool:
    """Whether the ledger refused to record this request."""
    query = select(quarantined_outcomes.c.id).where(quarantined_outcomes.c.request_id == request_id)
    return connection.execute(query).first() is not None


def change_setting(connection: Connection, name: str, value: str) -> None:
    """Replace what was recorded."""
    connection.execute(update(engine_settings).where(engine_settings.c.name == name).values(value=value))


def setting(connection: Connection, name: str, value_if_new: str) -> str:
    """The recorded setting; recorded now if it was not."""
    statement = insert(engine_settings).values(name=name, value=value_if_new)
    connection.execute(statement.on_conflict_do_nothing(index_elements=["name"]))
    query = select(engine_settings.c.value).where(engine_settings.c.name == name)
    return str(connection.execute(query).scalar_one())
