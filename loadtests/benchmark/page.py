"""The results as one HTML page that needs nothing but itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from jinja2 import Environment, StrictUndefined

from loadtests.benchmark import charts, overload, wording
from loadtests.benchmark.results import Figure, Results

TEMPLATE = Path(__file__).with_name("page.html.j2")
TILES = ("issue/empty", "issue/lock", "lag-p99")
"""The figures that say most in least words."""


def render_page(results: Results) -> str:
    """The page, with charts of what was measured."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    with_goals = [figure for figure in results.figures if figure.goal is not None]
    return template.render(
        results=results,
        wording=wording,
        median=median,
        goals=wording.summary(results.figures).removesuffix(" goals met"),
        tiles=_tiles(results),
        charts={
            "goals": charts.goals_chart(with_goals) if with_goals else "",
            "routes": charts.routes_chart(results.rows) if results.rows else "",
            "latency": charts.latency_chart(results.rows) if results.rows else "",
            "arrivals": charts.arrivals_chart(results.arrivals) if results.arrivals else "",
        },
        overload=overload.SECTION,
        palette=charts.PALETTE,
        dark_palette=charts.DARK_PALETTE,
        font=charts.FONT,
    )


def _tiles(results: Results) -> list[Figure]:
    by_key = {figure.key: figure for figure in results.figures}
    return [by_key[key] for key in TILES if key in by_key]
