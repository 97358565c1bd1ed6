"""Bringing the ledger's schema up to date, and the number of lanes where that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.config import Settings
from engine.context import Engine
from engine.errors import LaneCountMismatch
from engine.gate.server import refuse_eviction, security_warning
from engine.ledger.schema import migrate
from engine.upkeep.rebuild import recorded_request_key
from engine.upkeep.relane import relane
from ops.demo_data import load_demo_data


@dataclass(frozen=True)
class Migrated:
    """What was done beside the schema, and what a person should know."""

    lanes: int
    demo_data_loaded: bool
    warnings: tuple[str, ...]

    def body(self) -> dict[str, Any]:
        """For programs."""
        return {"lanes": self.lanes, "demoDataLoaded": self.demo_data_loaded, "warnings": list(self.warnings)}


def bring_up_to_date(settings: Settings, *, relane_allowed: bool, demo_data: bool) -> Migrated:
    """Migrate, then check that the data was built with as many lanes as the settings say, or give it as many.

    Raises EngineError: what was migrated stays so.
    """
    engine = Engine.connect(settings)
    try:
        refuse_eviction(engine.gate)
        migrate(engine.ledger)
        _check_lanes(engine, relane_allowed)
        warning = security_warning(engine.gate)
        loaded = demo_data and load_demo_data(engine.ledger)
    finally:
        engine.close()
    return Migrated(settings.lanes, loaded, (warning,) if warning else ())


def _check_lanes(engine: Engine, relane_allowed: bool) -> None:
    """Raises LaneCountMismatch unless the data has as many lanes as the settings say, or may be given them now."""
    try:
        recorded_request_key(engine)
    except LaneCountMismatch as mismatch:
        if not relane_allowed:
            raise
        relane(engine, mismatch.recorded)
