"""Where the processor time of an answer goes, process by process: what two shared cores can give is bounded by the sum.

Linux tells it in ``/proc/<pid>/stat``; elsewhere nothing is told, and nothing is shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

PROC = Path("/proc")
SMALLEST_SHOWN_US = 0.5


def processor_seconds(pids: Mapping[str, int], proc: Path = PROC) -> dict[str, float]:
    """Processor time so far of each of these processes and of what they started, in seconds; whoever has a name of
    their own is not counted with the one who started them.

    ``pids`` are by name; ``worker.1`` and ``worker.2`` are told as one ``worker``. A process that is gone counts as 0.
    """
    parents, seconds = _all_processes(proc)
    named, children = set(pids.values()), dict[int, list[int]]()
    for pid, parent in parents.items():
        if pid in named:
            continue
        children.setdefault(parent, []).append(pid)
    found: dict[str, float] = {}
    for name, pid in pids.items():
        kind = name.partition(".")[0]
        found[kind] = found.get(kind, 0.0) + sum(seconds.get(each, 0.0) for each in _family(pid, children))
    return found


def microseconds_each(before: Mapping[str, float], after: Mapping[str, float], answers: int) -> dict[str, float]:
    """What one answer cost each process, in microseconds; without those that had no part in it."""
    if not answers:
        return {}
    spent = {name: (after[name] - before.get(name, 0.0)) * 1e6 / answers for name in after}
    return {name: each for name, each in spent.items() if each >= SMALLEST_SHOWN_US}


def medians(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Name by name, the median; a round in which a process had no part counts as 0."""
    all_rounds = list(rounds)
    names = dict.fromkeys(name for each in all_rounds for name in each)
    return {name: median(each.get(name, 0.0) for each in all_rounds) for name in names}


def _all_processes(proc: Path) -> tuple[dict[int, int], dict[int, float]]:
    """Parents and processor seconds by pid."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for stat in proc.glob("[0-9]*/stat"):
        try:
            # The name may hold anything, even spaces and brackets; what follows it does not.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        seconds[pid] = (int(fields[11]) + int(fields[12])) / ticks
    return parents, seconds


def _family(pid: int, children: Mapping[int, list[int]]) -> list[int]:
    family = [pid]
    for each in family:
        family += children.get(each, [])
    return family
