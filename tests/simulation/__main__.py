"""Run histories from the command line.

``python -m tests.simulation --histories 10000 --seed 1`` plays the histories of the seeds 1 to 10000, tells how far it
is, prints every history that fails with the command that plays it again, ends with a table, and exits with 1 when any
failed. ``--minimal`` looks for a shorter history that fails alike, ``--verbose`` prints every step.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.postgres import discard_postgres, start_postgres
from ops.processes import free_port
from ops.valkey import start_valkey
from tests.simulation.controls import CONTROLS, HARMLESS
from tests.simulation.plan import PROFILES
from tests.simulation.run import Summary, first_found, minimal, play, profile_of
from tests.simulation.stores import Stores

PROGRESS_SECONDS = 2.0
MOST_FAILURES_PRINTED = 3


def main(arguments: list[str]) -> int:
    """Play; the exit code."""
    options = _options(arguments)
    if options.controls:
        return _table_of_controls(options.seed)
    summary, printed = Summary(), 0
    with private_stores() as stores:
        began = told = time.monotonic()
        for place, seed in enumerate(range(options.seed, options.seed + options.histories), 1):
            verdict = play(stores, seed, profile_of(seed, options.profile), say=print if options.verbose else None)
            summary.add(verdict)
            if verdict.violations and printed < MOST_FAILURES_PRINTED:
                printed += 1
                print("\r", minimal(stores, verdict) if options.minimal else verdict, sep="", flush=True)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                rate, failed = place / (told - began), sum(summary.failed.values())
                line = f"\r{place} of {options.histories} histories, {rate:.1f}/s, {failed} with something off "
                print(line, end="", file=sys.stderr, flush=True)
        print("\r", summary, f"\n{time.monotonic() - began:.1f} s", sep="")
    return 1 if summary.violations else 0


def _table_of_controls(seed: int) -> int:
    """Switch every guard off once; 1 when one is not missed."""
    missed = 0
    print(f"{'guard that is switched off':50s} {'histories':>9s}  caught by")
    with private_stores() as stores:
        for control in (*CONTROLS, *HARMLESS):
            with control.off(stores):
                found, histories = first_found(stores, control.profile, control.within, seed)
            caught = sorted({violation.split(":")[0] for violation in found.violations}) if found else ["nothing"]
            missed += (found is None) != (control in HARMLESS)
            print(f"{control.guard:50s} {histories:9d}  {', '.join(caught)}", flush=True)
    return 1 if missed else 0


@contextmanager
def private_stores() -> Iterator[Stores]:
    """A Valkey and a Postgres of our own, gone when this ends."""
    folder = Path(tempfile.mkdtemp(prefix="seonchak-simulation-"))
    folder.chmod(0o711)  # Postgres may have to run as another user
    try:
        redis = start_valkey(folder / "valkey", free_port())
        try:
            postgres = start_postgres(folder / "postgres", free_port())
            url = postgres.url.replace("postgresql://", "postgresql+psycopg://", 1)
            try:
                with Stores.connect(redis.url, url) as stores:
                    yield stores
            finally:
                postgres.stop()
        finally:
            redis.stop()
    finally:
        discard_postgres(folder / "postgres")
        shutil.rmtree(folder, ignore_errors=True)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=500, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first one; the others count on (default: 1)")
    parser.add_argument(
        "--profile", choices=sorted(PROFILES), help="only histories of this family (default: a mixture)"
    )
    parser.add_argument("--verbose", action="store_true", help="print every step as it happens")
    parser.add_argument("--minimal", action="store_true", help="shorten the histories that fail before printing them")
    parser.add_argument("--controls", action="store_true", help="switch off one guard at a time and see what finds it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
