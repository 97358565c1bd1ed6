"""The benchmark's reports: what was found is in all of them, what failed can not be overlooked, nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtests.benchmark import charts
from loadtests.benchmark.command import publish, write_reports
from loadtests.benchmark.markdown import render_markdown
from loadtests.benchmark.options import TOPICS, WrongOptions, read_options, topics_named
from loadtests.benchmark.page import render_page
from loadtests.benchmark.results import Arrivals, Figure, Results, Row, at_least, at_most
from loadtests.benchmark.stage import procfile_with
from loadtests.verdict import Check
from ops.processes import PROJECT_ROOT
from ops.procfile import parse_procfile


def results(*, quick: bool = False, ok: bool = True) -> Results:
    found = Results(facts={"date": "today", "commit": "abc", "cores": "2 <of> 2 & more"})
    found.settings = {"command": "make benchmark", "quick": quick}
    found.rows = [
        Row("empty", "empty Flask route", (7000.0, 7100.0, 6900.0), (9.0, 9.1, 9.2), (20.0, 21.0, 22.0), 0.2),
        Row("issue", "issue, accepted", (8400.0, 8500.0, 8300.0), (8.0, 8.1, 8.2), (19.0, 19.5, 18.0), 0.2),
        Row("lock", "issue by a lock", (150.0, 151.0, 149.0), (400.0, 401.0, 402.0), (900.0, 901.0, 902.0), 0.01),
    ]
    found.figures = [
        Figure("issue/empty", "Over HTTP", "issue ÷ empty", (1.2, 1.19, 1.21), "×", at_least(1.0), "8,400/s, 7,000/s"),
        Figure("decision-32", "The gate", "server time", (61.0,), "µs", at_most(12.0)),
        Figure("goodput-2x", "Overload", "goodput at 2× the peak ÷ peak", (0.95,), "×", at_least(0.9)),
    ]
    found.arrivals = [Arrivals("2×", 900.0, 5.0, 800.0, 0.0)]
    found.checks = [Check("issue: nobody has it twice", ok, "102 | users")]
    found.warnings = ["others were at work"]
    return found


def test_markdown_tells_rows_figures_goals_and_facts() -> None:
    text = render_markdown(results())
    assert "| issue, accepted | 8,400 | 8,300 – 8,500 | 8.1 | 19.0 | 20% |" in text
    assert "| issue ÷ empty | 1.20× | ≥ 1.0× | met | 1.19 – 1.21 | 8,400/s, 7,000/s |" in text
    assert "| server time | 61.0 µs | ≤ 12 µs | missed |  |  |" in text
    assert "1 of 1 correctness checks hold; 2 of 3 goals met." in text
    assert "- others were at work" in text
    assert "FAILED" not in text
    assert "quick run" not in text


def test_markdown_shows_a_failed_check_and_a_quick_run() -> None:
    text = render_markdown(results(quick=True, ok=False))
    assert "**FAILED** issue: nobody has it twice" in text
    assert "0 of 1 correctness checks hold" in text
    assert "its figures mean nothing" in text


def test_every_table_of_the_markdown_has_as_many_cells_in_each_line() -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", render_markdown(results()), re.MULTILINE)
    assert len(tables) >= 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_the_page_needs_nothing_but_itself() -> None:
    page = render_page(results())
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)\s*=|@import|url\(""", page)
    assert page.count("<svg") == 4
    assert "prefers-color-scheme: dark" in page


def test_the_page_escapes_what_it_is_told() -> None:
    assert "2 &lt;of&gt; 2 &amp; more" in render_page(results())


def test_the_page_shows_what_is_wrong_before_anything_else() -> None:
    page = render_page(results(ok=False))
    assert page.index("What is wrong") < page.index("<svg")
    assert "What is wrong" not in render_page(results())
    assert "means nothing" not in render_page(results())
    assert "its figures mean nothing" in render_page(results(quick=True))


def test_the_page_of_a_part_has_only_its_charts() -> None:
    part = results()
    part.rows, part.arrivals = [], []
    assert render_page(part).count("<svg") == 1


def test_the_goal_chart_says_in_words_what_colours_say() -> None:
    chart = charts.goals_chart(results().figures)
    assert "1.20× (met)" in chart
    assert "61.0 µs (missed)" in chart
    assert chart.count("fill: var(--missed)") == 1


def test_the_picture_is_whole_svg_with_both_schemes_and_no_script() -> None:
    picture = charts.picture(results())
    root = ElementTree.fromstring(picture.encode())  # noqa: S314 - our own
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in picture
    assert "script" not in picture
    for variable in set(re.findall(r"var\((--[a-z]+)\)", picture)):
        assert f"{variable}:" in charts.PALETTE
        assert f"{variable}:" in charts.DARK_PALETTE


def test_reports_and_publication_are_files(tmp_path: Path) -> None:
    write_reports(results(), tmp_path / "reports")
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        "benchmark.html",
        "benchmark.json",
        "benchmark.md",
    ]
    page, picture = tmp_path / "docs" / "benchmark.md", tmp_path / "docs" / "images" / "benchmark.svg"
    publish(results(), page, picture)
    assert "](images/benchmark.svg)" in page.read_text()
    assert picture.read_text().startswith("<?xml")


def test_names_and_groups_choose_topics_and_what_they_need() -> None:
    assert topics_named("") == TOPICS
    assert topics_named("poll") == ("poll-pending", "poll-completed")
    assert topics_named("lock") == ("issue", "lock")
    assert topics_named(" drain, healthz ,") == ("healthz", "drain")


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(WrongOptions, match="nothing is called isue, speed: there are http, poll"):
        topics_named("isue,issue,speed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--publish", "--quick"],
        ["--publish", "--only", "issue"],
        ["--publish", "--rounds", "2"],
        ["--seconds", "0"],
        ["--rounds", "0"],
    ],
)
def test_what_would_mislead_is_refused(arguments: list[str]) -> None:
    with pytest.raises(WrongOptions):
        read_options(arguments)


def test_a_usual_run_takes_medians_of_at_least_three() -> None:
    assert read_options([]).rounds >= 3
    assert read_options(["--publish"]).publish
    quick = read_options(["--quick", "--rounds", "2"])
    assert (quick.rounds, quick.seconds, quick.command) == (2, 1.0, 'make benchmark ARGS="--quick --rounds 2"')


def test_the_stage_runs_the_procfile_as_it_is_and_servers_beside_it() -> None:
    ours = (PROJECT_ROOT / "Procfile").read_text()
    commands = parse_procfile(procfile_with(ours, {"empty": 1001, "plain": 1002, "lock": 1003}))
    assert parse_procfile(ours).items() <= commands.items()
    for name in ("empty", "plain", "lock"):
        assert "--interface wsgi --workers 2 --blocking-threads 16" in commands[name]
    assert "--port 1001 loadtests.benchmark.servers.empty:app" in commands["empty"]
