"""Lanes: emptying their outboxes, building them anew, changing their number."""

from __future__ import annotations

import os

import click

from engine.errors import EngineError
from engine.gate import outbox
from engine.upkeep import relane as engine_relane
from engine.upkeep.console import look_at
from engine.upkeep.emptying import empty_outboxes
from engine.upkeep.rebuild import rebuild_now
from ops.commands.printing import json_option, print_json, progress
from ops.commands.program import CANNOT, OFF
from ops.connection import connected
from ops.console import complain
from ops.stores_alone import engine_alone, recorded_number_of_lanes

PATIENCE_SECONDS = 60.0
MOST_LANES = 1024


@click.command()
@json_option
@click.option("--patience", default=PATIENCE_SECONDS, show_default=True, help="Seconds after which it gives up.")
@click.pass_context
def drain(ctx: click.Context, as_json: bool, patience: float) -> None:
    """Empty the outboxes into the database.

    Works beside the workers or in their place, and returns when nothing waits any more: before a backup, for example,
    or when no worker can be started. In traffic there is always something new; then it ends with its patience.

    Exit codes: 0 everything is recorded; 1 something is left, or went into quarantine.
    """
    with connected() as engine:
        waiting = outbox.backlog(engine.gate)
        with progress("recording", waiting) as advance:
            shown = waiting

            def told(left: int) -> None:
                nonlocal shown
                if left < shown:
                    advance(shown - left)
                    shown = left

            emptied = empty_outboxes(engine, patience, told)
    for lane, reason in emptied.unavailable.items():
        complain(f"lane {lane}: {reason}")
    if as_json:
        print_json(
            {
                "recorded": emptied.recorded,
                "quarantined": emptied.quarantined,
                "forgotten": emptied.forgotten,
                "left": emptied.left,
                "unavailable": emptied.unavailable,
            }
        )
    else:
        more = f", {emptied.quarantined} went into quarantine" if emptied.quarantined else ""
        click.echo(f"{waiting} waited, {emptied.recorded} were recorded here, {emptied.left} are left{more}")
    ctx.exit(0 if emptied.is_empty and not emptied.quarantined else OFF)


@click.command()
@json_option
@click.option(
    "--lane", "lanes", type=click.IntRange(0, MOST_LANES - 1), multiple=True, help="Only this one; again for more."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def rebuild(ctx: click.Context, as_json: bool, lanes: tuple[int, ...], yes: bool) -> None:
    """Build the gate anew from the database.

    The guard does that by itself when Redis has forgotten something. By hand it is for an audit that calls a lane off.
    What the outboxes hold is recorded first. Meanwhile clients are told BUSY, and stock that is held for orders not
    yet submitted is given back.

    Exit codes: 0 all were built and opened; 1 not all, and which ones.
    """
    with connected() as engine:
        unknown = [lane for lane in lanes if lane >= engine.gate.lanes]
        if unknown:
            raise click.BadParameter(f"there are {engine.gate.lanes} lanes, from 0 on", param_hint="--lane")
        meant = list(dict.fromkeys(lanes)) or list(range(engine.gate.lanes))
        if not yes and not _agreed(f"Close and rebuild {len(meant)} of {engine.gate.lanes} lanes?"):
            complain("nothing was changed; --yes asks nobody")
            ctx.exit(CANNOT)
        failed: dict[int, str] = {}
        with progress("building lanes", len(meant)) as advance:
            for lane in meant:
                try:
                    rebuild_now(engine, lane)
                except EngineError as error:
                    failed[lane] = str(error)
                advance(1)
    for lane, reason in failed.items():
        complain(f"lane {lane} was not built: {reason}. The guard tries again every second")
    built = [lane for lane in meant if lane not in failed]
    if as_json:
        print_json({"built": built, "failed": failed})
    else:
        click.echo(f"{len(built)} of {len(meant)} lanes were built and opened")
    ctx.exit(OFF if failed else 0)


@click.command()
@json_option
@click.argument("lanes", type=click.IntRange(1, MOST_LANES))
@click.pass_context
def relane(ctx: click.Context, as_json: bool, lanes: int) -> None:
    """Change the number of lanes, everything stopped.

    What was decided is recorded; the lanes are built under their new number when the stack starts again, with LANES
    set to it. Refused while any process is heard. Without REDIS_URL and DATABASE_URL, the servers of DATA_DIR are
    started for it and stopped again.

    \b
    Examples:
      python -m ops relane 16 && LANES=16 make run
    """
    with engine_alone(os.environ, lanes) as engine:
        alive = [f"{process.kind} {process.name}" for process in look_at(engine).processes if process.alive]
        if alive:
            complain(f"nothing was changed: these are at work, stop them first: {', '.join(alive)}")
            ctx.exit(CANNOT)
        before = recorded_number_of_lanes(engine)
        with progress("changing lanes", before) as advance:
            engine_relane.relane(engine, before, lambda _lane: advance(1))
    if as_json:
        print_json({"before": before, "lanes": lanes})
    else:
        click.echo(f"{before} lanes became {lanes}. Start everything with LANES={lanes}")


def _agreed(question: str) -> bool:
    """Whether somebody says yes; nobody there means no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        return False
