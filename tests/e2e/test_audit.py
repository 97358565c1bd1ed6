"""The audit of a whole stack, by everybody who may ask for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ops.processes import PROJECT_ROOT
from tests.e2e.whole_stack import Shop, open_shop

NAMED = ("REDIS_URL", "QUEUE_REDIS_URL", "DATABASE_URL")


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """A stack that no other test has touched: some of them change the ledger behind everybody's back."""
    shop = open_shop()
    yield shop
    shop.close()


def test_a_stack_that_has_worked_is_in_order(shop: Shop) -> None:
    user, product = shop.add_user(50_000), shop.add_product()
    coupon = shop.add_coupon()
    assert shop.issue(coupon, user).status_code == 202
    placed = [shop.order(user, {product: 2}) for _ in range(3)]
    ended = [shop.final_state(each.json()["requestId"]) for each in placed]
    cancelled = shop.client.post(f"/orders/{ended[0]['result']['orderId']}/cancel", json={})
    assert cancelled.status_code == 200
    answer = shop.client.get("/admin/audit", timeout=60)
    assert answer.status_code == 200
    body = answer.json()
    assert [check for check in body["checks"] if not check["ok"]] == []
    assert body["ok"] is True


def test_the_command_finds_the_running_stack(shop: Shop) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in NAMED}
    ended = subprocess.run(
        [sys.executable, "-m", "ops", "audit"],
        cwd=PROJECT_ROOT,
        env={**environ, "DATA_DIR": str(shop.driver.data_dir)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("OK: all ")
