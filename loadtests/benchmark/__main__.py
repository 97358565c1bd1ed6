"""``python -m loadtests.benchmark``."""

from __future__ import annotations

import sys

from loadtests.benchmark.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
