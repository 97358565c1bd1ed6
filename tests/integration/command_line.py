"""``python -m ops`` as a test calls it: in this process, on the stores of an engine."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from engine.context import Engine
from ops.commands.program import program

NAMED = ("REDIS_URL", "QUEUE_REDIS_URL", "DATABASE_URL", "DATA_DIR", "LANES")


def ops(
    engine: Engine | None, *arguments: str | int | Path, stdin: str | bytes | None = None, **environ: str
) -> Result:
    """What came of the command: exit code, stdout, stderr. Without an engine, no store is named.

    A traceback is no way to end: it fails the test here.
    """
    stores: dict[str, str] = {}
    if engine is not None:
        stores = {"REDIS_URL": engine.settings.redis_url, "DATABASE_URL": engine.settings.database_url}
    bare: dict[str, str | None] = dict.fromkeys(NAMED)
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(program, words, input=stdin, env={**bare, **stores, **environ})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(result: Result) -> str:
    """The stdout of a command that did what it should, without a word on stderr."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(result: Result) -> str:
    """The stderr of a command that could not be done: exit code 2, nothing on stdout."""
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr
