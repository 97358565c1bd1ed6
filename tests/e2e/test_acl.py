"""The whole stack on a real server, each role under the Redis user that the documentation gives it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import redis
from rq import Queue
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from ops.acl import ACL_FILE, ROLES, acl_file
from ops.processes import PROJECT_ROOT, free_port
from ops.rolling_restart import rolling_restart
from ops.stores import RunningStore
from ops.valkey import start_valkey
from tests.e2e.whole_stack import Shop, new_folder
from tests.stack.stack_driver import StackDriver, wait_until

PASSWORD = "a-password-for-tests"
ROLE_OF = {"web": "web", "worker": "worker", "followups": "worker", "scheduler": "scheduler", "release": "scheduler"}
RARE = {
    ("web", "script|load"): "when the server forgot a script between two calls of one round trip",
    ("web", "hmget"): "of the audit, for a hold that changed while it looked",
    ("web", "renamenx"): "when the ranking had expired and the scheduler has not rebuilt it",
    ("worker", "script|load"): "as above",
    ("worker", "unwatch"): "when RQ is interrupted while it watches a job",
    ("scheduler", "script|load"): "as above",
    ("scheduler", "sadd"): "to ring, when a ring was lost",
    ("scheduler", "rpush"): "as above",
    ("scheduler", "hset"): "as above",
    ("scheduler", "set"): "when it makes live what a process recorded and could not publish",
    ("scheduler", "hget"): "of a hold whose order may wait in another lane",
    ("scheduler", "hmget"): "of the audit",
    ("scheduler", "exists"): "whether a drain is at work, when a bell is old",
}
"""Commands that a role may need and that nothing below brings about: each read in the code, with its occasion."""


@dataclass
class Watch:
    """What the server was asked, by role, as MONITOR tells it."""

    url: str
    _raw: list[tuple[str, str]] = field(default_factory=list)
    _users: dict[str, str] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> Watch:
        self._threads = [threading.Thread(target=run) for run in (self._listen, self._learn_users)]
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def sent(self) -> dict[str, set[str]]:
        """The commands that each role sent itself; those of scripts are in the scripts."""
        found: dict[str, set[str]] = defaultdict(set)
        for address, command in list(self._raw):
            name, *words = command.lower().split(" ")
            if name in ("client", "script"):
                name = f"{name}|{words[0]}"
            found[self._users.get(address, "unknown")].add(name)
        return found

    def _listen(self) -> None:
        client = redis.Redis.from_url(self.url, decode_responses=True, encoding_errors="replace")
        with client, client.monitor() as monitor:
            while not self._stopped.is_set():
                if monitor.connection.can_read(timeout=0.2):
                    said = monitor.next_command()
                    if said["client_type"] != "lua":
                        self._raw.append((f"{said['client_address']}:{said['client_port']}", said["command"]))

    def _learn_users(self) -> None:
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            while not self._stopped.wait(0.02):
                self._users |= {each["addr"]: each["user"] for each in client.client_list()}


@dataclass
class GuardedShop(Shop):
    """A shop whose processes are under their own Redis users; ``administrator`` is under nobody's."""

    valkey: RunningStore
    administrator: redis.Redis
    watch: Watch


def url_of(role: str, port: int) -> str:
    return f"redis://{role}:{PASSWORD}@127.0.0.1:{port}/0"


def load_users(administrator: redis.Redis) -> None:
    """The very file that operators load, a password put in."""
    for line in ACL_FILE.read_text().splitlines():
        administrator.execute_command("ACL", "SETUSER", *re.sub(r"@[A-Z]+_PASSWORD@", PASSWORD, line).split()[1:])


def leave_leftovers(client: redis.Redis) -> None:
    """What a killed worker leaves in RQ, and a job that fails: a worker has to clear it up under its own rights."""
    queue = Queue("drain", connection=client, serializer=JSONSerializer)
    failing = queue.enqueue("workers.drain.drain_lane", "no lane", result_ttl=10, failure_ttl=60, ttl=60)
    assert failing.id
    lost = queue.enqueue("workers.drain.drain_lane", 0, job_timeout=60, ttl=60)
    queue.remove(lost)
    client.zadd(StartedJobRegistry(queue=queue).key, {f"{lost.id}:gone": 1})
    client.lpush(queue.intermediate_queue_key, lost.id)


@pytest.fixture(scope="module")
def shop() -> Iterator[GuardedShop]:
    folder = new_folder()
    valkey = start_valkey(folder / "valkey", free_port())
    administrator = redis.Redis.from_url(valkey.url, decode_responses=True)
    load_users(administrator)
    with redis.Redis.from_url(valkey.url) as client:
        leave_leftovers(client)
    watch = Watch(valkey.url).start()
    driver = StackDriver(new_folder())
    lines = [*(PROJECT_ROOT / "Procfile").read_text().splitlines(), "release: python -m ops migrate"]
    with_users = []
    for line in lines:
        kind, _, command = line.partition(": ")
        url = url_of(ROLE_OF[kind], valkey.port) if kind in ROLE_OF else ""
        with_users.append(f"{kind}: REDIS_URL={url} QUEUE_REDIS_URL={url} {command}" if url else line)
    (driver.folder / "Procfile").write_text("\n".join(with_users) + "\n")
    driver.start_and_await_ready(
        *("--procfile", str(driver.folder / "Procfile")),
        DEMO_DATA="0", REDIS_URL=valkey.url, LANES="2", LIMIT_PER_ADDRESS="100000",
    )  # fmt: skip
    shop = GuardedShop(driver, valkey, administrator, watch)
    yield shop
    shop.close()
    watch.stop()
    administrator.close()
    valkey.stop()
    shutil.rmtree(folder, ignore_errors=True)


def trade(shop: Shop) -> None:
    """One of everything that users and administrators do."""
    user, products = shop.add_user(100_000), [shop.add_product(price=1000, stock=50) for _ in range(4)]
    coupon = shop.add_coupon()
    issued = shop.issue(coupon, user, Idempotency_Key=f"issue-{coupon}")
    assert issued.status_code == 202, issued.text
    assert shop.final_state(issued.json()["requestId"])["status"] == "COMPLETED"
    held = shop.client.get(f"/users/{user}/coupons").json()["userCoupons"][0]["id"]
    ordered = shop.order(
        user, dict.fromkeys(products, 2), held, Prefer="wait=10", Idempotency_Key=f"order-{coupon}"
    )  # fmt: skip
    assert ordered.status_code == 201, ordered.text
    assert shop.order(user, {products[0]: 1, products[1]: 900, products[2]: 900}).status_code == 409
    unpaid = shop.order(shop.add_user(), {products[0]: 1})
    assert shop.final_state(unpaid.json()["requestId"])["status"] == "FAILED"
    assert shop.client.post(f"/orders/{ordered.json()['orderId']}/cancel").status_code == 200
    for path in ("/products", "/products/popular", f"/admin/coupons/{coupon}", "/admin/console"):
        assert shop.client.get(path).status_code == 200, path
    assert shop.client.patch(f"/admin/coupons/{coupon}", json={"addQuantity": 5}).status_code == 200
    assert shop.client.patch(f"/admin/products/{products[0]}", json={"addStock": 5}).status_code == 200
    stock = {each["id"]: each["stock"] for each in shop.client.get("/products").json()["products"]}
    wait_until(
        lambda: {p["id"]: p["stock"] for p in shop.client.get("/products").json()["products"]}[products[1]] == 50,
        f"the cancelled units are back on sale, now {stock}",
    )


def audit_as(role: str, shop: GuardedShop) -> subprocess.CompletedProcess[str]:
    """``make audit`` by an operator who has this user's password."""
    stack = shop.driver.stack
    environ = {**os.environ, "REDIS_URL": url_of(role, shop.valkey.port), "DATABASE_URL": stack.database_url}
    command = [sys.executable, "-m", "ops", "audit"]
    return subprocess.run(
        command, cwd=PROJECT_ROOT, env={**environ, "LANES": "2"}, capture_output=True, text=True, timeout=90
    )


def refused_so_far(shop: GuardedShop) -> list[str]:
    return [f"{each['username']} {each['reason']} {each['object']}" for each in shop.administrator.acl_log(count=100)]


def test_the_file_is_what_the_code_needs() -> None:
    assert ACL_FILE.read_text() == acl_file(), "python -m ops.acl > docs/operations/acl/seonchak.acl"


def test_everything_works_under_these_users_and_nothing_is_refused(shop: GuardedShop) -> None:
    trade(shop)
    assert shop.client.get("/admin/audit", timeout=60).json()["ok"]
    audited = audit_as("scheduler", shop)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    forget_and_rebuild(shop)
    trade(shop)
    assert rolling_restart(shop.driver.data_dir).rolling_problem == ""
    trade(shop)
    assert refused_so_far(shop) == [], shop.driver.output


def forget_and_rebuild(shop: GuardedShop) -> None:
    """A lane loses its state with an entry in its outbox, and then everything is lost: the guard repairs both."""
    coupon = shop.add_coupon()
    (lane_key,) = (key for key in shop.administrator.scan_iter(f"sc:*:coupon:{coupon}"))
    lane = lane_key.split("coupon")[0] + "lane"
    worker, users = shop.driver.stack.pids["worker.1"], [shop.add_user() for _ in range(3)]
    os.kill(worker, signal.SIGSTOP)  # so that what waits is drained by whoever rebuilds
    try:
        waiting = [shop.issue(coupon, user).json()["requestId"] for user in users]
        epoch = shop.administrator.hget(lane, "epoch")
        shop.administrator.hset(lane, "open", "0")
        wait_until(lambda: shop.administrator.hget(lane, "epoch") != epoch, "the lane is rebuilt")
    finally:
        os.kill(worker, signal.SIGCONT)
    for request_id in waiting:
        assert shop.final_state(request_id)["status"] == "COMPLETED"
    shop.administrator.flushall()
    wait_until(lambda: shop.administrator.hget(lane, "open") == "1", "everything is rebuilt")
    address = f"http://127.0.0.1:{shop.driver.port}/readyz"
    wait_until(lambda: httpx.get(address, timeout=10).status_code == 200, "the shop takes orders")


def test_no_user_may_do_more_than_it_needs(shop: GuardedShop) -> None:
    """Runs after the work above: whatever a role neither sent nor has in a script it should not be allowed."""
    sent = shop.watch.sent()
    idle = {(name, command) for name, role in ROLES.items() for command in role.commands if command not in sent[name]}
    assert sorted(idle - set(RARE)) == []
    assert all(command in ROLES[name].commands for name, command in RARE)


FOREIGN = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("CONFIG", "GET", "*"),
    ("SHUTDOWN",),
    ("ACL", "LIST"),
    ("REPLICAOF", "NO", "ONE"),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("SCRIPT", "FLUSH"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("SET", "somebody:elses", "1"),
    ("EVAL", "return redis.call('SET', 'somebody:elses', '1')", "0"),
    ("PUBLISH", "somebody:elses", "1"),
]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_refused_what_it_does_not_need(shop: GuardedShop, role: str) -> None:
    with redis.Redis.from_url(url_of(role, shop.valkey.port)) as client:
        for command in FOREIGN:
            with pytest.raises((redis.exceptions.NoPermissionError, redis.exceptions.ResponseError)) as refused:
                client.execute_command(*command)
            assert "permission" in str(refused.value).lower() or "ACL" in str(refused.value), command
        if role != "worker":
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command("ZADD", "rq:wip:drain", "1", "x")
    shop.administrator.acl_log_reset()


@pytest.mark.parametrize(("role", "command"), [("web", "xadd"), ("worker", "xdel"), ("scheduler", "hset")])
def test_without_one_of_its_commands_a_role_does_not_work(shop: GuardedShop, role: str, command: str) -> None:
    """The negative control: a command less, and the work above does not go through."""
    administrator = shop.administrator
    administrator.acl_log_reset()
    administrator.execute_command("ACL", "SETUSER", role, f"-{command}")
    try:
        coupon = shop.client.post(
            "/admin/coupons", json={"name": "쿠폰", "discountAmount": 1, "totalQuantity": 5}, timeout=30
        ).json()["id"]
        if role == "scheduler":
            (key,) = administrator.scan_iter(f"sc:*:coupon:{coupon}")
            administrator.hset(key.split("coupon")[0] + "lane", "open", "0")  # which only the guard mends
        else:
            shop.issue(coupon, shop.add_user())
        wait_until(lambda: any(line.startswith(role) for line in refused_so_far(shop)), "it is refused")
        assert {line for line in refused_so_far(shop) if line.startswith(role)} == {f"{role} command {command}"}
    finally:
        administrator.execute_command("ACL", "SETUSER", role, f"+{command}")
        administrator.acl_log_reset()
    wait_until(
        lambda: httpx.get(f"http://127.0.0.1:{shop.driver.port}/readyz", timeout=10).status_code == 200, "it is mended"
    )
