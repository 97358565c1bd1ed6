"""Whether this process can do its work: what ``//readyz`` tells."""

from __future__ import annotations

from engine.context import Engine
from engine.errors import EngineError, LaneCountMismatch
from engine.ledger.schema import missing_migrations
from engine.upkeep.lane_rounds import LaneRounds


def missing_parts(engine: Engine) -> dict[str, str]:
    """What is missing, by part: ``gate``, ``ledger``. Empty when all is there; never raises an EngineError."""
    missing = {}
    unready = _missing_of_the_gate(engine)
    if unready:
        missing["gate"] = unready
    try:
        behind = missing_migrations(engine.ledger)
        if behind:
            missing["ledger"] = behind
    except EngineError as error:
        missing["ledger"] = str(error)
    return missing


def _missing_of_the_gate(engine: Engine) -> str:
    """In words, why the gate cannot decide; empty when it can.

    Where lanes live on several servers and one of them is away, the others decide: taking every web process out of
    service for it would only make the outage whole. A lane that answers has to be open.
    """
    rounds = LaneRounds(engine.gate.inspect, range(engine.gate.lanes))
    try:
        found, errors = rounds.go()
    finally:
        rounds.close()
    for lane, state in sorted(found.items()):
        if state.lanes not in (None, engine.gate.lanes):
            return str(LaneCountMismatch(recorded=state.lanes or 0, configured=engine.gate.lanes))
        if not state.ready:
            return f"lane {lane} is not open, or not approved on its present server"
    return "" if found else str(next(iter(errors.values())))
