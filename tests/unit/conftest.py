"""Unit tests have a stub in the engine's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import pytest

from web.refusal_tally import RefusalTally


@pytest.fixture(scope="session", autouse=True)
def _refusals_are_told_to_nobody() -> Iterator[None]:
    """Refusals are told a second later, by a thread that outlives the test: to a stub that has no gate.

    It would log a traceback each time, for which Python 3.11 parses source lines, and two threads that parse at once
    (the other one is pytest's) end in a SystemError there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("web.current.add_refusals", lambda _gate, _counts: None)
        patch.setattr("web.current.RefusalTally", _tally_of_a_stub)
        yield


def _tally_of_a_stub(tell: Callable[[Mapping[str, int]], None]) -> RefusalTally:
    def tell_if_there_is_a_gate(counts: Mapping[str, int]) -> None:
        with suppress(AttributeError):
            tell(counts)

    return RefusalTally(tell_if_there_is_a_gate)
