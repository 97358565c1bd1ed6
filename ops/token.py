"""``python -m ops.token --user 7 [--admin]``: a token to try the service with, signed with the first of its secrets.

The secret is JWT_SECRET (or in the file that JWT_SECRET_FILE names), else the one that ``AUTH=jwt make run`` made for
itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jwt

from engine.errors import EngineError
from ops.console import complain

SECRET_FILE = "jwt-secret"  # noqa: S105 - the name of the file
DEFAULT_HOURS = 12
LARGEST_USER_ID = 2**53 - 1


class NoSecret(EngineError):
    """There is nothing to sign with; ``str()`` says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the token, and nothing else; the exit code."""
    options = _options(arguments)
    try:
        secret = signing_secret(os.environ)
    except NoSecret as error:
        complain(str(error))
        return 2
    audience, issuer = (os.environ.get(name, "").strip() for name in ("JWT_AUDIENCE", "JWT_ISSUER"))
    lifetime_seconds = round(options.hours * 3600)
    print(signed_token(secret, options.user, admin=options.admin, lifetime_seconds=lifetime_seconds,
                       audience=audience, issuer=issuer))  # fmt: skip
    return 0


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


def secret_path(data_dir: Path) -> Path:
    """Where the local stack keeps the secret that it made."""
    return data_dir / SECRET_FILE


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.token", description="Print a token to try the service with.")
    parser.add_argument("--user", type=_user_id, required=True, help="the user id: make token USER=7")
    parser.add_argument("--admin", action="store_true", help="with the role of an administrator")
    parser.add_argument("--hours", type=float, default=DEFAULT_HOURS, help="how long it is good (%(default)s)")
    return parser.parse_args(arguments)


def _user_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= 16) or int(text) > LARGEST_USER_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is no user id; for example: make token USER=7")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
