"""The demo's side of the web: letting a crowd loose and breaking things on purpose, by programs of their own.

The web does not import what runs a stack; it starts it by its command line, with the environment it was given. There is
a demo only where ``make run`` filled the shop to play with and everybody may do everything: DEMO_DATA=1 and AUTH=off.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from typing_extensions import TypedDict

from engine.config import Settings

RUSH_COMMAND = ("demo", "rush")
FAULT_COMMAND = ("demo", "break")
RUSH_FILE = "demo-rush.json"
"""In DATA_DIR: what the crowd's program tells of itself; a file, because Redis may be made to forget meanwhile."""
FAULT_SECONDS = 10.0
SILENT_SECONDS = 15.0
"""A crowd that was not heard for so long broke down; a program needs a while to start on a busy machine."""
FINAL_PHASES = ("done", "failed")

Fault = Literal["kill_worker", "forget"]


class RushCheck(TypedDict):
    """One thing that has to hold after a rush."""

    name: str
    ok: bool


class RushShown(TypedDict):
    """How the last demo rush stands: counts of requests, ``confirmed`` are the winners told COMPLETED."""

    id: str
    phase: Literal["starting", "asking", "settling", "done", "failed"]
    couponId: int | None
    users: int
    requests: int
    coupons: int
    asked: int
    accepted: int
    refused: int
    busy: int
    lost: int
    confirmed: int
    seconds: float
    checks: list[RushCheck]


@dataclass(frozen=True)
class Demo:
    """The demo of a running stack whose data are in ``data_dir``."""

    data_dir: Path

    @classmethod
    def of(cls, settings: Settings) -> Demo | None:
        """The demo, if the settings allow one."""
        return cls(Path(settings.data_dir)) if settings.demo and settings.auth == "off" and settings.data_dir else None

    def rush(self) -> RushShown | None:
        """How the last rush stands, or None if there was none."""
        try:
            rush: RushShown = json.loads((self.data_dir / RUSH_FILE).read_text())
        except (OSError, ValueError):
            return None
        return rush

    def is_rushing(self) -> bool:
        """Whether a crowd is at it: its program says so, and was heard lately."""
        rush = self.rush()
        try:
            silent_seconds = time.time() - (self.data_dir / RUSH_FILE).stat().st_mtime
        except OSError:
            return False
        return rush is not None and rush["phase"] not in FINAL_PHASES and silent_seconds < SILENT_SECONDS

    def start_rush(self, rush_id: str, users: int, requests: int, coupons: int) -> None:
        """Let a crowd loose; should two be started at the same instant, their programs let only one be."""
        self._announce(rush_id, users, requests, coupons)
        arguments = ["--id", rush_id, "--users", str(users), "--requests", str(requests), "--coupons", str(coupons)]
        process = self._start(*RUSH_COMMAND, *arguments)
        # Somebody has to hear when it ends, or it stays a zombie for as long as we live.
        threading.Thread(target=process.wait, name="demo rush", daemon=True).start()

    def _announce(self, rush_id: str, users: int, requests: int, coupons: int) -> None:
        """Say that a crowd is on its way, for as long as its program takes to say so itself."""
        rush: RushShown = {
            "id": rush_id,
            "phase": "starting",
            "couponId": None,
            "users": users,
            "requests": requests,
            "coupons": coupons,
            "asked": 0,
            "accepted": 0,
            "refused": 0,
            "busy": 0,
            "lost": 0,
            "confirmed": 0,
            "seconds": 0.0,
            "checks": [],
        }
        aside = self.data_dir / f".{RUSH_FILE}.{rush_id}"
        aside.write_text(json.dumps(rush) + "\n")
        aside.replace(self.data_dir / RUSH_FILE)

    def break_something(self, fault: Fault) -> bool:
        """Whether it was done: there may be nothing of ours to break."""
        process = self._start(*FAULT_COMMAND, fault)
        try:
            return process.wait(FAULT_SECONDS) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False

    def _start(self, *arguments: str) -> subprocess.Popen[Any]:
        return subprocess.Popen(  # noqa: S603 - a command of ours, with arguments that were checked
            [sys.executable, "-m", "ops", *arguments], stdin=subprocess.DEVNULL
        )
