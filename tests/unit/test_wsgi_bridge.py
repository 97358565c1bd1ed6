"""What a WSGI application is told of a request."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from web.limits import address_of, whereabouts
from web.wsgi_bridge import TooManyWaiting, WsgiBridge, _environ

SCOPE = {"method": "GET", "path": "/", "query_string": b"", "http_version": "1.1", "headers": []}


def environ_with(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    scope = {
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "http_version": "1.1",
        "client": ("10.0.0.1", 5),
        "headers": list(headers),
    }
    return _environ(scope, b"")


def test_a_header_that_came_twice_is_one_with_both_values() -> None:
    environ = environ_with((b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-for", b"198.51.100.7"))
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.1,198.51.100.7"
    assert address_of(*whereabouts(environ), proxies=1) == "198.51.100.7"


def test_no_header_passes_for_another_by_an_underscore() -> None:
    environ = environ_with((b"x-forwarded-for", b"198.51.100.7"), (b"x_forwarded_for", b"192.0.2.1"))
    assert environ["HTTP_X_FORWARDED_FOR"] == "198.51.100.7"
    assert address_of(*whereabouts(environ), proxies=1) == "198.51.100.7"
    assert "CONTENT_LENGTH" not in environ_with((b"content_length", b"5"))


@pytest.mark.parametrize(("patience_seconds", "begun"), [(0.0, 1), (60.0, 2)])
def test_who_waited_for_a_thread_for_too_long_is_not_begun(patience_seconds: float, begun: int) -> None:
    """With patience for a minute, the second one's turn comes: the negative control."""
    go_on, entered, runs = threading.Event(), threading.Event(), []

    def application(_environ: Any, start_response: Any) -> list[bytes]:
        runs.append(1)
        entered.set()
        assert go_on.wait(10)
        start_response("200 OK", [])
        return [b""]

    bridge = WsgiBridge(application, threads=1, patience_seconds=60.0)

    async def two_of_them() -> list[Any]:
        first = asyncio.create_task(bridge.answer(SCOPE, b""))
        await asyncio.to_thread(entered.wait, 10)
        bridge._patience_seconds = patience_seconds
        second = asyncio.create_task(bridge.answer(SCOPE, b""))
        await asyncio.sleep(0)  # it is in the line now
        go_on.set()
        return list(await asyncio.gather(first, second, return_exceptions=True))

    first, second = asyncio.run(two_of_them())
    bridge.close()
    assert first.status == 200
    assert len(runs) == begun
    assert isinstance(second, TooManyWaiting) == (begun == 1)
