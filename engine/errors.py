"""Every exception the engine raises on purpose.

A refusal (sold out, not found, …) is a result, not an exception: see ``outcomes.py``. Exceptions are for
wrong settings, infrastructure that does not answer, and broken contracts.
"""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """Base of everything below; never raised itself."""


class InvalidSettings(EngineError):
    """One or more settings are missing or wrong; ``problems`` names all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("wrong settings:\n" + "\n".join(f"  - {problem}" for problem in self.problems))


class GateUnavailable(EngineError):
    """The decision store cannot decide now: unreachable, not verified, or its backlog is over the limit.

    After a time-out the outcome is unknown: asking again with the same request nonce is always safe.
    """

    def __init__(self, reason: str, retry_after_seconds: int = 1) -> None:
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"gate unavailable: {reason}")


class TooManyAsks(EngineError):
    """Whoever asks has had all their turns. No outcome: nothing was decided, counted or remembered, and the same ask is
    welcome after ``milliseconds``."""

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds
        super().__init__(f"{milliseconds} ms to wait")


class LedgerUnavailable(EngineError):
    """Postgres cannot be reached or did not answer within its limits."""

    def __init__(self, reason: str, retry_after_seconds: int = 1) -> None:
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"ledger unavailable: {reason}")


class LaneCountMismatch(EngineError):
    """The data was built with another number of lanes than this process was started with."""

    def __init__(self, recorded: int, configured: int) -> None:
        self.recorded = recorded
        self.configured = configured
        super().__init__(
            f"the data was built with LANES={recorded}, but this process was started with LANES={configured}. "
            f"Start with LANES={recorded}; or, to change the number, with everything stopped: "
            f"RELANE=1 LANES={configured} make run, or: python -m ops relane {configured}"
        )


class BrokenContract(EngineError):
    """Two parts of the system disagree about a format or a protocol; somebody has to look."""
