"""The examples of ``docs/client.md`` as they stand, the JavaScript in a real browser, against the demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page

from ops.processes import PROJECT_ROOT
from tests.client_page import examples
from tests.e2e.whole_stack import Shop


def test_the_javascript_of_the_page_runs_as_it_stands(console: Page, shop: Shop) -> None:
    said: list[str] = []
    console.on("console", lambda message: said.append(message.text))
    console.evaluate(f"async () => {{ {examples('javascript', shop.driver.port)} }}")
    sequence = shop.scalar("SELECT sequence FROM user_coupons WHERE coupon_id = 1 AND user_id = 9")
    assert said == [f"place {sequence}"]


def test_it_takes_a_no_for_a_no_and_comes_again_when_it_is_told_to(console: Page, shop: Shop) -> None:
    """The shop's answers are changed on their way to the page: busy twice, then its own."""
    keys: list[str | None] = []

    def busy_at_first(route: object) -> None:
        keys.append(route.request.headers.get("idempotency-key"))  # type: ignore[attr-defined]
        if len(keys) > 2:
            route.continue_()  # type: ignore[attr-defined]
            return
        route.fulfill(status=503, headers={"Retry-After": "1"}, body="{}")  # type: ignore[attr-defined]

    console.route("**/issue", busy_at_first)
    coupon = shop.add_coupon(quantity=1)
    address = f"http://127.0.0.1:{shop.driver.port}"
    code = examples("javascript", shop.driver.port).partition("const won =")[0]
    ask = f"async (user) => {{ {code} return await issueCoupon('{address}', {coupon}, user); }}"
    assert console.evaluate(ask, 1)["sequence"] == 1
    assert len(keys) == 3
    assert len(set(keys)) == 1
    refused = ask.replace("return await", "return").replace(
        f"{coupon}, user)", f"{coupon}, user).then(() => null, (no) => [no.code, no.details.reason])"
    )
    assert console.evaluate(refused, 2) == ["COUPON_CLOSED", "SOLD_OUT"]
    assert len(set(keys)) == 2


def test_the_python_of_the_page_runs_as_it_stands(shop: Shop) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", examples("python", shop.driver.port)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    first, second, third = ended.stdout.splitlines()
    sequence = shop.scalar("SELECT sequence FROM user_coupons WHERE coupon_id = 1 AND user_id = 7")
    paid = shop.scalar("SELECT paid_amount FROM orders WHERE user_id = 7 ORDER BY id LIMIT 1")
    assert first == f"place {sequence}, paid {paid}"
    assert second.startswith("COUPON_ALREADY_ISSUED - ")
    assert second.isascii()
    assert third == "True COMPLETED"
    assert shop.scalar("SELECT count(*) FROM orders WHERE user_id = 7") == 2


def test_the_curl_of_the_page_runs_as_it_stands(shop: Shop, tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + examples("bash", shop.driver.port)
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    state = json.loads(ended.stdout)
    assert (state["status"], state["result"]["userId"]) == ("COMPLETED", 8)
    assert shop.scalar("SELECT count(*) FROM user_coupons WHERE coupon_id = 1 AND user_id = 8") == 1
