"""How every process writes its log: to stderr, one line for each thing that happened.

For people where stderr is a terminal, as JSON where it is not; ``LOG_FORMAT`` (human, json) and ``LOG_LEVEL`` say
otherwise. Code writes with the standard library's loggers. What a line is about (a lane, a request) is bound around the
work with :func:`about`, and is in every line that is written meanwhile, also in those of libraries.

In a rush nobody writes a line per request. With ``LOG_LEVEL=debug`` there is one per call and per batch, and each names
its requests: a request id found in the line of the web process that decided it is found again in that of the drain that
recorded it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import (
    EventRenamer,
    ExceptionRenderer,
    JSONRenderer,
    StackInfoRenderer,
    TimeStamper,
    UnicodeDecoder,
)
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import Processor

AUTO, HUMAN, JSON = "auto", "human", "json"
FORMATS = (AUTO, HUMAN, JSON)
LEVELS = ("debug", "info", "warning", "error")
COLOUR_VARIABLE = "FORCE_COLOR"
NO_COLOUR_VARIABLE = "NO_COLOR"
"""Both are customs of many programs: https://force-color.org, https://no-color.org."""

_OURS = ("engine", "web", "workers", "scheduler", "ops")
"""What may be debugged: libraries tell of every byte, and would drown it."""
_QUIET = {"alembic": logging.WARNING, "apscheduler": logging.ERROR, "rq": logging.WARNING, "httpx": logging.WARNING}
"""Libraries that tell every time what is of no interest the second time."""


def about(**fields: object) -> AbstractContextManager[None]:
    """Whatever is written in this block, in this thread or task, says what it is about."""
    return bound_contextvars(**fields)


def configure_logs(process: str, log_format: str = AUTO, level: str = "info") -> None:
    """Write from now on as one of :data:`FORMATS`; ``process`` is what this one is: web, drain, scheduler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(process, as_json=_is_json(log_format), colours=_wants_colours()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level.upper()]))
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(True)
    sys.excepthook = _write_crash


def formatter(process: str, *, as_json: bool, colours: bool = False) -> logging.Formatter:
    """What makes a line of a record."""
    # A time zone is for machines: people read beside a clock.
    stamp = TimeStamper(fmt="iso", utc=True) if as_json else TimeStamper(fmt="%H:%M:%S", utc=False)
    gathered: list[Processor] = [
        merge_contextvars,
        add_log_level,
        add_logger_name,
        ExtraAdder(),
        stamp,
        StackInfoRenderer(),
        UnicodeDecoder(),
    ]
    finished: Sequence[Processor]
    if as_json:
        finished = [_name(process), ExceptionRenderer(), EventRenamer("message"), JSONRenderer(ensure_ascii=False)]
    else:
        human = ConsoleRenderer(colors=colours, pad_event_to=0, exception_formatter=plain_traceback, sort_keys=False)
        finished = [_leave_out_what_the_sentence_says, human]
    return ProcessorFormatter(
        foreign_pre_chain=gathered, processors=[ProcessorFormatter.remove_processors_meta, *finished]
    )


def _is_json(log_format: str) -> bool:
    return log_format == JSON or (log_format == AUTO and not sys.stderr.isatty())


def _wants_colours() -> bool:
    if os.environ.get(NO_COLOUR_VARIABLE):
        return False
    return bool(os.environ.get(COLOUR_VARIABLE)) or sys.stderr.isatty()


def _name(process: str) -> Processor:
    def add(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        event["pid"] = os.getpid()
        return event

    return add


def _leave_out_what_the_sentence_says(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A sentence for people names its lane already; the field is for machines."""
    if "lane" in event and f"lane {event['lane']}" in str(event.get("event", "")):
        del event["lane"]
    return event


def _write_crash(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """The last words of a process, in the form of all others."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        logging.getLogger("crash").critical("ended by %s", kind.__name__, exc_info=(kind, error, traceback))
