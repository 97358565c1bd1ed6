"""The demo as ``make run`` starts it, and a real Chromium to look at its console with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from ops.stack import read_stack
from tests.e2e.whole_stack import PROCFILE, Shop, new_folder
from tests.stack.stack_driver import StackDriver, wait_until

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000
START_SECONDS = 90.0


def open_demo_shop() -> Shop:
    """The whole stack on stores of its own, with the small shop in it and everybody allowed everything."""
    driver = StackDriver(new_folder())
    driver.start(*PROCFILE, DEMO_DATA="1")
    try:
        # A browser and a whole stack may start on the same two cores.
        wait_until(lambda: _is_ready(driver), "the demo is ready", START_SECONDS)
    except AssertionError:
        print(driver.output + driver.complaint)
        driver.clean_up()
        raise
    return Shop(driver)


def _is_ready(driver: StackDriver) -> bool:
    assert driver.supervisor.poll() is None, driver.output + driver.complaint
    stack = read_stack(driver.data_dir)
    return stack is not None and stack.ready


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium: Playwright's package brings the driver, not the browser."""
    program = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail("Chromium is not installed, and the console is tested in nothing less: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


def console_of(shop: Shop, context: BrowserContext) -> Page:
    """The console, once it shows figures."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"http://127.0.0.1:{shop.driver.port}/")
    page.locator(".pulse").wait_for()
    return page
