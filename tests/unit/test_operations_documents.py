"""What is written for those who watch, against what there is to be watched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from engine.telemetry import metrics

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations"
ALERTS = yaml.safe_load((OPERATIONS / "alerts.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((OPERATIONS / "grafana-dashboard.json").read_text(encoding="utf-8"))
RUNBOOK = (OPERATIONS / "runbook.md").read_text(encoding="utf-8")
REFERENCE = (OPERATIONS / "metrics.md").read_text(encoding="utf-8")

PARTS = ("**Symptom.**", "**Meaning.**", "**Look at**", "**Do.**")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
GIVEN_BY_PROMETHEUS = {"le", "pid", "job", "instance"}
OTHERS = {"up"}

_SELECTOR = re.compile(r"\b((?:seonchak_|up\b)\w*)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\bby \(([^)]*)\)")


def defined() -> dict[str, MetricWrapperBase]:
    return {found._name: found for found in vars(metrics).values() if isinstance(found, MetricWrapperBase)}


def samples() -> dict[str, MetricWrapperBase]:
    """Every name that can be in an expression."""
    return {f"{name}{end}": metric for name, metric in defined().items() for end in SUFFIXES[metric._type]}


def faults_of(expression: str) -> list[str]:
    """What in an expression does not exist: metrics, labels; and parentheses that do not match."""
    faults = []
    labels: set[str] = set(GIVEN_BY_PROMETHEUS)
    for name, matchers in _SELECTOR.findall(expression):
        metric = samples().get(name)
        if metric is None and name not in OTHERS:
            faults.append(f"no metric {name}")
            continue
        known = GIVEN_BY_PROMETHEUS | set(metric._labelnames if metric else ())
        labels |= known
        faults += [f"{name} has no label {label}" for label, _ in _MATCHER.findall(matchers) if label not in known]
    for grouping in _GROUPING.findall(expression):
        faults += [f"nothing has a label {label}" for label in grouping.split(", ") if label not in labels]
    if any(expression.count(left) != expression.count(right) for left, right in ("()", "{}", "[]")):
        faults.append("parentheses do not match")
    return faults


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def dashboard_expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def runbook_entries() -> dict[str, str]:
    title, *entries = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)
    assert title.startswith("# ")
    return {entry.splitlines()[0]: entry for entry in entries}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_stands_on_metrics_that_exist_and_says_why_and_what_to_do(rule: dict[str, Any]) -> None:
    assert faults_of(rule["expr"]) == []
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len(rule["annotations"]["reason"]) > 40
    assert rule["annotations"]["runbook"] == f"docs/operations/runbook.md#{rule['alert'].lower()}"
    entry = runbook_entries()[rule["alert"]]
    assert [part for part in PARTS if part not in entry] == []


def test_every_entry_of_the_run_book_belongs_to_an_alert() -> None:
    assert sorted(runbook_entries()) == sorted(rule["alert"] for rule in rules())


def test_the_dashboard_shows_metrics_that_exist_and_every_metric_there_is() -> None:
    expressions = list(dashboard_expressions())
    assert {expression: faults_of(expression) for expression in expressions if faults_of(expression)} == {}
    shown = {samples()[name]._name for name, _ in _SELECTOR.findall(" ".join(expressions))}
    assert set(defined()) - shown == set()


def test_the_run_book_names_only_metrics_that_exist() -> None:
    named = set(re.findall(r"`(seonchak_\w+)", RUNBOOK))
    assert named
    assert named - set(samples()) - set(defined()) == set()


def test_the_reference_has_every_metric_with_its_meaning_and_no_other() -> None:
    lines = {reference_line(name, metric) for name, metric in defined().items()}
    assert {line for line in REFERENCE.splitlines() if line.startswith("| `")} == lines


def reference_line(name: str, metric: MetricWrapperBase) -> str:
    shown = f"{name}_total" if metric._type == "counter" else name
    labels = ", ".join(metric._labelnames) or "–"
    return f"| `{shown}` | {metric._type} | {labels} | {metric._documentation} |"


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(seonchak_decisions)", "no metric seonchak_decisions"),
        ("seonchak_made_up_total > 0", "no metric seonchak_made_up_total"),
        ('seonchak_decisions_total{result="issued"}', "seonchak_decisions_total has no label result"),
        ("max by (queue) (seonchak_outbox_entries)", "nothing has a label queue"),
        ("sum(rate(seonchak_decisions_total[1m])", "parentheses do not match"),
    ],
)
def test_a_wrong_expression_is_noticed(expression: str, fault: str) -> None:
    assert fault in faults_of(expression)
