"""How many connections this process may hold: as many as the machine lets it."""

from __future__ import annotations

import resource


def raise_limit_on_open_files() -> None:
    """Raise the soft limit to the hard one.

    The soft limit is 1,024 nearly everywhere, for programs that use select(), which cannot count further (see
    getrlimit(2)). With that, as many idle clients would leave no file for the stores.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
