"""The entry point for granian: ``web.main:app``. Imported by each of its worker processes, never by their parent."""

from __future__ import annotations

import logging
import sys
from multiprocessing.util import Finalize

from apiflask import APIFlask

from engine.config import Settings
from engine.context import Engine
from engine.errors import InvalidSettings
from web.app import create_app
from web.limits import limits_from
from web.tokens import authenticator_from


def application_of_this_process() -> APIFlask:
    """Read the settings and make the application; with wrong settings, print all of them and exit with code 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # readyz asks it every time, and it tells every time
    try:
        settings = Settings.from_environment()
    except InvalidSettings as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    engine = Engine.connect(settings)
    # granian's workers are multiprocessing processes, which leave without running atexit's functions.
    Finalize(None, engine.close, exitpriority=0)
    return create_app(engine, authenticator_from(settings), limits_from(settings, engine.gate))


app = application_of_this_process()
