"""How much chance is allowed: little in every run of the tests, much in a soak, set by the environment."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("SIMULATION_EXAMPLES", "60"))
"""Sequences of operations for each state machine."""
HISTORIES = int(os.environ.get("SIMULATION_HISTORIES", "500"))
"""Histories of the whole hand-over."""
FIRST_SEED = int(os.environ.get("SIMULATION_SEED", "1"))


def machine_settings(*, control: bool = False) -> settings:
    """For a state machine: the same sequences in every run unless a soak asks for more than usual.

    ``control`` is for one that has to fail: it may take longer to, and nobody wants to know its shortest failure.
    """
    phases = (Phase.generate,) if control else (Phase.generate, Phase.shrink)
    return settings(
        max_examples=max(EXAMPLES, 300) if control else EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        database=None,
        derandomize="SIMULATION_EXAMPLES" not in os.environ,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
