"""The JavaScript of ``docs/client.md`` in a real browser, against a real shop."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.e2e.client_page import examples
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
