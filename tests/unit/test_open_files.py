"""A web process may hold more connections than the limit it was started with says."""

from __future__ import annotations

import subprocess
import sys

from ops.processes import PROJECT_ROOT

SCRIPT = """
import resource
from web.open_files import raise_limit_on_open_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
raise_limit_on_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def test_the_limit_on_open_files_is_raised_as_far_as_it_goes() -> None:
    said = subprocess.run([sys.executable, "-c", SCRIPT], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "True"
