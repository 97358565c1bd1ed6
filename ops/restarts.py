"""When to start again what has died, and when to give up."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RestartPolicy:
    """At most ``limit`` restarts within ``window_seconds``; each one waits twice as long as the one before."""

    limit: int = 10
    window_seconds: float = 60.0
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 5.0


@dataclass
class Restarts:
    """The recent deaths of one process."""

    policy: RestartPolicy
    deaths: deque[float] = field(default_factory=deque)

    def delay_after_death(self, now_seconds: float) -> float | None:
        """Seconds to wait before the next start, or None when it keeps dying; deaths before the window are forgiven."""
        while self.deaths and self.deaths[0] <= now_seconds - self.policy.window_seconds:
            self.deaths.popleft()
        if len(self.deaths) >= self.policy.limit:
            return None
        delay = self.policy.first_delay_seconds * float(1 << len(self.deaths))
        self.deaths.append(now_seconds)
        return min(delay, self.policy.longest_delay_seconds)
