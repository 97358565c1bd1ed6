"""Tokens to try the service with, signed with the first of its secrets.

The secret is JWT_SECRET (or in the file that JWT_SECRET_FILE names), else the one that ``AUTH=jwt make run`` made for
itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import jwt

from engine.errors import EngineError
from ops.stack import secret_path

DEFAULT_HOURS = 12.0


class NoSecret(EngineError):
    """There is nothing to sign with; ``str()`` says what to do."""


def signed_token(
    secret: str, user_id: int, *, admin: bool = False, lifetime_seconds: int, audience: str = "", issuer: str = ""
) -> str:
    """A token for this user, good from now on for so long."""
    now = int(time.time())
    claims: dict[str, object] = {"sub": str(user_id), "iat": now, "exp": now + lifetime_seconds}
    optional = {"role": "admin" if admin else "", "aud": audience, "iss": issuer}
    return jwt.encode({**claims, **{name: text for name, text in optional.items() if text}}, secret, "HS256")


def signing_secret(environ: Mapping[str, str]) -> str:
    """The first secret that this environment knows of. Raises NoSecret."""
    if elsewhere := [name for name in ("JWT_PUBLIC_KEY", "JWT_JWKS") if environ.get(name, "").strip()]:
        raise NoSecret(f"{elsewhere[0]} is set: tokens are signed by whoever has the private key, not here")
    given = environ.get("JWT_SECRET", "").split()
    if given:
        return given[0]
    named = environ.get("JWT_SECRET_FILE", "").strip()
    path = Path(named) if named else secret_path(Path(environ.get("DATA_DIR", "").strip() or "var"))
    try:
        found = path.expanduser().read_text().split()
    except (OSError, ValueError):
        found = []
    if not found:
        raise NoSecret(
            f"there is no secret to sign with in {path}: "
            "set JWT_SECRET, or start the service once with AUTH=jwt make run, which makes one"
        )
    return found[0]
