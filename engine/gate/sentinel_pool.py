"""Connections to the primary that the sentinels name."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from redis import BlockingConnectionPool, RedisError
from redis.sentinel import SentinelConnectionPool

LOOK_SECONDS = 0.5


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """redis-py's pool, with a bounded wait for a free connection, that looks for another primary by itself.

    redis-py asks the sentinels when a connection breaks. That is late: after ``SENTINEL FAILOVER`` the old primary goes
    on for eight seconds as if nothing had happened, and whatever it decides in that time is lost with it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._looking = threading.Lock()
        self._next_look = 0.0
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """A connection to the primary; once in a while whoever wants one asks first who that is."""
        now = time.monotonic()
        if now >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._next_look = now + LOOK_SECONDS
                # If another one is named, this closes what is free, and what is in use when it is given back. Sentinels
                # that do not answer, or name nobody, are no reason to leave a primary that does.
                with suppress(RedisError):
                    self.get_master_address()  # type: ignore[no-untyped-call]
            finally:
                self._looking.release()
        return super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]

    def release(self, connection: Any) -> None:
        """Take a connection back. One that leads elsewhere is forgotten: redis-py would keep it in its list for ever,
        and while there is no primary every attempt makes one."""
        foreign = not self.owns_connection(connection)  # type: ignore[no-untyped-call]
        super().release(connection)  # type: ignore[no-untyped-call]
        if foreign:
            with self._lock, suppress(ValueError):
                self._connections.remove(connection)
