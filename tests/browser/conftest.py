"""One demo and one browser for all tests of this folder; each test has a page, and a profile, of its own.

The browser ends with the folder, not with the run: while Playwright is at work its thread counts as one with a running
event loop, in which no later test could start one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.demo_shop import PATIENCE_MS, chromium, console_of, open_demo_shop
from tests.e2e.whole_stack import Shop


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; the stack is not started for nothing when it is missing."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def shop(browser: Browser) -> Iterator[Shop]:
    """The demo."""
    shop = open_demo_shop()
    yield shop
    shop.close()


@pytest.fixture
def english(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of somebody who reads English."""
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def console(shop: Shop, english: BrowserContext) -> Iterator[Page]:
    """The console, in English; whatever its scripts complain about fails the test."""
    complaints: list[str] = []
    english.on("weberror", lambda error: complaints.append(str(error.error)))
    page = console_of(shop, english)
    yield page
    assert complaints == []
