"""The audit over HTTP."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from engine.errors import GateUnavailable, LedgerUnavailable
from engine.upkeep import audit
from engine.upkeep.audit import Report
from engine.upkeep.auditing.findings import Check
from web.admin_audit import ASKING_PLACES
from web.app import create_app

AUDIT = "/api/v1/admin/audit"
REPORT = Report(
    checked_at=datetime(2030, 1, 1, tzinfo=UTC),
    checks=(Check("stock", False, "product 7: …"), Check("books", True, "3 orders looked at")),
    complete=True,
    seconds=0.1,
)


@pytest.fixture
def client() -> FlaskClient:
    engine: Any = SimpleNamespace()
    return create_app(engine).test_client()


def test_the_result_is_shown_as_the_contract_says(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "audit", lambda _engine: REPORT)
    response = client.get(AUDIT)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json == {
        "ok": False,
        "checkedAt": "2030-01-01T00:00:00Z",
        "checks": [
            {"name": "stock", "ok": False, "detail": "product 7: …"},
            {"name": "books", "ok": True, "detail": "3 orders looked at"},
        ],
    }


@pytest.mark.parametrize(
    ("error", "code"), [(GateUnavailable("away"), "BUSY"), (LedgerUnavailable("away"), "TEMPORARY_ERROR")]
)
def test_without_a_store_it_is_a_temporary_failure(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def away(_engine: Any) -> Report:
        raise error

    monkeypatch.setattr(audit, "audit", away)
    response = client.get(AUDIT)
    assert response.status_code == 503
    assert json.loads(response.text)["code"] == code
    assert response.headers["Retry-After"] == "1"


def test_many_who_ask_share_one_audit_and_do_not_take_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = SimpleNamespace()
    app = create_app(engine)
    looking, let_go = threading.Event(), threading.Event()
    audits = []

    def slow(_engine: Any) -> Report:
        audits.append(1)
        looking.set()
        assert let_go.wait(30)
        return REPORT

    monkeypatch.setattr(audit, "audit", slow)
    with ThreadPoolExecutor(ASKING_PLACES + 1) as pool:
        asked = [pool.submit(lambda: app.test_client().get(AUDIT).status_code) for _ in range(ASKING_PLACES + 1)]
        assert looking.wait(30)
        # One of them is turned away at once; the others wait for the same audit.
        assert next(as_completed(asked, timeout=30)).result() == 503
        let_go.set()
        assert sorted(each.result() for each in asked) == [200] * ASKING_PLACES + [503]
    assert len(audits) <= 2
