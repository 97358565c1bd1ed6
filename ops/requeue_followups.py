"""Try parked follow-ups again: ``python -m ops.requeue_followups``, what `make requeue` does."""

from __future__ import annotations

import sys

from engine.config import Settings
from engine.context import Engine
from engine.errors import EngineError
from engine.flow.followups import requeue_parked


def main() -> int:
    """Make every parked follow-up due now and print how many that were; the exit code."""
    try:
        engine = Engine.connect(Settings.from_environment())
        requeued = requeue_parked(engine)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{requeued} parked follow-up{'' if requeued == 1 else 's'} will be tried again")
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
