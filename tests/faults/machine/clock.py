"""A clock for Redis that can be set while it runs. Needs a C compiler; without one there is none, and that is said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("clock_shim.c")
OFFSET_BYTES = 8


class SettableClock:
    """The file that tells a server started under :attr:`environ` how many seconds its clock is ahead."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "clock"
        self._library = library
        self.set(0)

    @property
    def environ(self) -> Mapping[str, str]:
        """What a server has to find in its environment."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIM_FILE": str(self._file)}

    def set(self, ahead_seconds: int) -> None:
        """From now on the clock is that much ahead; negative: behind."""
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(ahead_seconds.to_bytes(OFFSET_BYTES, "little", signed=True))


def settable_clock(folder: Path) -> SettableClock | None:
    """A clock that is right so far; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = folder / "clock_shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    compiled = subprocess.run(command, capture_output=True, text=True)
    return SettableClock(folder, library) if compiled.returncode == 0 else None
