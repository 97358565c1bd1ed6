"""What the current request may use: the engine of this process, and its places for waiting."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import current_app

from engine.context import Engine
from web.preferences import WaitingRoom

EXTENSION = "seonchak"


@dataclass(frozen=True)
class Serving:
    """What an application was made with."""

    engine: Engine
    waiting_room: WaitingRoom = field(default_factory=WaitingRoom)


def current_engine() -> Engine:
    """The engine of this process."""
    return _serving().engine


def current_waiting_room() -> WaitingRoom:
    """The places for those who wait in this process."""
    return _serving().waiting_room


def _serving() -> Serving:
    serving: Serving = current_app.extensions[EXTENSION]
    return serving
