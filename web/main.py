"""The entry point for granian: ``web.main:app``. Imported by each of its worker processes, never by their parent, which
has imported the modules (``web/serve.py``) but must not connect to anything."""

from __future__ import annotations

import gc
import sys
from multiprocessing.util import Finalize

from engine.config import Settings
from engine.context import Engine
from engine.errors import InvalidSettings
from engine.gate.heartbeat import Pulse
from engine.telemetry.logs import configure_logs
from web.app import create_app
from web.demo_rush import Demo
from web.door import Door
from web.limits import limits_from
from web.open_files import raise_limit_on_open_files
from web.tokens import authenticator_from


def door_of_this_process() -> Door:
    """Read the settings and make the application behind its door; wrong settings: print them all, exit with 2."""
    try:
        settings = Settings.from_environment()
    except InvalidSettings as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    configure_logs("web", settings.log_format, settings.log_level)
    raise_limit_on_open_files()
    engine = Engine.connect(settings)
    pulse = Pulse(engine.gate, "web").start()
    # granian's workers are multiprocessing processes, which leave without running atexit's functions.
    Finalize(None, engine.close, exitpriority=0)
    Finalize(None, pulse.stop, exitpriority=1)
    limits = limits_from(settings, engine.gate)
    door = Door(create_app(engine, authenticator_from(settings), limits, Demo.of(settings)))
    collect_less_garbage()
    return door


def collect_less_garbage() -> None:
    """Look for cycles in what requests leave behind, not in what is there for good, and not at every turn.

    By its own measure the collector looks again and again through whatever a few thousand waiting requests hold: in a
    rush beyond its peak, that took a quarter of the time of a process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


app = door_of_this_process()
