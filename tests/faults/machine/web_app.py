"""The web application of one of the machine's processes: the real one, prepared as :mod:`.process` says."""

from __future__ import annotations

from tests.faults.machine.process import prepare

prepare("web")

from web.main import app  # noqa: E402 - the application reads its settings when it is imported

__all__ = ["app"]
