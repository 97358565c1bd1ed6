"""The page itself: both languages, light and dark, wide and narrow, with a keyboard, and when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser.demo_shop import PATIENCE_MS, console_of
from tests.e2e.whole_stack import Shop

NARROW: Mapping[str, int] = {"width": 380, "height": 800}
WIDE: Mapping[str, int] = {"width": 1280, "height": 900}


def grave_faults(page: Page) -> list[str]:
    """What axe calls serious or critical, with the first place each."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in found if fault["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_no_serious_fault(browser: Browser, shop: Shop, scheme: Any, viewport: Any) -> None:
    context = browser.new_context(locale="ko-KR", color_scheme=scheme, viewport=viewport)
    page = console_of(shop, context)
    assert grave_faults(page) == []
    page.get_by_role("button", name="새 쿠폰").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert grave_faults(page) == []
    context.close()


def test_a_fault_would_be_found(console: Page) -> None:
    """The negative control."""
    console.evaluate("document.querySelector('.standing').style.color = '#eee'")
    assert {fault.split(":")[0] for fault in grave_faults(console)} == {"color-contrast"}


def test_nothing_is_wider_than_a_narrow_screen(browser: Browser, shop: Shop) -> None:
    context = browser.new_context(locale="ko-KR", viewport=NARROW)  # type: ignore[arg-type]
    page = console_of(shop, context)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    context.close()


def test_it_speaks_the_language_of_the_browser_and_the_one_that_is_chosen(browser: Browser, shop: Shop) -> None:
    context = browser.new_context(locale="ko-KR")
    page = console_of(shop, context)
    expect(page.get_by_role("heading", name="쿠폰", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "ko"
    page.get_by_role("button", name="Switch to English").click()
    expect(page.get_by_role("heading", name="Coupons")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "en"
    page.reload()
    expect(page.get_by_role("heading", name="Coupons")).to_be_visible(timeout=PATIENCE_MS)
    context.close()


def test_both_languages_have_the_same_words(console: Page) -> None:
    shapes = console.evaluate(
        """async () => {
            const shape = (value) => typeof value === "object"
                ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, shape(value[key])])) : typeof value;
            const {ko} = await import("/static/console/words.ko.js");
            const {en} = await import("/static/console/words.en.js");
            return [shape(ko), shape(en)];
        }"""
    )
    assert shapes[0] == shapes[1]


def test_an_operator_pauses_opens_and_adds_with_the_keyboard_alone(console: Page, shop: Shop) -> None:
    coupon_id = shop.add_coupon(quantity=50)
    coupon = console.get_by_role("listitem").filter(has_text=f"#{coupon_id}")
    coupon.get_by_role("button", name="Pause").focus()
    console.keyboard.press("Enter")
    expect(coupon).to_contain_text("Paused", timeout=PATIENCE_MS)
    assert shop.issue(coupon_id, 1).json()["reason"] == "INACTIVE"
    coupon.get_by_role("button", name="Open again").focus()
    console.keyboard.press("Enter")
    expect(coupon.get_by_role("button", name="Pause")).to_be_visible(timeout=PATIENCE_MS)
    coupon.get_by_role("button", name="Add").focus()
    console.keyboard.press("Enter")
    expect(console.get_by_role("dialog")).to_be_visible()
    console.keyboard.press("Escape")
    expect(console.get_by_role("dialog")).to_have_count(0)
    expect(coupon.get_by_role("button", name="Add")).to_be_focused()
    console.keyboard.press("Enter")
    field = console.get_by_role("spinbutton", name="How many more")
    field.fill("25")
    field.press("Enter")
    expect(coupon).to_contain_text("0 / 75", timeout=PATIENCE_MS)


def test_what_is_typed_stays_while_new_figures_come(console: Page) -> None:
    field = console.get_by_role("spinbutton", name="Users")
    field.fill("77")
    for _ in range(2):
        with console.expect_response("**/api/v1/admin/console"):
            pass
    expect(field).to_have_value("77")


def test_products_and_balances_are_changed_from_the_page(console: Page, shop: Shop) -> None:
    product_id = shop.add_product(price=1_000, stock=5)
    row = console.get_by_role("row").filter(has=console.get_by_role("rowheader", name="상품")).last
    row.get_by_role("button").click()
    console.get_by_role("spinbutton", name="Price").fill("2500")
    console.get_by_role("spinbutton", name="Add to stock").fill("7")
    console.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("2,500", timeout=PATIENCE_MS)
    expect(row).to_contain_text("12")
    assert shop.scalar(f"SELECT price FROM products WHERE id = {product_id}") == 2_500
    user_id = shop.add_user()
    console.get_by_role("button", name="Charge a user").click()
    dialog = console.get_by_role("dialog")
    dialog.get_by_role("spinbutton", name="User id").fill(str(user_id))
    dialog.get_by_role("spinbutton", name="Amount").fill("3000")
    dialog.get_by_role("button", name="Charge").click()
    expect(console.get_by_text("Charged")).to_be_visible(timeout=PATIENCE_MS)
    assert shop.client.get(f"/users/{user_id}/balance").json()["balance"] == 3_000
    console.get_by_role("button", name="Charge a user").click()
    dialog.get_by_role("spinbutton", name="User id").fill("999999999")
    dialog.get_by_role("button", name="Charge").click()
    expect(console.locator(".toast.bad")).to_be_visible(timeout=PATIENCE_MS)


def test_parked_deliveries_are_shown_and_tried_again(console: Page, shop: Shop) -> None:
    user_id, product_id = shop.add_user(10_000), shop.add_product(price=100)
    order = shop.order(user_id, {product_id: 1}, prefer="wait=10")
    order_id = order.json()["orderId"]
    shop.execute(
        f"UPDATE order_followups SET status = 'PARKED', last_error = 'made up' "
        f"WHERE order_id = {order_id} AND kind = 'HISTORY'"
    )
    system = console.get_by_role("region", name="System")
    expect(system).to_contain_text("made up", timeout=PATIENCE_MS)
    system.get_by_role("button", name="Try again").click()
    expect(system.get_by_role("button", name="Try again")).to_have_count(0, timeout=PATIENCE_MS)
    assert shop.scalar(f"SELECT count(*) FROM order_followups WHERE order_id = {order_id} AND status = 'PARKED'") == 0


def test_a_server_that_is_away_is_said_so_and_the_last_figures_stay(console: Page) -> None:
    console.route("**/api/**", lambda route: route.abort())
    standing = console.locator(".standing")
    expect(standing).to_contain_text("The server does not answer", timeout=PATIENCE_MS)
    expect(console.get_by_role("region", name="Coupons")).to_be_visible()
    console.unroute("**/api/**")
    expect(standing).to_contain_text("Taking requests", timeout=PATIENCE_MS)


def test_a_closed_gate_and_a_ledger_that_is_away_are_said_so(console: Page) -> None:
    """As the endpoint tells them; that it tells them is proved where stores can be taken away."""
    changes: dict[str, Any] = {"ready": False}

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=json.dumps({**response.json(), **changes}))

    console.route("**/api/v1/admin/console", answer)
    standing = console.locator(".standing")
    expect(standing).to_contain_text("Gate closed", timeout=PATIENCE_MS)
    changes = {"gateAnswers": False, "ready": False, "lanes": [], "decided": None, "processes": []}
    expect(standing).to_contain_text("Redis does not answer", timeout=PATIENCE_MS)
    changes = {"ledgerAnswers": False, "recorded": None, "quarantined": None, "coupons": [], "products": []}
    expect(standing).to_contain_text("Postgres does not answer", timeout=PATIENCE_MS)


def test_who_is_not_known_is_asked_for_a_token_that_lives_in_this_tab_only(shop: Shop, english: BrowserContext) -> None:
    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer good":
            route.continue_()
        else:
            route.fulfill(status=401, json={"code": "UNAUTHENTICATED", "message": "인증이 필요합니다"})

    english.route("**/api/**", guarded)
    page = english.new_page()
    page.goto(f"http://127.0.0.1:{shop.driver.port}/")
    page.get_by_label("Token", exact=True).fill("good")
    page.get_by_role("button", name="Enter").click()
    expect(page.get_by_role("region", name="Coupons")).to_be_visible(timeout=PATIENCE_MS)
    assert page.evaluate("[sessionStorage.getItem('token'), localStorage.getItem('token')]") == ["good", None]
    page.get_by_role("button", name="Forget token").click()
    expect(page.get_by_label("Token", exact=True)).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('token')") is None


def test_nothing_inline_is_run_and_nothing_is_fetched_from_elsewhere(shop: Shop, english: BrowserContext) -> None:
    fetched: list[str] = []
    english.on("request", lambda request: fetched.append(request.url))
    page = console_of(shop, english)
    assert all(url.startswith(f"http://127.0.0.1:{shop.driver.port}/") for url in fetched)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
        }"""
    )
    assert page.evaluate("window.ran") is None
