"""What a WSGI application is told of a request."""

from __future__ import annotations

from typing import Any

from web.limits import address_of
from web.wsgi_bridge import _environ


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
    assert address_of(environ, proxies=1) == "198.51.100.7"


def test_no_header_passes_for_another_by_an_underscore() -> None:
    environ = environ_with((b"x-forwarded-for", b"198.51.100.7"), (b"x_forwarded_for", b"192.0.2.1"))
    assert environ["HTTP_X_FORWARDED_FOR"] == "198.51.100.7"
    assert address_of(environ, proxies=1) == "198.51.100.7"
    assert "CONTENT_LENGTH" not in environ_with((b"content_length", b"5"))
