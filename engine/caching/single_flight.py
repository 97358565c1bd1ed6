"""Single flight: of those in one process who want the same at the same time, one works and all get its result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Thread-safe. Remembers nothing: who comes after the work has ended starts it anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Result]] = {}

    def do(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """The result of ``work``, ours or that of whoever is at it under the same key; its exception likewise."""
        with self._lock:
            flight = self._flights.get(key)
            leading = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if leading:
            try:
                result = work()
            except BaseException as error:
                self._land(key)
                flight.set_exception(error)
            else:
                self._land(key)
                flight.set_result(result)
        return flight.result()

    def do_afresh(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """As :meth:`do`, but the result is never that of work begun before this call: it may be too old for us.

        An error of such work is ours, too: where it failed a moment ago, trying again would only take as long again.
        """
        with self._lock:
            earlier = self._flights.get(key)
        if earlier is not None:
            error = earlier.exception()
            if error is not None:
                raise error
        return self.do(key, work)

    def _land(self, key: Hashable) -> None:
        # Before anybody hears the result: whoever has heard it finds only work that was begun later.
        with self._lock:
            del self._flights[key]
