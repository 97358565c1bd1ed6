"""Bring the ledger's schema up to date: ``python -m ops.migrate``; with RELANE=1 the number of lanes, too."""

from __future__ import annotations

import os
import sys

from engine.config import Settings
from engine.context import Engine
from engine.errors import EngineError, LaneCountMismatch
from engine.gate.server import refuse_eviction, security_warning
from engine.ledger.schema import migrate
from engine.telemetry.logs import configure_logs
from engine.upkeep.rebuild import recorded_request_key
from engine.upkeep.relane import relane
from ops.demo_data import load_demo_data


def main() -> int:
    """Migrate, then check that the data was built with as many lanes as the settings say; the exit code."""
    try:
        settings = Settings.from_environment()
        configure_logs("release", settings.log_format, settings.log_level)
        engine = Engine.connect(settings)
        refuse_eviction(engine.gate)
        migrate(engine.ledger)
        _check_lanes(engine)
        if warning := security_warning(engine.gate):
            print(f"warning: {warning}", file=sys.stderr)
        if os.environ.get("DEMO_DATA") == "1" and load_demo_data(engine.ledger):
            print("loaded a small shop to play with; DEMO_DATA=0 starts with an empty one")
    except EngineError as error:
        print(error, file=sys.stderr)
        return 2
    engine.close()
    return 0


def _check_lanes(engine: Engine) -> None:
    """Raises LaneCountMismatch unless the data has as many lanes as the settings say, or may be given them now."""
    try:
        recorded_request_key(engine)
    except LaneCountMismatch as mismatch:
        if os.environ.get("RELANE") != "1":
            raise
        relane(engine, mismatch.recorded)


if __name__ == "__main__":
    sys.exit(main())
