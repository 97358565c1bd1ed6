"""Asking through a client of the gate while its servers come and go."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from engine.errors import GateUnavailable
from engine.gate.clients import RedisClient, connect
from engine.gate.gate import unavailability_translated
from tests.cluster.members import Member, paused

TIME_OUT_SECONDS = 0.5
"""What the web gives one decision."""

BUSY_WITHIN_SECONDS = 1.5
"""A second, and half a one for a machine that is busy with other tests."""

RECOVERED_WITHIN_SECONDS = 20.0
ASKING_THREADS = 4
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Asked:
    """``answer`` is None when there was none."""

    at: float
    seconds: float
    answer: Any


def hasty_client(url: str) -> Any:
    """A client as the web has it."""
    client: RedisClient = connect(url, timeout_seconds=TIME_OUT_SECONDS)
    return client


def ask(client: Any, *command: str | int) -> Asked:
    """One command. Whatever goes wrong is the gate being unavailable: any other exception fails the test."""
    started = time.monotonic()
    answer = None
    try:
        with unavailability_translated():
            answer = client.execute_command(*command)
    except GateUnavailable:
        pass
    ended = time.monotonic()
    return Asked(ended, ended - started, answer)


def ask_while_it_hangs(client: Any, server: Member, *command: str | int) -> Asked:
    """One command to a server that hangs until the time is up, and a little longer: a client that tries again is still
    at it when the server wakes up and finds both questions."""
    with ThreadPoolExecutor(1) as pool:
        with paused(server):
            asked = pool.submit(ask, client, *command)
            wait([asked], TIME_OUT_SECONDS * 1.2)
        return asked.result()


def ask_until(client: Any, enough: Callable[[], bool], *command: str | int) -> list[Asked]:
    """Ask from several threads, again and again, until ``enough()``; all asks in order."""
    deadline = time.monotonic() + RECOVERED_WITHIN_SECONDS

    def go_on(_: int) -> list[Asked]:
        asked = []
        while not enough() and time.monotonic() < deadline:
            asked.append(ask(client, *command))
            time.sleep(PAUSE_SECONDS)
        return asked

    with ThreadPoolExecutor(ASKING_THREADS) as pool:
        found = [each for some in pool.map(go_on, range(ASKING_THREADS)) for each in some]
    return sorted(found, key=lambda each: each.at)


def ask_until_answered(client: Any, *command: str | int) -> list[Asked]:
    """Ask from several threads until each of a few asks in a row, whoever made it, is answered."""
    streak = 0

    def enough() -> bool:
        nonlocal streak
        streak = streak + 1 if ask(client, *command).answer is not None else 0
        return streak > ASKING_THREADS

    return ask_until(client, enough, *command)


def longest(asked: list[Asked]) -> float:
    """The seconds that the slowest one took."""
    return max((each.seconds for each in asked), default=0.0)
