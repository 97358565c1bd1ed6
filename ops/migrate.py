"""Bring the ledger's schema up to date: ``python -m ops.migrate``."""

from __future__ import annotations

import sys

from engine.config import Settings
from engine.context import Engine
from engine.errors import EngineError
from engine.ledger.schema import migrate
from engine.rebuild import recorded_request_key


def main() -> int:
    """Migrate, then check that the data was built with as many lanes as the settings say; the exit code."""
    try:
        engine = Engine.connect(Settings.from_environment())
        migrate(engine.ledger)
        recorded_request_key(engine)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 2
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
