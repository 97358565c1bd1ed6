"""An outside fuzzer at the running service, as a user and as an administrator: every answer is one that the document
describes, in the form that it describes, and none is a server error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ops.processes import PROJECT_ROOT
from tests.e2e.test_authentication import bearer
from tests.e2e.whole_stack import Shop, open_shop

CONFIGURATION = Path(__file__).with_name("fuzz.toml")
SECONDS = (15, 90)
"""How long it goes on; the longer time is for a machine on which too little happens in the shorter one."""
USER = 1
SEED = os.environ.get("FUZZ_SEED", "1")
"""The same cases each time, so that a failure is somebody's change; another seed finds what this one does not."""
ENOUGH_CASES = 100
"""A run with fewer has not tested."""


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """A shop that has something of everything, with no limits in the fuzzer's way."""
    shop = open_shop(AUTH="jwt", LIMIT_PER_USER="0")
    shop.client.headers["Authorization"] = bearer(shop, USER, "--admin")
    user, coupon = shop.add_user(balance=1_000_000), shop.add_coupon(quantity=1_000_000)
    assert user == USER
    shop.issue(coupon, user)
    assert shop.order(user, {shop.add_product(stock=1_000_000): 1}, Prefer="wait=5").status_code == 201
    yield shop
    shop.close()


def fuzz(shop: Shop, folder: Path, seconds: int, *options: str) -> str:
    """What the fuzzer says when it has found nothing; fails with what it found."""
    program = Path(sys.executable).with_name("schemathesis")
    document = f"http://127.0.0.1:{shop.driver.port}/openapi.json"
    command = [str(program), "--config-file", str(CONFIGURATION), "run", document, "--checks", "all", "--no-color"]
    command += ["--max-time", str(seconds), "--request-timeout", "20", "--generation-database", "none"]
    command += ["--seed", SEED]
    finished = subprocess.run(
        [*command, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds + 100,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr + shop.driver.output[-3000:]
    return finished.stdout


@pytest.mark.parametrize("role", ["user", "administrator"])
def test_the_service_does_what_its_document_says(shop: Shop, tmp_path: Path, role: str) -> None:
    authorization = bearer(shop, USER, *(["--admin"] if role == "administrator" else []))
    for seconds in SECONDS:
        said = fuzz(shop, tmp_path, seconds, "--header", f"Authorization: {authorization}")
        generated = re.search(r"(\d+) generated", said)
        cases = int(generated[1]) if generated else 0
        if cases > ENOUGH_CASES:
            break
    assert cases > ENOUGH_CASES, said
    assert httpx.get(f"http://127.0.0.1:{shop.driver.port}/readyz", timeout=20).status_code == 200
