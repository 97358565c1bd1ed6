"""From a history that fails to one that is as short as can be and fails alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.simulation.plan import TO_ITS_END, Instruction

Fails = Callable[[Sequence[Instruction]], bool]


def shrunk(plan: Sequence[Instruction], fails: Fails, most_tries: int = 600) -> list[Instruction]:
    """Leave instructions out, in blocks that get smaller, and simplify the rest, for as long as it still fails."""
    best = list(plan)
    tries = 0

    def still_fails(candidate: list[Instruction]) -> bool:
        nonlocal tries, best
        tries += 1
        if tries > most_tries or not fails(candidate):
            return False
        best = candidate
        return True

    size = max(1, len(best) // 2)
    while tries <= most_tries:
        before = len(best)
        place = 0
        while place < len(best):
            if not still_fails(best[:place] + best[place + size :]):
                place += size
        if size == 1 and len(best) == before:
            break
        size = max(1, size // 2)
    for simplified in (_without_retries, _without_rounds):
        for place, instruction in enumerate(best):
            for simpler in simplified(instruction):
                if still_fails([*best[:place], simpler, *best[place + 1 :]]):
                    break
    return best


def _without_retries(instruction: Instruction) -> list[Instruction]:
    simpler = []
    for name, plain in (("retries", 0), ("polls", 0), ("key", None), ("redeem", False), ("linger", 0.0)):
        if instruction.values.get(name, plain) != plain:
            simpler.append(replace(instruction, values={**instruction.values, name: plain}))
    return simpler


def _without_rounds(instruction: Instruction) -> list[Instruction]:
    rounds = instruction.values.get("rounds", 0)
    fewer = [each for each in (0, 1, 2, 3, TO_ITS_END) if each < rounds]
    return [replace(instruction, values={**instruction.values, "rounds": each}) for each in fewer]
