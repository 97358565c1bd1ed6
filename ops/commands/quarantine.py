"""What the database refused to record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import click

from engine.context import Engine
from engine.flow.quarantine import Decided, QuarantineAnswer, drop_quarantined, retry_quarantined
from engine.ledger.quarantine import QuarantinedOutcome, quarantined_outcomes_after
from ops.commands.printing import json_option, print_json, print_table
from ops.commands.program import CANNOT, OFF
from ops.commands.values import OUTCOME_ID
from ops.connection import connected
from ops.console import complain

PAGE = 500
ERROR_CHARACTERS_SHOWN = 200

WORDS = {
    QuarantineAnswer.RECORDED: "was recorded",
    QuarantineAnswer.DROPPED: "was dropped",
    QuarantineAnswer.NOT_FOUND: "is not in quarantine and never was",
    QuarantineAnswer.ENDED_BEFORE: "had come to its end before",
    QuarantineAnswer.FORGOTTEN: "stays: its lane was opened anew without it, so it can only be dropped",
    QuarantineAnswer.REFUSED: "stays: the database still refuses it",
}


@click.group()
def quarantine() -> None:
    """What the database refused to record.

    Each entry is a decision of the gate and a fault that a person has to look at; its client was told FAILED. Find the
    cause in its error and its fields, mend it, retry; or drop the entry.
    """


@quarantine.command("list")
@json_option
@click.option("--all", "ended_too", is_flag=True, help="Also those that were recorded or dropped.")
def list_(as_json: bool, ended_too: bool) -> None:
    """Show what waits for a person."""
    with connected() as engine:
        found = _found(engine, ended_too)
    if as_json:
        print_json([_body(outcome) for outcome in found])
        return
    if not found:
        click.echo("nothing is in quarantine")
        return
    heads = ("id", "kind", "request", "lane", "entry", "since", "ended", "error")
    print_table(heads, [_row(outcome) for outcome in found])


@quarantine.command()
@json_option
@click.argument("ids", type=OUTCOME_ID, nargs=-1, required=True)
@click.pass_context
def retry(ctx: click.Context, ids: tuple[int, ...], as_json: bool) -> None:
    """Record entries after all.

    Safe to repeat: what is recorded is recorded once. A request that was FAILED becomes COMPLETED by it, and its user
    has the coupon or the order; an order whose held stock has expired meanwhile stays FAILED. An entry whose lane was
    rebuilt without it is refused: somebody else may have its place in line.

    Exit codes: 0 all of them have come to their end; 1 some are refused, and why; 2 one of the ids never was there.
    """
    _decide(ctx, ids, as_json, retry_quarantined)


@quarantine.command()
@json_option
@click.argument("ids", type=OUTCOME_ID, nargs=-1, required=True)
@click.option("--because", required=True, help="Why: kept with the entry, and in the log.")
@click.pass_context
def drop(ctx: click.Context, ids: tuple[int, ...], because: str, as_json: bool) -> None:
    """Give entries up, for good.

    Their requests stay FAILED. The entry is kept with the reason, and the log has all of it. A dropped coupon leaves a
    gap in the places in line, which the audit goes on telling.

    \b
    Examples:
      python -m ops quarantine drop 3 --because "made by hand in a test"
    """
    because = because.strip()
    if not because or "\0" in because:
        raise click.BadParameter("say why, in a few words", param_hint="--because")
    _decide(ctx, ids, as_json, lambda engine, outcome_id: drop_quarantined(engine, outcome_id, because))


def _decide(ctx: click.Context, ids: Sequence[int], as_json: bool, decide: Callable[[Engine, int], Decided]) -> None:
    with connected() as engine:
        decided = [decide(engine, outcome_id) for outcome_id in dict.fromkeys(ids)]
    if as_json:
        print_json([asdict(each) for each in decided])
    for each in decided:
        told = f"{each.id} {WORDS[each.answer]}" + (f": {each.detail}" if each.detail else "")
        if not each.ended:
            complain(told)
        elif not as_json:
            click.echo(told)
    if any(each.answer is QuarantineAnswer.NOT_FOUND for each in decided):
        ctx.exit(CANNOT)
    ctx.exit(0 if all(each.ended for each in decided) else OFF)


def _found(engine: Engine, ended_too: bool) -> list[QuarantinedOutcome]:
    found: list[QuarantinedOutcome] = []
    with engine.ledger.read() as connection:
        while page := quarantined_outcomes_after(connection, found[-1].id if found else 0, PAGE, ended_too=ended_too):
            found += page
    return found


def _row(outcome: QuarantinedOutcome) -> Sequence[object]:
    error = (outcome.error.splitlines() or [""])[0]
    return (
        outcome.id,
        outcome.kind,
        outcome.request_id,
        outcome.lane,
        f"{outcome.epoch}-{outcome.number}",
        outcome.quarantined_at,
        outcome.ended_as,
        error[:ERROR_CHARACTERS_SHOWN],
    )


def _body(outcome: QuarantinedOutcome) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "requestId": outcome.request_id,
        "kind": outcome.kind,
        "lane": outcome.lane,
        "entry": f"{outcome.epoch}-{outcome.number}",
        "fields": dict(outcome.fields),
        "error": outcome.error,
        "quarantinedAt": outcome.quarantined_at,
        "endedAt": outcome.ended_at,
        "endedAs": outcome.ended_as,
        "endedBecause": outcome.ended_because,
    }
