"""The entry point for granian: ``web.main:app``. Imported by each of its worker processes, never by their parent."""

from __future__ import annotations

import sys
from multiprocessing.util import Finalize

from engine.config import Settings
from engine.context import Engine
from engine.errors import InvalidSettings
from engine.telemetry.logs import configure_logs
from web.app import create_app
from web.door import Door


def door_of_this_process() -> Door:
    """Read the settings and make the application behind its door; wrong settings: print them all, exit with 2."""
    try:
        settings = Settings.from_environment()
    except InvalidSettings as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    configure_logs("web", settings.log_format, settings.log_level)
    engine = Engine.connect(settings)
    # granian's workers are multiprocessing processes, which leave without running atexit's functions.
    Finalize(None, engine.close, exitpriority=0)
    return Door(create_app(engine), engine)


app = door_of_this_process()
