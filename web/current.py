"""What the current request may use: what the application of this process was made with."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import current_app

from engine.context import Engine
from engine.gate.refusals import add_refusals
from engine.upkeep.console import Console
from web.demo_rush import Demo
from web.limits import Limits
from web.outages import OutageLog
from web.preferences import WaitingRoom
from web.refusal_tally import RefusalTally
from web.tokens import Authenticator

EXTENSION = "seonchak"


@dataclass(frozen=True)
class Serving:
    """What an application was made with."""

    engine: Engine
    waiting_room: WaitingRoom = field(default_factory=WaitingRoom)
    outage_log: OutageLog = field(default_factory=OutageLog)
    authenticator: Authenticator | None = None
    """None: nobody is asked who they are."""
    limits: Limits | None = None
    """None: nobody's calls are counted."""
    demo: Demo | None = None
    console: Console = field(init=False)
    refusals: RefusalTally = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "console", Console(self.engine))
        object.__setattr__(self, "refusals", RefusalTally(lambda counts: add_refusals(self.engine.gate, counts)))


def current_engine() -> Engine:
    """The engine of this process."""
    return _serving().engine


def current_waiting_room() -> WaitingRoom:
    """The places for those who wait in this process."""
    return _serving().waiting_room


def current_outage_log() -> OutageLog:
    """Where the outages that this process sees are written down."""
    return _serving().outage_log


def current_authenticator() -> Authenticator | None:
    """Who tells callers by their tokens; None with ``AUTH=off``."""
    return _serving().authenticator


def current_console() -> Console:
    """The one that looks at the stores for this process' console."""
    return _serving().console


def current_demo() -> Demo | None:
    """The demo, where there is one."""
    return _serving().demo


def current_refusals() -> RefusalTally:
    """Where the refusals of this process are counted."""
    return _serving().refusals


def current_limits() -> Limits | None:
    """What counts calls; None when there is no limit."""
    return _serving().limits


def _serving() -> Serving:
    serving: Serving = current_app.extensions[EXTENSION]
    return serving
