"""A server that drops keys to save memory would sell again what is sold: it is refused before anything starts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

from engine.errors import GateUnavailable, InvalidSettings
from engine.gate.gate import Gate
from engine.gate.server import refuse_eviction
from ops.stores import RunningStore
from tests.stack.stack_driver import StackDriver

EVICTING = ("allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random")


def gate_at(url: str) -> Gate:
    return Gate.connect(url, lanes=1, backlog_limit=10, timeout_seconds=2)


def policy_is(store: RunningStore, policy: str) -> None:
    with redis.Redis.from_url(store.url) as client:
        client.config_set("maxmemory-policy", policy)


@pytest.mark.parametrize("policy", EVICTING)
def test_a_policy_that_evicts_is_refused_by_name(own_redis: RunningStore, policy: str) -> None:
    policy_is(own_redis, policy)
    gate = gate_at(own_redis.url)
    with pytest.raises(InvalidSettings, match=f"REDIS_URL: the server has maxmemory-policy {policy}"):
        refuse_eviction(gate)
    gate.close()


def test_a_server_that_evicts_nothing_is_taken(own_redis: RunningStore) -> None:
    gate = gate_at(own_redis.url)
    refuse_eviction(gate)
    gate.close()


def test_the_policy_is_found_out_without_the_right_to_read_the_configuration(own_redis: RunningStore) -> None:
    policy_is(own_redis, "allkeys-lfu")
    with redis.Redis.from_url(own_redis.url) as client:
        client.acl_setuser(
            "shop", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=["-config"]
        )
    gate = gate_at(f"redis://shop:secret@127.0.0.1:{own_redis.port}/0")
    client_of_the_shop: Any = gate.client
    with pytest.raises(redis.exceptions.NoPermissionError):
        client_of_the_shop.config_get("maxmemory-policy")
    with pytest.raises(InvalidSettings, match="allkeys-lfu"):
        refuse_eviction(gate)
    gate.close()


def test_a_server_that_is_away_is_not_taken_for_one_that_evicts_nothing(own_redis: RunningStore) -> None:
    own_redis.kill()
    gate = gate_at(own_redis.url)
    with pytest.raises(GateUnavailable):
        refuse_eviction(gate)
    gate.close()


def test_the_stack_does_not_start_on_a_server_that_evicts(own_redis: RunningStore) -> None:
    policy_is(own_redis, "volatile-lru")
    folder = Path(tempfile.mkdtemp(prefix="seonchak-test-"))
    folder.chmod(0o711)
    driver = StackDriver(folder)
    driver.procfile(release="python -m ops migrate", web="true")
    try:
        driver.refused(REDIS_URL=own_redis.url)
        assert "REDIS_URL: the server has maxmemory-policy volatile-lru" in driver.output
        assert "Set maxmemory-policy noeviction" in driver.output
    finally:
        driver.clean_up()
        shutil.rmtree(folder, ignore_errors=True)
