"""What a scenario and the runner that judges it have to agree on."""

from __future__ import annotations

ATTEMPT = "attempt"
"""The name of the line that tells that an attempt came to its end."""
