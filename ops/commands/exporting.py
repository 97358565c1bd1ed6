"""Winners into CSV files."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from engine.context import Engine
from engine.errors import EngineError, GateUnavailable
from engine.moments import render_moment
from engine.outcomes import Refused
from engine.shop.coupon_offers import coupon_overview
from engine.shop.winners import recorded_winners
from ops.commands.printing import progress
from ops.commands.values import COUPON_ID
from ops.connection import connected
from ops.console import complain

COLUMNS = ("sequence", "userId", "userCouponId", "status", "issuedAt", "requestId")


class CannotExport(EngineError):
    """Nothing was written; ``str()`` says why."""


@click.group()
def export() -> None:
    """Write a CSV file."""


@export.command()
@click.argument("coupon_id", type=COUPON_ID)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A file, in place of stdout.")
def winners(coupon_id: int, out: Path | None) -> None:
    """Everybody who has a coupon, in line.

    In the order of their places: sequence, userId, userCouponId, status (AVAILABLE, USED), issuedAt, requestId. A file
    is there when it is complete, and not before. What is decided and not yet recorded is missing, and told on stderr:
    `python -m ops drain` records it.

    \b
    Example:
      python -m ops export winners 1 --out winners.csv
    """
    with connected() as engine:
        total, pending = _numbers(engine, coupon_id)
        with progress("writing", total) as advance, _opened(out) as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for some in recorded_winners(engine, coupon_id):
                for each in some:
                    issued_at = render_moment(each.issued_at)
                    rows.writerow(
                        (each.sequence, each.user_id, each.user_coupon_id, each.status, issued_at, each.request_id)
                    )
                advance(len(some))
    if pending:
        complain(f"{pending} more are decided and not yet recorded: `python -m ops drain` records them")


def _numbers(engine: Engine, coupon_id: int) -> tuple[int, int]:
    """How many have the coupon for good, and how many on their way; the latter only the gate knows."""
    try:
        overview = coupon_overview(engine, coupon_id)
    except GateUnavailable:
        return 0, 0
    if isinstance(overview, Refused):
        raise CannotExport(f"there is no coupon {coupon_id}")
    return overview.issued - overview.pending, overview.pending


@contextmanager
def _opened(out: Path | None) -> Iterator[IO[str]]:
    """stdout, or a file beside the one wanted that takes its place at the end."""
    if out is None:
        yield sys.stdout
        return
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        temporary.replace(out)
        temporary = None
    except OSError as error:
        raise CannotExport(f"{out} cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
