"""What the web imports before it forks its processes: modules, and nothing that two processes must not share."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ops.processes import PROJECT_ROOT

LOOK = """
from web.serve import import_application
import_application()
import json, os, sys, threading
sockets = 0
for number in os.listdir("/proc/self/fd"):
    try:
        sockets += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    except FileNotFoundError:
        pass  # of the listing itself
modules = [name for name in ("web.app", "web.main") if name in sys.modules]
print(json.dumps({"modules": modules, "threads": threading.active_count(), "sockets": sockets}))
"""


def before_the_fork(*, first: str = "") -> dict[str, Any]:
    looked = subprocess.run(
        [sys.executable, "-c", first + LOOK], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    seen: dict[str, Any] = json.loads(looked.stdout)
    return seen


def test_the_application_is_imported_and_nothing_is_connected_or_running() -> None:
    assert before_the_fork() == {"modules": ["web.app"], "threads": 1, "sockets": 0}


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        ("import socket; kept = socket.socket()", {"sockets": 1}),
        ("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", {"threads": 2}),
    ],
)
def test_this_look_would_see_a_connection_or_a_thread(first: str, seen: dict[str, int]) -> None:
    assert before_the_fork(first=first).items() >= seen.items()
