"""A token to try the service with."""

from __future__ import annotations

import os

import click

from ops.commands.values import HOURS, USER_ID
from ops.token import DEFAULT_HOURS, signed_token, signing_secret


@click.command()
@click.option("--user", "user_id", type=USER_ID, required=True, help="The user id.")
@click.option("--admin", is_flag=True, help="With the role of an administrator.")
@click.option("--hours", type=HOURS, default=DEFAULT_HOURS, show_default=True, help="How long it is good.")
def token(user_id: int, admin: bool, hours: float) -> None:
    """Print a token to try the service with.

    Nothing else is printed. It is signed with the first secret in JWT_SECRET or in the file that
    JWT_SECRET_FILE names, else with the one that AUTH=jwt made for the stack on DATA_DIR; JWT_AUDIENCE and
    JWT_ISSUER go into it when they are set.

    \b
    Examples:
      python -m ops token --user 7
      curl -H "Authorization: Bearer $(python -m ops token --user 1 --admin)" localhost:8000/api/v1/admin/audit
    """
    secret = signing_secret(os.environ)
    audience, issuer = (os.environ.get(name, "").strip() for name in ("JWT_AUDIENCE", "JWT_ISSUER"))
    click.echo(
        signed_token(secret, user_id, admin=admin, lifetime_seconds=round(hours * 3600),
                     audience=audience, issuer=issuer)
    )  # fmt: skip
