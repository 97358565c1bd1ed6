"""Bringing the database up to date."""

from __future__ import annotations

import os

import click

from ops.commands.printing import json_option, print_json, progress
from ops.connection import settings_of
from ops.console import complain
from ops.migrate import bring_up_to_date


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Bring the database up to date.

    Safe to repeat, and to run on several hosts at once. Refuses a Redis that would evict keys, and data that
    was built
    with another number of lanes than LANES says; RELANE=1 changes that number instead, with everything else
    stopped.
    DEMO_DATA=1 fills an empty database with the small shop.

    \b
    Examples:
      python -m ops migrate
      REDIS_URL=redis://… DATABASE_URL=postgresql://… python -m ops migrate
    """
    with progress("migrating"):
        result = bring_up_to_date(
            settings_of(os.environ),
            relane_allowed=os.environ.get("RELANE") == "1",
            demo_data=os.environ.get("DEMO_DATA") == "1",
        )
    for warning in result.warnings:
        complain(f"warning: {warning}")
    if as_json:
        print_json(result.body())
    elif result.demo_data_loaded:
        click.echo("loaded a small shop to play with; DEMO_DATA=0 starts with an empty one")
