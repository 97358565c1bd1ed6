"""The shop to play with: what is in it, a crowd for it, and what can be broken of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ops.commands.printing import json_option, print_json
from ops.commands.program import CANNOT
from ops.console import complain
from ops.demo_fault import FAULTS, NOTHING_TO_BREAK, break_something


@click.group()
def demo() -> None:
    """A small shop to play with."""


@demo.command()
@json_option
@click.pass_context
def data(ctx: click.Context, as_json: bool) -> None:
    """Fill an empty database with ten products, ten users with money and one coupon.

    One that holds any coupon, product or account is left as it is.
    """
    # Imported where they are used: the crowd of `demo rush` starts while a rush is waited for.
    from ops.connection import connected
    from ops.demo_data import load_demo_data

    with connected() as engine:
        loaded = load_demo_data(engine.ledger)
    if as_json:
        print_json({"loaded": loaded})
    if not loaded:
        complain("the database is not empty: nothing was changed")
        ctx.exit(CANNOT)
    if not as_json:
        click.echo("loaded a small shop to play with")


@demo.command()
@click.option("--id", "rush_id", required=True, help="A name of its own, for idempotency keys.")
@click.option("--users", type=click.IntRange(1), required=True, help="How many different people ask.")
@click.option("--requests", type=click.IntRange(1), required=True, help="How often they ask, all together.")
@click.option("--coupons", type=click.IntRange(1), required=True, help="How many there are to be had.")
def rush(rush_id: str, users: int, requests: int, coupons: int) -> None:
    """Let a crowd loose on a new coupon: what the console's button does.

    It asks the stack at HOST and PORT and tells how it fares in DATA_DIR/demo-rush.json.

    Exit codes: 0 everything that has to hold did, 1 not, 3 another crowd is at it.
    """
    from ops.demo_rush import let_loose

    if requests < users:
        raise click.BadParameter("they have to ask at least as often as there are people", param_hint="--requests")
    sys.exit(let_loose(rush_id, users, requests, coupons))


@demo.command("break")
@click.argument("fault", type=click.Choice(sorted(FAULTS)))
@click.pass_context
def break_(ctx: click.Context, fault: str) -> None:
    """Break something of the running stack on purpose.

    kill_worker kills -9 the process that drains; forget empties the Redis that the stack brought along, never one that
    somebody else runs. Exit code 3: there is nothing of ours to break.
    """
    if not break_something(Path(os.environ.get("DATA_DIR", "var")), fault):
        ctx.exit(NOTHING_TO_BREAK)
