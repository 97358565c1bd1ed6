"""The charts, as SVG without scripts. Colours are CSS variables: whoever shows a chart says what they are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median
from typing import Any
from xml.etree.ElementTree import Element

from pygal import PluginImportFixer
from pygal.graph.horizontalbar import HorizontalBar
from pygal.graph.horizontalstackedbar import HorizontalStackedBar
from pygal.style import Style

from loadtests.benchmark import wording
from loadtests.benchmark.results import Arrivals, Figure, Results, Row

# pygal looks for plugins in every import from then on, by a protocol that Python has given up: each one that fails
# would warn of it. We use none.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, PluginImportFixer)]

WIDTH = 880
ROW_HEIGHT = 34
FRAME_HEIGHT = 60
MOST_REACHED = 2.0
"""Past this a bar only says "far more than enough"."""

PALETTE = """
  --ink: #1c2128; --faint: #667085; --line: #dfe3e8; --paper: #ffffff; --ours: #0b7a75; --other: #9aa5b1;
  --met: #0b7a75; --missed: #c2410c; --late: #d9a441;
"""
DARK_PALETTE = """
  --ink: #e6e9ee; --faint: #9aa4b2; --line: #303843; --paper: #12161c; --ours: #3fb8af; --other: #5b6673;
  --met: #3fb8af; --missed: #f08a5d; --late: #e0b45c;
"""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
SCRIPTS = ("script", "{http://www.w3.org/2000/svg}script")
TEXTS = ("text", "{http://www.w3.org/2000/svg}text")
VALUE_GAP = 7
VALUE_WIDTH = 140


def routes_chart(rows: Sequence[Row]) -> str:
    """Answers per second; what ours are held against is in another colour."""
    chart = _bars(len(rows), lambda value: f"{value:,.0f} /s")
    chart.x_labels = [row.title for row in reversed(rows)]
    chart.add("answers per second", [_bar(row.median_per_second, _colour_of(row)) for row in reversed(rows)])
    return _svg(chart)


def latency_chart(rows: Sequence[Row]) -> str:
    """p99 in milliseconds. Without the lock: beside it nobody else's bar could be told from none."""
    shown = [row for row in rows if row.key != "lock"]
    chart = _bars(len(shown), lambda value: f"{wording.number(value)} ms")
    chart.x_labels = [row.title for row in reversed(shown)]
    chart.add("p99", [_bar(median(row.p99_ms), _colour_of(row)) for row in reversed(shown)])
    return _svg(chart)


def goals_chart(figures: Sequence[Figure]) -> str:
    """How much of each goal is reached; at 100 % it is met, and past 200 % bars end."""
    shown = [figure for figure in figures if figure.goal is not None]
    chart = _bars(len(shown), lambda value: f"{value:.0%}", range=(0, MOST_REACHED))
    chart.x_labels = [figure.title for figure in reversed(shown)]
    chart.y_labels = [0, 0.5, 1, 1.5, 2]
    bars = []
    for figure in reversed(shown):
        reached = figure.goal.reached_by(figure.value) if figure.goal is not None else 0.0
        bars.append(
            {
                **_bar(min(reached, MOST_REACHED), "var(--met)" if figure.met else "var(--missed)"),
                "formatter": lambda _, figure=figure: f"{wording.value_of(figure)} ({wording.verdict_of(figure)})",
            }
        )
    chart.add("share of the goal", bars)
    return _svg(chart)


def arrivals_chart(arrivals: Sequence[Arrivals]) -> str:
    """What became of those who came, by multiple of the peak."""
    colours = ("var(--ours)", "var(--late)", "var(--other)", "var(--missed)")
    chart = _bars(len(arrivals) + 2, lambda value: f"{value:,.0f} /s", kind=HorizontalStackedBar, colours=colours)
    chart.config.show_legend = True
    chart.config.legend_at_bottom = True
    chart.config.print_values = False
    chart.x_labels = [each.name for each in reversed(arrivals)]
    for name, values in (
        ("accepted in time", [each.in_time for each in arrivals]),
        ("accepted late", [each.late for each in arrivals]),
        ("503 BUSY", [each.refused for each in arrivals]),
        ("no answer", [each.unanswered for each in arrivals]),
    ):
        chart.add(name, list(reversed(values)))
    return _svg(chart)


def picture(results: Results) -> str:
    """The chart of routes as a file of its own, which knows light and dark by itself."""
    style = (
        f"<style>svg {{{PALETTE} font-family: {FONT}; background: var(--paper) !important }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{{DARK_PALETTE}}} }}</style>"
    )
    drawn = routes_chart(results.rows)
    end_of_tag = drawn.index(">") + 1
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + drawn[:end_of_tag] + style + drawn[end_of_tag:] + "\n"


def _bars(
    count: int, formatter: Any, *, kind: Any = HorizontalBar, colours: Sequence[str] = ("var(--ours)",), **more: Any
) -> Any:
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--faint)",
        foreground_strong="var(--faint)",
        foreground_subtle="var(--line)",
        guide_stroke_color="var(--line)",
        major_guide_stroke_color="var(--line)",
        guide_stroke_dasharray="0",
        major_guide_stroke_dasharray="0",
        colors=tuple(colours),
        value_colors=("var(--ink)",) * len(colours),
        font_family="inherit",
        label_font_size=13,
        major_label_font_size=13,
        value_font_size=13,
        legend_font_size=13,
        opacity="1",
        opacity_hover=".85",
        transition="0s",
    )
    return kind(
        style=style,
        js=[],
        width=WIDTH,
        height=count * ROW_HEIGHT + FRAME_HEIGHT,
        show_legend=False,
        print_values=True,
        print_values_position="top",
        value_formatter=formatter,
        disable_xml_declaration=True,
        rounded_bars=2,
        spacing=10,
        margin=8,
        margin_right=VALUE_WIDTH,
        truncate_label=-1,
        show_x_guides=False,
        show_y_guides=True,
        **more,
    )


def _bar(value: float, colour: str) -> dict[str, Any]:
    return {"value": value, "color": colour}


def _colour_of(row: Row) -> str:
    return "var(--other)" if row.key in ("empty", "lock", "plain") else "var(--ours)"


def _svg(chart: Any) -> str:
    chart.add_xml_filter(_without_scripts)
    chart.add_xml_filter(_with_values_beside_bars)
    return str(chart.render(is_unicode=True))


def _with_values_beside_bars(root: Element) -> Element:
    """pygal centres a value on its bar's end, where neither the bar's colour nor the paper's lets one read it."""
    for text in root.iter():
        if text.tag in TEXTS and text.get("class") == "value":
            text.set("style", "text-anchor: start")
            text.set("x", f"{float(text.get('x', 0)) + VALUE_GAP:.1f}")
    return root


def _without_scripts(root: Element) -> Element:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in SCRIPTS:
                parent.remove(child)
    return root
