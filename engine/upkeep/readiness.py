"""Whether this process can do its work: what ``//readyz`` tells."""

from __future__ import annotations

from engine.context import Engine
from engine.errors import EngineError
from engine.ledger.schema import missing_migrations


def missing_parts(engine: Engine) -> dict[str, str]:
    """What is missing, by part: ``gate``, ``ledger``. Empty when all is there; never raises an EngineError."""
    missing = {}
    try:
        for lane in range(engine.gate.lanes):
            if not engine.gate.inspect(lane).ready:
                missing["gate"] = f"lane {lane} is not open, or not approved on its present server"
                break
        else:
            engine.gate.known_lane(0)
    except EngineError as error:
        missing["gate"] = str(error)
    try:
        behind = missing_migrations(engine.ledger)
        if behind:
            missing["ledger"] = behind
    except EngineError as error:
        missing["ledger"] = str(error)
    return missing
