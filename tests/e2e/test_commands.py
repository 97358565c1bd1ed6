"""Commands as a person types them: they find the stack that runs, or start the stores of one that does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ops.processes import PROJECT_ROOT
from tests.e2e.whole_stack import PROCFILE, Shop, open_shop

NAMED = ("REDIS_URL", "QUEUE_REDIS_URL", "DATABASE_URL", "LANES")


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """A stack of its own: nobody changes its ledger by hand, it is stopped and given other lanes."""
    shop = open_shop()
    yield shop
    shop.close()


def ops(shop: Shop, *words: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in NAMED}
    return subprocess.run(
        [sys.executable, "-m", "ops", *words],
        cwd=PROJECT_ROOT,
        env={**inherited, "DATA_DIR": str(shop.driver.data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def done(ended: subprocess.CompletedProcess[str]) -> str:
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    return ended.stdout


def test_a_command_works_on_the_stack_that_runs_on_the_data_folder(shop: Shop) -> None:
    coupon, user = shop.add_coupon(quantity=1), shop.add_user()
    assert "INACTIVE" in done(ops(shop, "coupon", "pause", str(coupon)))
    assert shop.issue(coupon, user).json()["reason"] == "INACTIVE"
    done(ops(shop, "coupon", "open", str(coupon)))
    assert shop.issue(coupon, user).status_code == 202
    assert json.loads(done(ops(shop, "migrate", "--json")))["lanes"] == 1
    assert done(ops(shop, "audit")).splitlines()[-1].startswith("OK: all ")


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


def test_the_stores_of_a_stopped_stack_are_started_to_change_its_lanes(shop: Shop) -> None:
    coupon, user, late = shop.add_coupon(quantity=2), shop.add_user(), shop.add_user()
    request_id = shop.issue(coupon, user).json()["requestId"]
    running = ops(shop, "relane", "3")
    assert running.returncode == 2
    assert "is in use by another stack" in running.stderr
    assert shop.driver.stop() == 0

    ended = ops(shop, "relane", "3")
    assert (ended.returncode, ended.stdout) == (0, "1 lanes became 3. Start everything with LANES=3\n"), ended.stderr
    shop.driver.refused(*PROCFILE, DEMO_DATA="0")
    assert "the data was built with LANES=3" in shop.driver.output
    shop.driver.start_and_await_ready(*PROCFILE, DEMO_DATA="0", LANES="3")
    assert shop.final_state(request_id)["status"] == "COMPLETED"
    assert shop.issue(coupon, user).json()["code"] == "COUPON_ALREADY_ISSUED"
    assert shop.final_state(shop.issue(coupon, late).json()["requestId"])["result"]["sequence"] == 2
    assert done(ops(shop, "audit")).splitlines()[-1].startswith("OK: all ")


def test_a_wrong_command_is_refused(shop: Shop) -> None:
    wrong = ops(shop, "buy")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "No such command 'buy'" in wrong.stderr
