"""The whole stack as ``make run`` starts it, driven from a test: real processes and HTTP, stores that can be broken."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import redis
from sqlalchemy import Connection, create_engine, text

from ops.postgres import start_postgres
from ops.processes import PROJECT_ROOT, free_port
from ops.stores import RunningStore
from ops.valkey import start_valkey
from tests.stack.prepared_postgres import prepare_postgres
from tests.stack.stack_driver import StackDriver, wait_until

PROCFILE = ("--procfile", str(PROJECT_ROOT / "Procfile"))
ANSWER_SECONDS = 15.0

_names = count(1)


@dataclass
class Shop:
    """A running stack as its clients see it."""

    driver: StackDriver
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.driver.port}/api/v1", timeout=ANSWER_SECONDS)

    def add_user(self, balance: int = 0) -> int:
        """A new user with this balance; the id."""
        user_id = int(self._add("/admin/users", {})["userId"])
        if balance:
            charged = self.client.post(f"/users/{user_id}/balance/charge", json={"amount": balance})
            assert charged.status_code == 200, charged.text
        return user_id

    def add_coupon(self, quantity: int = 100, discount: int = 1000, **members: Any) -> int:
        """A new coupon; the id."""
        body = {"name": f"쿠폰 {next(_names)}", "discountAmount": discount, "totalQuantity": quantity, **members}
        return int(self._add("/admin/coupons", body)["id"])

    def add_product(self, price: int = 1000, stock: int = 100) -> int:
        """A new product; the id."""
        body = {"name": f"상품 {next(_names)}", "price": price, "stock": stock}
        return int(self._add("/admin/products", body)["id"])

    def _add(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What was added. Told to come again, we do, under the same key: on a busy machine the ledger may be slow."""
        key = {"Idempotency-Key": uuid4().hex}
        answers: list[httpx.Response] = []

        def answered() -> bool:
            answers.append(self.client.post(path, json=body, headers=key))
            return answers[-1].status_code != 503

        wait_until(answered, f"{path} is answered")
        return created(answers[-1])

    def issue(self, coupon_id: int, user_id: int, **headers: str) -> httpx.Response:
        """Ask for a coupon."""
        return self.client.post(f"/coupons/{coupon_id}/issue", json={"userId": user_id}, headers=named(headers))

    def order(
        self, user_id: int, quantities: dict[int, int], user_coupon_id: int | None = None, **headers: str
    ) -> httpx.Response:
        """Place an order."""
        lines = [{"productId": product_id, "quantity": quantity} for product_id, quantity in quantities.items()]
        body: dict[str, Any] = {"userId": user_id, "orderItems": lines}
        if user_coupon_id is not None:
            body["userCouponId"] = user_coupon_id
        return self.client.post("/orders", json=body, headers=named(headers))

    def final_state(self, request_id: str) -> dict[str, Any]:
        """The state of a request once it is final."""
        state: dict[str, Any] = {}

        def final() -> bool:
            answer = self.client.get(f"/requests/{request_id}", headers={"Prefer": "wait=5"})
            if answer.status_code != 200:
                return False
            state.update(answer.json())
            return bool(state["status"] != "PENDING")

        wait_until(final, f"request {request_id} is final")
        return state

    def redis(self) -> redis.Redis:
        """A connection to the store that decides."""
        return redis.Redis.from_url(self.driver.stack.redis_url, decode_responses=True)

    def scalar(self, statement: str, **values: object) -> Any:
        """The one value that the ledger answers."""
        with self._ledger() as connection:
            return connection.execute(text(statement), values).scalar()

    def execute(self, statement: str) -> None:
        """Do something to the ledger behind the engine's back."""
        with self._ledger() as connection:
            connection.exec_driver_sql(statement)

    @contextmanager
    def coupon_locked(self, coupon_id: int) -> Iterator[None]:
        """Nothing about this coupon can be committed; its drain waits, for seconds at most."""
        with self._ledger() as connection:
            connection.execute(text("SELECT id FROM coupons WHERE id = :id FOR UPDATE"), {"id": coupon_id})
            yield

    @contextmanager
    def _ledger(self) -> Iterator[Connection]:
        ledger = create_engine(self.driver.stack.database_url.replace("postgresql://", "postgresql+psycopg://", 1))
        try:
            with ledger.begin() as connection:
                yield connection
        finally:
            ledger.dispose()

    def close(self) -> None:
        self.client.close()
        self.driver.clean_up()


@dataclass
class BreakableShop(Shop):
    """A shop whose stores are ours to kill and to start again; its own supervisor would do that at once."""

    valkey: RunningStore
    postgres: RunningStore

    @contextmanager
    def without_postgres(self) -> Iterator[None]:
        """Postgres is killed, and is there again afterwards."""
        self.postgres.kill()
        try:
            yield
        finally:
            self.start_postgres()

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Redis is killed, and is there again afterwards, approved by the guard."""
        self.valkey.kill()
        try:
            yield
        finally:
            self.start_redis()

    def start_postgres(self) -> None:
        """The same Postgres again."""
        self.postgres = start_postgres(self.postgres.directory, self.postgres.port)
        self.await_ready()

    def start_redis(self) -> None:
        """The same Redis again, with what its append-only file holds."""
        self.valkey = start_valkey(self.valkey.directory, self.valkey.port)
        self.await_ready()

    def await_ready(self) -> None:
        """Return when readyz says so."""
        wait_until(self.is_ready, "the shop takes orders")

    def is_ready(self) -> bool:
        address = f"http://127.0.0.1:{self.driver.port}/readyz"
        try:
            return httpx.get(address, timeout=ANSWER_SECONDS).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        super().close()
        self.valkey.stop()
        self.postgres.stop()


def open_shop(**environ: str) -> Shop:
    """A stack with stores of its own."""
    driver = StackDriver(new_folder())
    driver.start_and_await_ready(*PROCFILE, DEMO_DATA="0", **environ)
    return Shop(driver)


def open_breakable_shop(stores: Path, **environ: str) -> BreakableShop:
    """A stack on stores in that folder, which stay in the hands of the test."""
    prepare_postgres(stores / "postgres")
    valkey = start_valkey(stores / "valkey", free_port())
    postgres = start_postgres(stores / "postgres", free_port())
    driver = StackDriver(new_folder())
    driver.start_and_await_ready(*PROCFILE, DEMO_DATA="0", REDIS_URL=valkey.url, DATABASE_URL=postgres.url, **environ)
    return BreakableShop(driver, valkey, postgres)


def new_folder() -> Path:
    """A folder that Postgres' own user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="seonchak-shop-"))
    folder.chmod(0o711)
    return folder


def created(answer: httpx.Response) -> dict[str, Any]:
    """The body of a 201."""
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def assert_problem(answer: httpx.Response, status: int, code: str, message: str) -> dict[str, Any]:
    """That the answer is this problem document, to the letter."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"], body["message"]) == (status, status, code, message)
    assert {"type", "title"} <= body.keys()
    if status == 503:
        assert int(answer.headers["Retry-After"]) >= 1
    return body


def named(headers: dict[str, str]) -> dict[str, str]:
    """``idempotency_key=…`` as a header."""
    return {name.replace("_", "-"): value for name, value in headers.items()}
