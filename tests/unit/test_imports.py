"""The one direction of imports: entry points import the engine, never each other; the engine imports none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ENTRY_POINTS = ("web", "workers", "scheduler", "loadtests")
METRICS_LIBRARY = "prometheus_client"
"""Every metric is made in one place, so that whoever reads its name finds its meaning."""
OTHERS_WORK = ("click", "flask", "httpcore", "httpx", "pydantic", "redis", "requests", "rich", "rq", "sqlalchemy")
"""The client needs the standard library and nothing else."""
RQ_WORKERS = ("rq.worker", "rq.worker_pool", "rq.Worker", "rq.SimpleWorker")
ROOMS = ("engine.caching", "engine.shop", "engine.flow", "engine.upkeep")
"""The rooms of the engine that know both the gate and the ledger, lowest first: each imports only from those before."""

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "engine": (
        *ENTRY_POINTS,
        "ops",
        "tests",
        "flask",
        "apiflask",
        "apscheduler",
        "locust",
        *RQ_WORKERS,
        METRICS_LIBRARY,
    ),
    "engine.telemetry": ("engine.gate", "engine.ledger", "engine.context", *ROOMS),
    "engine.gate": ("engine.ledger", *ROOMS, "sqlalchemy", "psycopg"),
    "engine.ledger": ("engine.gate", *ROOMS, "redis", "rq"),
    "engine.caching": ("engine.shop", "engine.flow", "engine.upkeep"),
    "engine.shop": ("engine.flow", "engine.upkeep"),
    "engine.flow": ("engine.upkeep",),
    "web": ("workers", "scheduler", "loadtests", "ops", "tests", "rq", "redis", "sqlalchemy", METRICS_LIBRARY),
    "workers": ("web", "scheduler", "loadtests", "ops", "tests", "flask", METRICS_LIBRARY),
    "scheduler": ("web", "workers", "loadtests", "ops", "tests", "flask", METRICS_LIBRARY),
    "loadtests": ("web", "workers", "scheduler", "tests"),
    "ops": ("web", "workers", "scheduler", "loadtests", "tests"),
    "client": ("engine", *ENTRY_POINTS, "ops", "tests", *OTHERS_WORK),
}
"""What a package, and everything below it, must not import."""

EXCEPTIONS = {
    ("loadtests.broken.main", "web.main"),
    ("engine.telemetry.metrics", METRICS_LIBRARY),
    ("engine.telemetry.exposition", METRICS_LIBRARY),
    ("engine.telemetry.tallied_histogram", METRICS_LIBRARY),
}
"""The web application with a mistake put into it on purpose, the negative control of the load test; and the one place
where metrics are made."""


def modules_of(root: Path, package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(module: str, path: Path) -> Iterator[str]:
    """Every dotted name that the module imports, wherever in it: ``from a import b`` may mean ``a`` and ``a.b``."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def wrong_arrows(root: Path) -> list[tuple[str, str]]:
    """(importing module, imported name) for every import against the direction."""
    found = set()
    for package in {package.partition(".")[0] for package in FORBIDDEN}:
        for module, path in modules_of(root, package):
            rules = [names for subject, names in FORBIDDEN.items() if is_within(module, subject)]
            for name in imports_of(module, path):
                if any(is_within(name, forbidden) for names in rules for forbidden in names):
                    found.add((module, name))
    return sorted(found)


def test_nothing_is_imported_against_the_direction() -> None:
    found = [
        (module, name)
        for module, name in wrong_arrows(ROOT)
        if not any(module == allowed and is_within(name, target) for allowed, target in EXCEPTIONS)
    ]
    assert found == []


def test_every_exception_is_still_needed() -> None:
    found = wrong_arrows(ROOT)
    for module, target in EXCEPTIONS:
        assert any(arrow[0] == module and is_within(arrow[1], target) for arrow in found)


@pytest.mark.parametrize("package", ["engine", *ENTRY_POINTS, "ops", "client"])
def test_the_walk_sees_every_package(package: str) -> None:
    seen = dict(modules_of(ROOT, package))
    assert len(seen) > 1
    imported = {name for module, path in seen.items() for name in imports_of(module, path)}
    assert any(is_within(name, package if package in ("ops", "client") else "engine") for name in imported)


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("web/app.py", "import workers.drain", "workers.drain"),
        ("web/app.py", "from scheduler import jobs", "scheduler"),
        ("web/deep/er.py", "def view():\n    from loadtests.verdict import judge", "loadtests.verdict"),
        ("workers/drain.py", "if True:\n    import web", "web"),
        ("scheduler/jobs.py", "from workers import drain as d", "workers.drain"),
        ("loadtests/rush.py", "import os, web.app", "web.app"),
        ("engine/flow/requests.py", "from flask import request", "flask"),
        ("engine/flow/bell.py", "from rq import Worker", "rq.Worker"),
        ("engine/flow/bell.py", "from rq.worker import Worker", "rq.worker"),
        ("engine/flow/holds.py", "from apscheduler.schedulers import base", "apscheduler.schedulers"),
        ("engine/flow/drain.py", "import web", "web"),
        ("client/exchange.py", "import httpx", "httpx"),
        ("client/shop.py", "from engine.outcomes import Refusal", "engine.outcomes"),
        ("engine/gate/coupons.py", "from engine.ledger import coupons", "engine.ledger.coupons"),
        ("engine/gate/coupons.py", "from ..ledger.coupons import Coupon", "engine.ledger.coupons"),
        ("engine/gate/coupons.py", "from .. import ledger", "engine.ledger"),
        ("engine/gate/__init__.py", "from ..ledger import tables", "engine.ledger.tables"),
        ("engine/ledger/coupons.py", "import engine.gate.keys", "engine.gate.keys"),
        ("engine/ledger/coupons.py", "from engine.shop import orders", "engine.shop"),
        ("engine/gate/stock.py", "from engine.flow import holds", "engine.flow"),
        ("engine/caching/single_flight.py", "from engine.shop import orders", "engine.shop"),
        ("engine/shop/orders.py", "from engine.flow.drain import drain", "engine.flow.drain"),
        ("engine/flow/drain.py", "from engine.upkeep import guard", "engine.upkeep"),
        ("engine/flow/drain.py", "from prometheus_client import Counter", "prometheus_client"),
        ("engine/telemetry/metrics.py", "from engine.context import Engine", "engine.context"),
        ("web/metrics.py", "import prometheus_client.multiprocess", "prometheus_client.multiprocess"),
    ],
)
def test_a_wrong_arrow_in_a_made_up_tree_is_noticed(tmp_path: Path, path: str, source: str, found: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source + "\n")
    assert found in [name for _, name in wrong_arrows(tmp_path)]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "web/app.py",
            "from engine.shop.issuance import issue_coupon\nfrom web.problems import p\nimport webbrowser",
        ),
        ("workers/drain.py", "from engine.flow import drain\nfrom rq import SimpleWorker"),
        ("engine/flow/bell.py", "from rq import Queue\nfrom rq.serializers import JSONSerializer"),
        ("engine/flow/drain.py", "from engine.telemetry import metrics"),
        ("engine/upkeep/rebuild.py", "from engine.gate import keys\nfrom engine.ledger import tables"),
        ("engine/gate/coupons.py", "from .keys import coupon\nfrom .. import outcomes"),
        ("engine/gate/coupons.py", '"""from engine.ledger import coupons"""'),
    ],
)
def test_right_arrows_in_a_made_up_tree_pass(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source + "\n")
    assert wrong_arrows(tmp_path) == []
