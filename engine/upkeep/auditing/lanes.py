"""The audit of lanes: that they are open, that nothing is missing from their outboxes, that nothing stands still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.flow.followups import workable_kinds
from engine.gate import outbox, pictures, stock
from engine.gate.gate import LaneState
from engine.gate.pictures import LanePicture
from engine.gate.request_ids import split_request_id
from engine.ledger import audit_queries
from engine.ledger.audit_queries import LaneRecord
from engine.upkeep.auditing.findings import CheckName, Off, Suspicion
from engine.upkeep.auditing.looking import Looking, Patience, look_at_lane, look_until_sure, while_open

OVERDUE_HOLDS_READ = 100
UNPUBLISHED_READ = 100

Suspicions = dict[tuple[CheckName, str], Suspicion]


def suspicions(engine: Engine, patience: Patience) -> Suspicions:
    """What may be so for a moment: by check and by what it is about.

    Raises GateUnavailable when no lane answers, LedgerUnavailable.
    """
    # The ledger first: decisions go on meanwhile, and a counter read before what is recorded would look behind it.
    with engine.ledger.snapshot() as connection:
        records = audit_queries.lane_records(connection)
        unpublished = audit_queries.unpublished(connection, UNPUBLISHED_READ)
        due = audit_queries.first_due_followups(connection, workable_kinds(engine), patience.overdue_seconds)
    found: Suspicions = {
        (CheckName.LIVE, thing): Suspicion(version, f"{thing}: version {version} is recorded, but not live")
        for thing, version in unpublished.items()
    }
    for each in due:
        what = f"{each.kind} of order {each.order_id} has been due for {each.overdue_seconds} s"
        found[CheckName.WORKED_OFF, each.kind] = Suspicion(each.id, what)
    away: list[GateUnavailable] = []
    for lane in range(engine.gate.lanes):
        try:
            found |= _suspicions_about(engine, lane, records.get(lane), patience)
        except GateUnavailable as error:
            away.append(error)
            found[CheckName.LANES, f"lane {lane}"] = Suspicion("away", f"lane {lane} does not answer")
    if len(away) == engine.gate.lanes:
        raise away[0]
    return found


def audit_decisions(looking: Looking) -> None:
    """That every number a lane has given is in its outbox or recorded, and that the outbox holds no others."""
    checks = (CheckName.DECISIONS,)

    def look(lanes: Sequence[int]) -> Mapping[int, Sequence[Off]]:
        (lane,) = lanes
        return {lane: while_open(looking.engine, lane, lambda: _missing_decisions(looking.engine, lane))}

    for lane in range(looking.engine.gate.lanes):

        def until_sure(lane: int = lane) -> None:
            look_until_sure(looking, lane, [lane], checks, look, "lane")

        look_at_lane(looking, checks, f"lane {lane}", until_sure)


def _suspicions_about(engine: Engine, lane: int, record: LaneRecord | None, patience: Patience) -> Suspicions:
    picture = pictures.picture_lane(engine.gate, lane, patience.overdue_seconds, OVERDUE_HOLDS_READ)
    state = engine.gate.inspect(lane)
    found: Suspicions = {}
    standing = _standing(engine, state, picture, record)
    if standing is not None:
        found[CheckName.LANES, f"lane {lane}"] = standing
    stuck = _stuck_head(state, picture, record, patience)
    if stuck is not None:
        found[CheckName.DRAINED, f"lane {lane}"] = stuck
    for nonce in picture.overdue:
        if not _may_wait(engine, lane, nonce):
            # The sweeper takes the longest overdue first: as long as it is at work, another one is the first.
            what = f"lane {lane}: hold {nonce} is overdue by more than {patience.overdue_seconds:.0f} s"
            found[CheckName.HOLDS, f"lane {lane}"] = Suspicion(nonce, what)
            break
    return found


def _standing(engine: Engine, state: LaneState, picture: LanePicture, record: LaneRecord | None) -> Suspicion | None:
    """What is wrong with a lane's own fields. All of it the guard repairs, so none of it may last."""
    lane = state.lane
    if not state.ready:
        return Suspicion(("not ready", state.epoch), f"lane {lane} is not open, or not approved on its present server")
    if picture.lanes != engine.gate.lanes:
        return Suspicion("lanes", f"lane {lane} was built as one of {picture.lanes}, not of {engine.gate.lanes}")
    if record is None:
        return Suspicion("unrecorded", f"lane {lane} is open, but the ledger never opened it")
    if picture.epoch != record.epoch or picture.built_epoch != record.built_epoch:
        epochs = (picture.epoch, picture.built_epoch, record.epoch, record.built_epoch)
        what = "lane {}: epoch {}, built in {}; the ledger has epoch {}, built in {}".format(lane, *epochs)
        return Suspicion(epochs, what)
    if picture.last_number is None or picture.last_number < record.last_number:
        what = f"lane {lane} has given number {picture.last_number}, the ledger has recorded {record.last_number}"
        return Suspicion(("behind", picture.epoch), what)
    return None


def _stuck_head(
    state: LaneState, picture: LanePicture, record: LaneRecord | None, patience: Patience
) -> Suspicion | None:
    """A head that should have been drained, or is in the ledger already and should have left."""
    if picture.head is None:
        return None
    epoch, number = picture.head
    entry = f"lane {state.lane}: entry {epoch}-{number}"
    if record is not None and number <= record.last_number:
        return Suspicion(picture.head, f"{entry} is recorded, but still in the outbox")
    if state.head_age_ms is not None and state.head_age_ms > patience.head_seconds * 1000:
        return Suspicion(picture.head, f"{entry} has waited for {state.head_age_ms // 1000} s")
    return None


def _may_wait(engine: Engine, lane: int, nonce: str) -> bool:
    """Whether the hold's order waits in an outbox, or may: that cannot always be asked.

    Then it is the drain's to decide, and whether that makes progress is another question.
    """
    submission = pictures.submission_of_hold(engine.gate, lane, nonce)
    if submission is None:
        return False
    order_lane, request_id = submission
    try:
        if not request_id and order_lane < engine.gate.lanes:
            request_id = stock.submitted_request_ids(engine.gate, order_lane, [nonce])[nonce]
        if not request_id:
            return False
        (found,) = outbox.find(engine.gate, order_lane, [split_request_id(request_id)])
    except GateUnavailable:
        if order_lane == lane:
            raise
        return True
    return found.waits or found.epoch is None


def _missing_decisions(engine: Engine, lane: int) -> list[Off]:
    picture = pictures.picture_lane(engine.gate, lane, 0, 0)
    # The ledger second: what had left the outbox by then was committed before.
    with engine.ledger.snapshot() as connection:
        record = audit_queries.lane_records(connection).get(lane)
    recorded = 0 if record is None else record.last_number
    given = picture.last_number or 0
    if picture.head is None or picture.newest is None:
        if given > recorded:
            return [_decisions_off(f"lane {lane}: {given} given, {recorded} recorded, none waiting")]
        return []
    first, last = picture.head[1], picture.newest[1]
    if first > recorded + 1:
        return [_decisions_off(f"lane {lane}: {recorded} recorded, but {first} is the first that waits")]
    if last != given or picture.backlog != last - first + 1:
        return [_decisions_off(f"lane {lane}: {given} given, {picture.backlog} waiting from {first} to {last}")]
    return []


def _decisions_off(what: str) -> Off:
    return Off(CheckName.DECISIONS, what)
