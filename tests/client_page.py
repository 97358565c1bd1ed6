"""The examples of ``docs/client.md``, as they stand there, for whoever runs them."""

from __future__ import annotations

import re

from ops.processes import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "client.md"
ADDRESS = "http://localhost:8000"


def examples(language: str, port: int) -> str:
    """All of one language, in their order, with the address of a shop that runs here."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks, f"there is no example in {language}"
    code = "\n".join(blocks)
    assert ADDRESS in code
    return code.replace(ADDRESS, f"http://127.0.0.1:{port}")
