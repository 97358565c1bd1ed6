"""All metrics of all processes as text for Prometheus."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from engine.telemetry import metrics

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
FRESH_SECONDS = 15.0
"""The active scheduler looks every few seconds. What nobody has looked at for so long, nobody knows any more: the
scheduler is away, or stopped being the active one and still has what it saw then."""

_LIVE_FILE = re.compile(r"gauge_live[a-z]*_([0-9]+)\.db")


def exposition() -> bytes:
    """Every metric, added up over the processes that share the folder; without a folder, those of this process."""
    folder = os.environ.get(FOLDER_VARIABLE)
    registry = CollectorRegistry()
    if folder:
        forget_the_dead(Path(folder))
        registry.register(_Fresh(MultiProcessCollector(None, path=folder)))
    else:
        registry.register(_Fresh(metrics.REGISTRY))
    return generate_latest(registry)


def forget_the_dead(folder: Path) -> None:
    """Drop what only a living process can say of itself. Counters of the dead stay: what they counted has happened."""
    for file in folder.glob("gauge_live*.db"):
        match = _LIVE_FILE.fullmatch(file.name)
        if match is not None and not _is_alive(int(match[1])):
            with suppress(FileNotFoundError):  # another process answers, too, just now
                mark_process_dead(int(match[1]), path=str(folder))


class _Fresh(Collector):
    """Leaves out what was observed too long ago, and puts the rest in the order of its names."""

    def __init__(self, source: Collector | CollectorRegistry) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        found = sorted(self._source.collect(), key=lambda metric: metric.name)
        fresh = set(_fresh_stores(found))
        for metric in found:
            store = metrics.OBSERVED.get(metric.name)
            if metric.samples and (store is None or store in fresh):
                yield metric


def _fresh_stores(found: Iterable[Metric]) -> Iterator[str]:
    since = time.time() - FRESH_SECONDS
    for metric in found:
        if metric.name == "seonchak_observed_timestamp_seconds":
            yield from (sample.labels["store"] for sample in metric.samples if sample.value >= since)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
