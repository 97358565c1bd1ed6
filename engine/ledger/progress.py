"""How far each lane's decisions have been recorded, and what the data was built with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from engine.errors import LaneCountMismatch
from engine.ledger.tables import engine_settings, lane_epochs, lane_progress, quarantined_outcomes


@dataclass(frozen=True)
class Progress:
    """The newest epoch that was begun for a lane, the number up to which its decisions were recorded or dropped for
    good, and how many returns of cancelled orders it is known to have carried out since its last rebuild."""

    epoch: int
    last_number: int
    returned: int = 0


@dataclass(frozen=True)
class Beginning:
    """Where an epoch begins: after which decision of the lane, and whether the lane was rebuilt for it."""

    epoch: int
    begins_after: int
    rebuilt: bool


@dataclass(frozen=True)
class Fence:
    """Which decisions of a lane may still be recorded, for as long as the transaction lasts that it was read in."""

    beginnings: Sequence[Beginning] = ()

    def admits(self, epoch: int, number: int) -> bool:
        """Whether the lane, as it is now, stands on this decision.

        A rebuilt lane stands on what the ledger had when it was rebuilt, one that went on after a restart on what its
        server still had. Whatever else was decided before was forgotten, and given to somebody else since.
        """
        return not any(
            later.epoch > epoch and (later.rebuilt or later.begins_after < number) for later in self.beginnings
        )


@dataclass(frozen=True)
class Standing:
    """What a lane of the gate has: the number of its last decision, and how many returns it carried out since its last
    rebuild."""

    last_number: int
    returned: int = 0

    def lacks(self, relied_on: Progress) -> bool:
        """Whether the ledger relies on something that the lane has forgotten."""
        return self.last_number < relied_on.last_number or self.returned < relied_on.returned


class Returned(NamedTuple):
    """A lane's answer that it has put units back on sale: in which epoch, and how many returns that makes."""

    lane: int
    epoch: int
    total: int


_PROGRESS = select(lane_progress.c.epoch, lane_progress.c.last_number, lane_progress.c.returned)


def progress_of_lane(connection: Connection, lane: int) -> Progress | None:
    """How far this lane has come; None if it was never opened."""
    row = connection.execute(_PROGRESS.where(lane_progress.c.lane == lane)).one_or_none()
    return None if row is None else Progress(*row)


def begin_epoch(
    connection: Connection, lane: int, *, examined: Progress | None, has: Standing, rebuilt: bool
) -> Progress | None:
    """Take the lane's next epoch. Numbers go on where they were.

    ``examined`` is what the caller knows of the lane, ``has`` what the gate still has. None, and nothing changes, when
    somebody else began an epoch since, or when the lane is to go on (not ``rebuilt``) and the ledger relies by now on
    more than the gate still has: whoever slept must look again.

    From this transaction on nothing is recorded any more that :meth:`Fence.admits` does not admit, and, if the lane is
    rebuilt, no order that counts on stock which it held before.
    """
    row = connection.execute(_PROGRESS.where(lane_progress.c.lane == lane).with_for_update()).one_or_none()
    known = None if row is None else Progress(*row)
    if (known is None) != (examined is None) or (known and examined and known.epoch != examined.epoch):
        return None
    if known is not None and not rebuilt and has.lacks(known):
        return None
    recorded = 0 if known is None else known.last_number
    epoch = 1 if known is None else known.epoch + 1
    begins_after = max(recorded, has.last_number)
    begun: dict[str, Any] = {"epoch": epoch, "updated_at": func.now()}
    if rebuilt:
        # What the gate decided before and the ledger has not recorded by now, it never will: nothing is missing.
        begun |= {"built_epoch": epoch, "last_number": begins_after, "returned": 0}
    if known is None:
        first = insert(lane_progress).values(lane=lane, **{"last_number": 0, **begun})
        if connection.execute(first.on_conflict_do_nothing(index_elements=["lane"])).rowcount == 0:
            return None
    else:
        connection.execute(update(lane_progress).where(lane_progress.c.lane == lane).values(**begun))
    beginning = {"epoch": epoch, "begins_after": begins_after, "rebuilt": rebuilt}
    connection.execute(insert(lane_epochs).values(lane=lane, **beginning))
    return Progress(epoch, begins_after if rebuilt else recorded, 0 if known is None or rebuilt else known.returned)


def fence(connection: Connection, lane: int, oldest_epoch: int) -> Fence:
    """What may be recorded of a lane's decisions from ``oldest_epoch`` on.

    Whoever wants to begin an epoch waits for the caller's transaction, and this waits for whoever is beginning one.
    """
    newest = connection.execute(
        select(lane_progress.c.epoch).where(lane_progress.c.lane == lane).with_for_update(read=True, key_share=True)
    ).scalar_one_or_none()
    if newest is None or newest <= oldest_epoch:
        return Fence()
    query = select(lane_epochs.c.epoch, lane_epochs.c.begins_after, lane_epochs.c.rebuilt)
    later = query.where(lane_epochs.c.lane == lane, lane_epochs.c.epoch > oldest_epoch)
    return Fence(tuple(Beginning(*row) for row in connection.execute(later)))


def mark_published(connection: Connection, table: Table, row_id: int, version: int, *, lane: int, epoch: int) -> None:
    """Remember that the gate knows this version of a coupon or product, if the lane is still in the epoch in which it
    took it over.

    A server that came back since may not know it any more: then it is published again.
    """
    query = select(lane_progress.c.epoch).where(lane_progress.c.lane == lane)
    # Locked, so that no other epoch begins before the caller's transaction ends.
    newest = connection.execute(query.with_for_update(read=True, key_share=True)).scalar_one_or_none()
    if newest == epoch:
        connection.execute(
            update(table)
            .where(table.c.id == row_id, table.c.published_version < version)
            .values(published_version=version)
        )


def confirm_returns(connection: Connection, returned: Sequence[Sequence[Returned]]) -> list[bool]:
    """Rely on these returns, each carried out by one lane or several; for each, whether the ledger now does.

    It does not where a lane has begun another epoch since: it may have gone on without what it answered. From now on a
    lane that has forgotten a return is not approved any more, but rebuilt.
    """
    answers = [answer for each in returned for answer in each]
    query = select(lane_progress.c.lane, lane_progress.c.epoch).order_by(lane_progress.c.lane)
    concerned = query.where(lane_progress.c.lane.in_({answer.lane for answer in answers}))
    epochs = {row.lane: row.epoch for row in connection.execute(concerned.with_for_update(key_share=True))}
    totals: dict[int, int] = {}
    for answer in answers:
        if epochs.get(answer.lane) == answer.epoch:
            totals[answer.lane] = max(answer.total, totals.get(answer.lane, 0))
    for lane, total in sorted(totals.items()):
        behind = update(lane_progress).where(lane_progress.c.lane == lane, lane_progress.c.returned < total)
        connection.execute(behind.values(returned=total))
    return [all(epochs.get(answer.lane) == answer.epoch for answer in each) for each in returned]


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


def quarantined_among(connection: Connection, request_ids: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """What the entries of those of these requests said that the ledger refused to record."""
    query = select(quarantined_outcomes.c.request_id, quarantined_outcomes.c.fields)
    rows = connection.execute(query.where(quarantined_outcomes.c.request_id.in_(request_ids)))
    return {row.request_id: row.fields for row in rows}


def change_setting(connection: Connection, name: str, value: str, *, if_it_is: str) -> bool:
    """Replace what was recorded, if that is still what the caller knows; whether it was."""
    known = (engine_settings.c.name == name) & (engine_settings.c.value == if_it_is)
    return connection.execute(update(engine_settings).where(known).values(value=value)).rowcount == 1


def require_lanes(connection: Connection, lanes: int) -> None:
    """Raises LaneCountMismatch when the data has another number of lanes by now."""
    query = select(engine_settings.c.value).where(engine_settings.c.name == "lanes")
    recorded = connection.execute(query).scalar_one_or_none()
    if recorded is not None and int(recorded) != lanes:
        raise LaneCountMismatch(recorded=int(recorded), configured=lanes)


def setting(connection: Connection, name: str, value_if_new: str) -> str:
    """The recorded setting; recorded now if it was not."""
    statement = insert(engine_settings).values(name=name, value=value_if_new)
    connection.execute(statement.on_conflict_do_nothing(index_elements=["name"]))
    query = select(engine_settings.c.value).where(engine_settings.c.name == name)
    return str(connection.execute(query).scalar_one())
