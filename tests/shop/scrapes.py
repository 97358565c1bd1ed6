"""Scraping ``//metrics`` as Prometheus does."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.whole_stack import Shop

ANSWER_SECONDS = 15.0


class Scrape:
    """What one scrape said."""

    def __init__(self, text: str) -> None:
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The one sample of that name with exactly these labels; 0 when there is none yet."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name that have at least these labels."""
        return sum(
            value for (found, has), value in self.samples.items() if found == name and has >= frozenset(labels.items())
        )

    def labels_of(self, name: str, label: str) -> list[str]:
        """The values of a label in all samples of that name."""
        return sorted(dict(has)[label] for found, has in self.samples if found == name)

    @property
    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Everything that must never go back."""
        ends = ("_total", "_bucket", "_count", "_sum")
        return {key: value for key, value in self.samples.items() if key[0].endswith(ends)}


def scrape(shop: Shop) -> Scrape:
    """What whichever web process answers says of all processes."""
    answer = httpx.get(f"http://127.0.0.1:{shop.driver.port}/metrics", timeout=ANSWER_SECONDS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(answer.text)
