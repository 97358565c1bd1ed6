"""How large a request line and its headers may be. Knows nothing of Flask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_URL_CHARACTERS = 8192
"""Path and query. RFC 9110 (section 4.1) asks for 8000 at least; the longest of ours is far below 300."""
MOST_HEADER_CHARACTERS = 16 * 1024
"""Names and values of all headers together: room for a large token and what proxies and browsers add."""


def oversize(environ: Mapping[str, Any]) -> int | None:
    """The status that tells what is too large about the request in a WSGI environment; None when nothing is."""
    if len(environ.get("PATH_INFO", "")) + len(environ.get("QUERY_STRING", "")) > MOST_URL_CHARACTERS:
        return 414
    size = sum(len(name) + len(value) for name, value in environ.items() if name.startswith("HTTP_"))
    return 431 if size > MOST_HEADER_CHARACTERS else None
