"""What is still to be done because of an order: planned in the order's own transaction, worked off afterwards.

A row goes from PENDING to DONE; one that keeps failing goes to PARKED and waits for a person. Whoever works on rows
either holds their locks until the effect is committed with them (effects in this database, :func:`lock_due`), or
claims them first by moving ``due_at`` into the future (effects elsewhere, :func:`claim_due`): when a worker dies, its
rows come back by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

ERROR_CHARACTERS = 500


class FollowupKind(StrEnum):
    """What has to be done. RETURN_STOCK and the ``CANCEL_`` kinds follow from a cancellation."""

    HISTORY = "HISTORY"
    DATA_PLATFORM = "DATA_PLATFORM"
    STATISTICS = "STATISTICS"
    CANCEL_HISTORY = "CANCEL_HISTORY"
    CANCEL_DATA_PLATFORM = "CANCEL_DATA_PLATFORM"
    CANCEL_STATISTICS = "CANCEL_STATISTICS"
    RETURN_STOCK = "RETURN_STOCK"


@dataclass(frozen=True)
class Followup:
    """One row at work. ``attempts`` counts the ones before, and this one, too, if the row was claimed for it."""

    id: int
    order_id: int
    attempts: int


@dataclass(frozen=True)
class ParkedFollowup:
    """One row that nobody tries any more, and why its last attempt failed."""

    id: int
    order_id: int
    kind: str
    attempts: int
    parked_at: datetime
    last_error: str | None


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, and when to try again; a delay of None parks the row."""

    followup: Followup
    error: str
    delay_seconds: float | None


_PLAN = text("""
    INSERT INTO order_followups (order_id, kind)
    SELECT order_id, kind
    FROM unnest(CAST(:order_ids AS bigint[])) AS planned (order_id)
    CROSS JOIN unnest(CAST(:kinds AS text[])) AS wanted (kind)
    ORDER BY order_id, kind
    ON CONFLICT (order_id, kind) DO NOTHING
""")

_LOCK_DUE = text("""
    SELECT id, order_id, attempts FROM order_followups
    WHERE kind = :kind AND status = 'PENDING' AND due_at <= now() AND (:among IS NULL OR id = ANY(:among))
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
""").bindparams(bindparam("among", type_=ARRAY(BigInteger)))

_CLAIM_DUE = text("""
    WITH due AS (
        SELECT id FROM order_followups
        WHERE kind = :kind AND status = 'PENDING' AND due_at <= now()
        ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE order_followups AS followup
    SET attempts = attempts + 1, due_at = now() + make_interval(secs => :lease_seconds)
    FROM due WHERE followup.id = due.id
    RETURNING followup.id, order_id, attempts
""")

_FINISH = text("UPDATE order_followups SET status = 'DONE', last_error = NULL WHERE id = ANY(:ids)")

# Both leave alone what is no longer as it was taken: somebody who came after the lease has the say then.
_RECORD_FAILURES = text("""
    UPDATE order_followups AS followup
    SET attempts = failed.attempts,
        last_error = failed.error,
        status = CASE WHEN failed.delay_seconds IS NULL THEN 'PARKED' ELSE 'PENDING' END,
        due_at = now() + make_interval(secs => coalesce(failed.delay_seconds, 0))
    FROM unnest(CAST(:ids AS bigint[]), CAST(:found_attempts AS bigint[]), CAST(:attempts AS bigint[]),
                CAST(:errors AS text[]), CAST(:delays AS float8[]))
         AS failed (id, found_attempts, attempts, error, delay_seconds)
    WHERE followup.id = failed.id AND followup.status = 'PENDING' AND followup.attempts = failed.found_attempts
""").bindparams(bindparam("errors", type_=ARRAY(Text)))

_GIVE_UP_CLAIMS = text("""
    UPDATE order_followups AS followup
    SET attempts = claimed.attempts - 1, due_at = now() + make_interval(secs => :delay_seconds)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:attempts AS bigint[])) AS claimed (id, attempts)
    WHERE followup.id = claimed.id AND followup.status = 'PENDING' AND followup.attempts = claimed.attempts
""")

_ANY_DUE = text("""
    SELECT EXISTS (
        SELECT FROM order_followups WHERE kind = ANY(:kinds) AND status = 'PENDING' AND due_at <= now()
    )
""")

# In two halves, because those that are done grow for ever and each of the others has an index of its own.
_WAITING = text("""
    SELECT kind, sum(pending) AS pending, sum(parked) AS parked, max(overdue_seconds) AS overdue_seconds
    FROM (
        SELECT kind, count(*) AS pending, 0 AS parked,
               greatest(0, extract(epoch FROM now() - min(due_at))) AS overdue_seconds
        FROM order_followups WHERE status = 'PENDING' GROUP BY kind
        UNION ALL
        SELECT kind, 0, count(*), 0 FROM order_followups WHERE status = 'PARKED' GROUP BY kind
    ) AS halves
    GROUP BY kind
""")

_REQUEUE = text("""
    UPDATE order_followups SET status = 'PENDING', attempts = 0, due_at = now()
    WHERE status = 'PARKED' AND (:among IS NULL OR id = ANY(:among))
    RETURNING id
""").bindparams(bindparam("among", type_=ARRAY(BigInteger)))

_PARKED = text("""
    SELECT id, order_id, kind, attempts, due_at AS parked_at, last_error FROM order_followups
    WHERE status = 'PARKED' ORDER BY id LIMIT :limit
""")


def plan(connection: Connection, order_ids: Sequence[int], kinds: Sequence[FollowupKind]) -> None:
    """Write down what has to follow, within the caller's transaction: with the order or not at all.

    What is planned already stays as it is.
    """
    if order_ids and kinds:
        connection.execute(_PLAN, {"order_ids": list(order_ids), "kinds": [kind.value for kind in kinds]})


def lock_due(
    connection: Connection, kind: FollowupKind, limit: int, among: Sequence[int] | None = None
) -> list[Followup]:
    """Lock due rows until the transaction ends, the oldest first; rows that another worker holds are left out.

    ``among``, if given, are the only ids that count.
    """
    values = {"kind": kind.value, "limit": limit, "among": None if among is None else list(among)}
    return [Followup(row.id, row.order_id, row.attempts) for row in connection.execute(_LOCK_DUE, values)]


def claim_due(connection: Connection, kind: FollowupKind, limit: int, lease_seconds: float) -> list[Followup]:
    """Take due rows for as long as the lease: the attempt is counted now, and the rows are due again after it."""
    values = {"kind": kind.value, "limit": limit, "lease_seconds": lease_seconds}
    rows = [Followup(row.id, row.order_id, row.attempts) for row in connection.execute(_CLAIM_DUE, values)]
    return sorted(rows, key=lambda followup: followup.id)


def finish(connection: Connection, followups: Sequence[Followup]) -> None:
    """These are done, for good."""
    if followups:
        connection.execute(_FINISH, {"ids": sorted(followup.id for followup in followups)})


def record_failures(connection: Connection, failures: Sequence[Failure], *, claimed: bool) -> None:
    """Set failed rows aside until their next attempt, or park them.

    ``claimed`` says that the attempt was counted when the row was taken; otherwise it is counted here.
    """
    if not failures:
        return
    counted = 0 if claimed else 1
    ordered = sorted(failures, key=lambda failure: failure.followup.id)
    connection.execute(
        _RECORD_FAILURES,
        {
            "ids": [failure.followup.id for failure in ordered],
            "found_attempts": [failure.followup.attempts for failure in ordered],
            "attempts": [failure.followup.attempts + counted for failure in ordered],
            "errors": [failure.error.replace("\0", "")[:ERROR_CHARACTERS] for failure in ordered],
            "delays": [failure.delay_seconds for failure in ordered],
        },
    )


def give_up_claims(connection: Connection, followups: Sequence[Followup], delay_seconds: float = 0.0) -> None:
    """Put claimed rows back untried: due after the delay, the attempt not counted."""
    if followups:
        ordered = sorted(followups, key=lambda followup: followup.id)
        values = {
            "ids": [followup.id for followup in ordered],
            "attempts": [followup.attempts for followup in ordered],
            "delay_seconds": delay_seconds,
        }
        connection.execute(_GIVE_UP_CLAIMS, values)


def any_due(connection: Connection, kinds: Sequence[FollowupKind]) -> bool:
    """Whether there is something to do now."""
    return bool(connection.execute(_ANY_DUE, {"kinds": [kind.value for kind in kinds]}).scalar_one())


@dataclass(frozen=True)
class Waiting:
    """Follow-ups of one kind that are not done: how many, and for how long the longest overdue has been due."""

    kind: FollowupKind
    pending: int
    parked: int
    overdue_seconds: float


def waiting(connection: Connection) -> list[Waiting]:
    """What is not done, for each kind of which there is any."""
    return [
        Waiting(FollowupKind(row.kind), int(row.pending), int(row.parked), float(row.overdue_seconds))
        for row in connection.execute(_WAITING)
    ]


def parked(connection: Connection, limit: int) -> list[ParkedFollowup]:
    """What waits for a person, the oldest first."""
    return [ParkedFollowup(*row) for row in connection.execute(_PARKED, {"limit": limit})]


def requeue_parked(connection: Connection, among: Sequence[int] | None = None) -> set[int]:
    """Make parked rows due now, with all their attempts ahead of them; their ids. ``last_error`` stays readable.

    ``among``, if given, are the only ids that count.
    """
    values = {"among": None if among is None else list(among)}
    return set(connection.execute(_REQUEUE, values).scalars())
