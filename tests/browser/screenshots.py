"""Pictures of the console before, during and after a rush: ``python -m tests.browser.screenshots``.

They are taken of a real rush, so every figure in them was measured by whoever made them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from ops.processes import PROJECT_ROOT
from tests.browser.demo_shop import PATIENCE_MS, chromium, console_of, open_demo_shop
from tests.e2e.whole_stack import Shop

FOLDER = PROJECT_ROOT / "docs" / "images"
RANKING_MS = 90_000
"""The ranking is rebuilt once a minute."""
WIDE = {"width": 1280, "height": 1180}
NARROW = {"width": 380, "height": 1640}


def main() -> int:
    """Write docs/images/console-*.png; the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    shop = open_demo_shop()
    try:
        with chromium() as browser:
            _order_something(shop)
            _take_all(shop, browser, FOLDER)
    finally:
        shop.close()
    return 0


def _order_something(shop: Shop) -> None:
    """So that there is something popular, and somebody who came too late."""
    for user_id, product_id, quantity in ((1, 4, 6), (2, 1, 5), (3, 8, 3), (4, 3, 2), (5, 2, 1), (6, 10, 12)):
        shop.order(user_id, {product_id: quantity}, prefer="wait=5")


def _take_all(shop: Shop, browser: Browser, folder: Path) -> None:
    english = browser.new_context(locale="en-GB", viewport=WIDE, color_scheme="light", device_scale_factor=1.5)
    page = console_of(shop, english)
    page.locator("section", has_text="Popular").get_by_text("sold").first.wait_for(timeout=RANKING_MS)
    _shoot(page, folder, "before")
    page.get_by_role("spinbutton", name="Users").fill("8000")
    page.get_by_role("spinbutton", name="Requests").fill("16000")
    page.get_by_role("spinbutton", name="Coupons").fill("1000")
    page.get_by_role("button", name="Start the rush").click()
    expect(page.locator(".verdict")).to_contain_text("The crowd is asking", timeout=PATIENCE_MS)
    page.wait_for_timeout(2_500)
    _shoot(page, folder, "during")
    expect(page.locator(".verdict")).to_contain_text("Exactly", timeout=PATIENCE_MS * 2)
    page.wait_for_timeout(1_500)
    _shoot(page, folder, "after")
    for name, language, scheme, viewport in (
        ("dark", "en-GB", "dark", WIDE),
        ("korean", "ko-KR", "light", WIDE),
        ("narrow", "ko-KR", "dark", NARROW),
    ):
        context = browser.new_context(
            locale=language, viewport=viewport, color_scheme=scheme, device_scale_factor=1.5  # type: ignore[arg-type]
        )  # fmt: skip
        other = console_of(shop, context)
        other.wait_for_timeout(2_500)
        _shoot(other, folder, name)


def _shoot(page: Page, folder: Path, name: str) -> None:
    page.screenshot(path=folder / f"console-{name}.png", full_page=False)
    print(folder / f"console-{name}.png")


if __name__ == "__main__":
    sys.exit(main())
