"""Follow-ups that wait for a person: what failed so often that nobody tries any more."""

from __future__ import annotations

from typing import Any

import click

from engine.flow.followups import parked_followups, requeue_parked
from engine.ledger.followups import ParkedFollowup
from ops.commands.printing import json_option, print_json, print_table
from ops.commands.values import FOLLOWUP_ID
from ops.connection import connected

MOST_SHOWN = 1_000


@click.group()
def deliveries() -> None:
    """What failed too often and is parked.

    Deliveries to the data platform, mostly, and whatever else follows from an order. Each was tried a dozen times, ever
    more rarely; the order itself is not affected.
    """


@deliveries.command("list")
@json_option
@click.option("--limit", type=click.IntRange(1), default=MOST_SHOWN, show_default=True, help="The oldest so many.")
def list_(as_json: bool, limit: int) -> None:
    """Show what is parked, and why it failed."""
    with connected() as engine:
        found = parked_followups(engine, limit)
    if as_json:
        print_json([_body(parked) for parked in found])
    elif not found:
        click.echo("nothing is parked")
    else:
        rows = [(each.id, each.order_id, each.kind, each.attempts, each.parked_at, each.last_error) for each in found]
        print_table(("id", "order", "kind", "attempts", "since", "error"), rows)


@deliveries.command()
@json_option
@click.argument("ids", type=FOLLOWUP_ID, nargs=-1)
def requeue(ids: tuple[int, ...], as_json: bool) -> None:
    """Try what is parked again.

    All of it, or the ones named: due now, with all their attempts ahead of them. What `make requeue` does.
    """
    with connected() as engine:
        requeued = requeue_parked(engine, list(ids) or None)
    if as_json:
        print_json({"requeued": requeued})
    else:
        click.echo(f"{requeued} parked follow-up{'' if requeued == 1 else 's'} will be tried again")


def _body(parked: ParkedFollowup) -> dict[str, Any]:
    return {
        "id": parked.id,
        "orderId": parked.order_id,
        "kind": parked.kind,
        "attempts": parked.attempts,
        "parkedAt": parked.parked_at,
        "lastError": parked.last_error,
    }
