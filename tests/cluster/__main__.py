"""``python -m tests.cluster [SCENARIO …]``: the rushes with a fault, in their full size; without a name, all of them.

Exit code 0 when every check of every scenario held, 1 otherwise, 2 for a name that is none.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.scenarios import SCENARIOS


def main(names: list[str]) -> int:
    """Run the scenarios one after the other; the exit code."""
    if unknown := sorted(set(names) - set(SCENARIOS)):
        print(f"no scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or SCENARIOS:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="seonchak-topology-") as folder:
            ended = SCENARIOS[name].run(Path(folder))
        print(f"{ended.output}({time.monotonic() - started:.0f} s)\n", flush=True)
        if ended.code != 0:
            failed.append(name)
    print(f"FAILED: {', '.join(failed)}" if failed else "PASSED: every scenario")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
