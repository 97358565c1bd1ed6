"""Follow-ups that wait for a person: what failed so often that nobody tries any more."""

from __future__ import annotations

import click

from engine.flow.followups import requeue_parked
from ops.commands.printing import json_option, print_json
from ops.connection import connected


@click.group()
def deliveries() -> None:
    """What failed too often, parked."""


@deliveries.command()
@json_option
def requeue(as_json: bool) -> None:
    """Make every parked follow-up due now, with all its attempts ahead of it: what `make requeue` does."""
    with connected() as engine:
        requeued = requeue_parked(engine)
    if as_json:
        print_json({"requeued": requeued})
    else:
        click.echo(f"{requeued} parked follow-up{'' if requeued == 1 else 's'} will be tried again")
