"""What is to be measured, and for how long."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.benchmark.routes import ROUTES

ROUTE_TOPICS = tuple(route.key for route in ROUTES)
STAGE_TOPICS = ("fsync", "lag", "overload", "mix")
ENGINE_TOPICS = ("decisions", "memory", "drain", "settling")
TOPICS = (*ROUTE_TOPICS, *STAGE_TOPICS, *ENGINE_TOPICS)
GROUPS = {
    "http": ROUTE_TOPICS,
    "poll": ("poll-pending", "poll-completed"),
    "engine": ENGINE_TOPICS,
}
NEEDS = {"lock": ("issue",)}
"""What a topic is held against is measured with it."""


class WrongOptions(Exception):
    """The options ask for what there is not; the text says what."""


@dataclass(frozen=True)
class Options:
    """``rounds`` of slices of so many ``seconds``; ``topics`` in the order in which they are measured."""

    topics: tuple[str, ...]
    seconds: float
    rounds: int
    quick: bool
    strict: bool
    publish: bool
    command: str

    def routes(self) -> tuple[str, ...]:
        """The routes among the topics."""
        return tuple(topic for topic in self.topics if topic in ROUTE_TOPICS)

    def wants(self, *topics: str) -> bool:
        """Whether any of these is to be measured."""
        return any(topic in self.topics for topic in topics)


def read_options(arguments: Sequence[str]) -> Options:
    """Raises WrongOptions; ends the process for what argparse finds wrong, or when help is wanted."""
    parsed = _parser().parse_args(arguments)
    topics = topics_named(parsed.only)
    if parsed.publish and (parsed.quick or parsed.only):
        raise WrongOptions("--publish is for whole runs: without --quick and without --only")
    seconds = parsed.seconds if parsed.seconds is not None else 1.0 if parsed.quick else 4.0
    rounds = parsed.rounds if parsed.rounds is not None else 1 if parsed.quick else 3
    if not 1 <= seconds <= 600 or not 1 <= rounds <= 100:
        raise WrongOptions("--seconds must be from 1 to 600, --rounds from 1 to 100")
    if parsed.publish and rounds < 3:
        raise WrongOptions("--publish wants medians of at least three rounds")
    given = f' ARGS="{shlex.join(arguments)}"' if arguments else ""
    command = f"make benchmark{given}"
    return Options(topics, seconds, rounds, parsed.quick, parsed.strict, parsed.publish, command)


def topics_named(text: str) -> tuple[str, ...]:
    """The topics that a comma-separated text names, and what they need; all for an empty one. Raises WrongOptions."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in TOPICS and name not in GROUPS]
    if unknown:
        raise WrongOptions(f"nothing is called {', '.join(unknown)}: there are {', '.join((*GROUPS, *TOPICS))}")
    if not names:
        return TOPICS
    wanted = {topic for name in names for topic in GROUPS.get(name, (name,))}
    wanted |= {need for topic in wanted for need in NEEDS.get(topic, ())}
    return tuple(topic for topic in TOPICS if topic in wanted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.benchmark", description="Measure, as ratios in one run.")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of: {', '.join((*GROUPS, *TOPICS))}")
    parser.add_argument("--seconds", type=float, help="of one slice of load (default 4; quick: 1)")
    parser.add_argument("--rounds", type=int, help="of which the median is shown (default 3; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="see that everything works; the figures mean nothing")
    parser.add_argument("--strict", action="store_true", help="fail also when a goal is missed")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmark.md and docs/images/benchmark.svg")
    return parser
