"""Backup and restore as docs/deploy.md says: the ledger is what is kept, the gate is built from it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.postgres import discard_postgres, start_postgres
from ops.postgres_home import find_home
from ops.processes import free_port
from ops.valkey import start_valkey
from tests.e2e.whole_stack import PROCFILE, BreakableShop, Shop, new_folder
from tests.stack.prepared_postgres import prepare_postgres
from tests.stack.stack_driver import StackDriver


@contextmanager
def shop_on(folder: Path, backup: Path | None = None) -> Iterator[Shop]:
    """A shop on an empty Redis and, if a backup is given, on a Postgres that it was restored into."""
    prepare_postgres(folder / "postgres")
    valkey = start_valkey(folder / "valkey", free_port())
    postgres = start_postgres(folder / "postgres", free_port())
    try:
        if backup is not None:
            run_client(folder, "pg_restore", "--no-owner", "--exit-on-error", "--dbname", postgres.url, str(backup))
        driver = StackDriver(new_folder())
        driver.start_and_await_ready(*PROCFILE, DEMO_DATA="0", REDIS_URL=valkey.url, DATABASE_URL=postgres.url)
        shop = BreakableShop(driver, valkey, postgres)
        try:
            yield shop
        finally:
            super(BreakableShop, shop).close()
    finally:
        valkey.stop()
        postgres.stop()
        discard_postgres(folder / "postgres")
        shutil.rmtree(folder, ignore_errors=True)


def run_client(folder: Path, program: str, *arguments: str) -> None:
    """One of the programs that came with Postgres."""
    path = find_home(folder / "postgres").programs / program
    finished = subprocess.run([str(path), *arguments], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr


def test_a_shop_goes_on_from_its_backup(tmp_path: Path) -> None:
    backup = tmp_path / "ledger.dump"
    folder = new_folder()
    with shop_on(folder) as shop:
        coupon, product = shop.add_coupon(quantity=5), shop.add_product(price=1000, stock=10)
        winners = [shop.add_user(balance=100_000) for _ in range(3)]
        for user in winners:
            asked = shop.issue(coupon, user)
            assert shop.final_state(asked.json()["requestId"])["status"] == "COMPLETED"
        ordered = shop.order(winners[0], {product: 4}, Prefer="wait=10")
        assert ordered.status_code == 201
        run_client(folder, "pg_dump", "--format=custom", "--file", str(backup), shop.driver.stack.database_url)
        late = shop.add_user()
        lost = shop.issue(coupon, late).json()["requestId"]
        assert shop.final_state(lost)["status"] == "COMPLETED"

    with shop_on(new_folder(), backup) as shop:
        live = shop.client.get(f"/admin/coupons/{coupon}").json()
        assert (live["issued"], live["remaining"]) == (3, 2)
        again = shop.issue(coupon, winners[1])
        assert again.json()["code"] == "COUPON_ALREADY_ISSUED"
        assert {each["id"]: each["stock"] for each in shop.client.get("/products").json()["products"]} == {product: 6}
        assert shop.client.get(f"/users/{winners[0]}/balance").json()["balance"] == 96_000
        assert shop.client.get(f"/orders/{ordered.json()['orderId']}").json()["paidAmount"] == 4000
        # What came after the backup is gone, and the line goes on where the backup has it.
        assert shop.final_state(lost)["status"] == "FAILED"
        next_in_line = shop.issue(coupon, shop.add_user())
        assert next_in_line.json()["sequence"] == 4
        assert shop.final_state(next_in_line.json()["requestId"])["status"] == "COMPLETED"
        audit = shop.client.get("/admin/audit", timeout=60).json()
        assert audit["ok"], audit
