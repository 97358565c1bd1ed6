"""Settings, gate, ledger and bell of one process, passed to whatever the engine is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import Settings
from engine.flow.bell import Bell
from engine.gate.gate import Gate
from engine.ledger.session import Ledger

WORKER_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Engine:
    """One process' connections. Thread-safe. Nothing connects before the first use."""

    settings: Settings
    gate: Gate
    ledger: Ledger
    bell: Bell

    @classmethod
    def connect(cls, settings: Settings, *, patient: bool = False) -> Engine:
        """The engine for a process. ``patient`` is for workers, which may wait longer than a client would."""
        return cls(
            settings=settings,
            gate=Gate.connect(
                settings.redis_url,
                lanes=settings.lanes,
                backlog_limit=settings.backlog_limit,
                timeout_seconds=WORKER_TIMEOUT_SECONDS if patient else settings.gate_timeout_seconds,
            ),
            ledger=Ledger(
                settings.database_url,
                pool_size=settings.ledger_pool_size,
                statement_timeout_seconds=settings.statement_timeout_seconds,
            ),
            bell=Bell.connect(settings.queue_redis_url),
        )

    def close(self) -> None:
        """Give every connection back."""
        self.gate.close()
        self.ledger.close()
        self.bell.close()
