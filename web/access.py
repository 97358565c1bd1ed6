"""Who may do what: the one table of what is open, and the rule for all the rest. Knows nothing of Flask."""

from __future__ import annotations

from enum import Enum

API = "/api/v1"
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/static/<path:filename>"})
"""The console's page and what it is made of, too: what it shows, it has to ask for with a token."""
OPEN_READS = frozenset({f"{API}/products", f"{API}/products/popular"})
_READING = frozenset({"GET", "HEAD"})


class Access(Enum):
    """Who may use a route."""

    OPEN = "anybody"
    CALLER = "anybody who says who they are"
    ADMIN = "administrators"


def access_to(rule: str, method: str) -> Access:
    """Who may use the route of that rule (a path, its variables in whatever form).

    A route that nobody thought about is for administrators.
    """
    if rule in OPEN_PATHS or (rule in OPEN_READS and method in _READING):
        return Access.OPEN
    if rule.startswith(f"{API}/") and not rule.startswith(f"{API}/admin/"):
        return Access.CALLER
    return Access.ADMIN
