"""Where the processes of a stack keep their metrics: a folder that is empty when the stack starts.

A counter begins at zero with the stack, as Prometheus expects, and goes on over the deaths of processes. What only a
living process can say of itself, whoever answers ``//metrics`` leaves out once the process is gone.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Read by prometheus-client when it is imported."""


def metrics_folder(data_dir: Path) -> Path:
    """The folder of the stack on ``data_dir``."""
    return data_dir / "metrics"


def empty_metrics_folder(data_dir: Path) -> None:
    """Make the folder, or drop what the last stack left in it. Before any process starts. Raises OSError."""
    folder = metrics_folder(data_dir)
    folder.mkdir(mode=0o700, exist_ok=True)
    for file in folder.glob("*.db"):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
