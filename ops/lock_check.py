"""``python -m ops.lock_check``: are all requirements pinned with hashes, and which pins are behind?

``docs/decisions/0018`` says what this stands in for. Exit codes: 0 when all is well, 1 when a requirement is not pinned
or has no hash, and with ``--strict`` also when a newer release is allowed; 2 when the index could not be asked.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.processes import PROJECT_ROOT

FILES = ("requirements", "requirements-dev")
RESOLVE_SECONDS = 300
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at both files; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ops.lock_check", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="a pin that is behind is a failure, too")
    parser.add_argument("--offline", action="store_true", help="look at the files only")
    options = parser.parse_args(arguments)
    texts = {name: (PROJECT_ROOT / f"{name}.txt").read_text(encoding="utf-8") for name in FILES}
    problems = [f"{name}.txt: {problem}" for name, text in texts.items() for problem in problems_in(text)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems or options.offline:
        return 1 if problems else 0
    late = False
    for name, text in texts.items():
        newest = _resolve(name)
        if newest is None:
            return 2
        for line in behind(pins_in(text), pins_in(newest)):
            late = True
            print(f"{name}.txt: {line}")
    print("pins are behind: make lock, then the tests" if late else "every pin is the newest release that is allowed")
    return 1 if late and options.strict else 0


def problems_in(text: str) -> list[str]:
    """What pip's --require-hashes would refuse, and what it would let pass without a version."""
    found = []
    for requirement in _requirements(text):
        name = requirement.split()[0]
        if _PIN.match(requirement) is None:
            found.append(f"{name} is not pinned with ==")
        elif not _HASH.search(requirement):
            found.append(f"{name} has no hash")
    return found


def pins_in(text: str) -> dict[str, str]:
    """Version by name."""
    return {match[1]: match[2] for line in _requirements(text) if (match := _PIN.match(line))}


def behind(pins: Mapping[str, str], newest: Mapping[str, str]) -> list[str]:
    """In words, whatever another version would be chosen for today."""
    return [
        f"{name} {version} could be {newest[name]}"
        for name, version in pins.items()
        if newest.get(name, version) != version
    ]


def _requirements(text: str) -> list[str]:
    """One a line, with its hashes, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def _resolve(name: str) -> str | None:
    """What ``make lock`` would write today with every pin let go; None, said on stderr, when the index is silent."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "resolved.txt")
        command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--universal", "--upgrade"]
        command += ["--no-strip-extras", "--no-header", "--python-version", "3.11", f"{name}.in", "-o", str(output)]
        finished = subprocess.run(
            command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=RESOLVE_SECONDS, check=False
        )
        if finished.returncode != 0:
            print(f"{name}.in cannot be resolved now:\n{finished.stderr}", file=sys.stderr)
            return None
        return output.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
