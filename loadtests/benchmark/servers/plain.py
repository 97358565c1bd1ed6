"""The least that the server can be asked to do: a function without any framework.

It answers faster than anything that is measured here; a generator that gets more out of it than out of the others is
not what limits them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

ANSWER = b"ok"


def app(_environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(ANSWER)))])
    return (ANSWER,)
