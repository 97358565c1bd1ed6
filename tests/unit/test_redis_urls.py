"""REDIS_URL for Sentinel and Cluster: what each part of it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import RedisCluster

from engine.gate.clients import connect, parse_address
from ops.external_stores import redis_problem
from ops.processes import free_port

SENTINELS = "redis+sentinel://user:pass%40word@one:1,two,[::1]:3/shop/2?sentinel_password=other%2F"


def test_a_url_of_sentinels_names_them_the_service_the_database_and_two_passwords() -> None:
    address = parse_address(SENTINELS)
    assert address.kind == "sentinel"
    assert address.places == (("one", 1), ("two", 26379), ("::1", 3))
    assert address.service == "shop"
    assert address.options == {"username": "user", "password": "pass@word", "db": 2}
    assert address.sentinel_options == {"password": "other/"}


def test_a_url_of_sentinels_needs_little() -> None:
    address = parse_address("redis+sentinel://one")
    assert (address.places, address.service) == ((("one", 26379),), "mymaster")
    assert (address.options, address.sentinel_options) == ({}, {})


def test_a_url_of_a_cluster_names_some_of_its_nodes() -> None:
    address = parse_address("redis+cluster://:secret@one:7000,two")
    assert address.places == (("one", 7000), ("two", 6379))
    assert address.options == {"password": "secret"}


def test_tls_is_for_servers_and_sentinels_and_its_options_are_redis_pys() -> None:
    address = parse_address(
        "rediss+sentinel://one/shop?ssl_ca_certs=%2Fca.pem&ssl_check_hostname=no&sentinel_username=u"
    )
    tls = {"ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    assert address.options == tls
    assert address.sentinel_options == {**tls, "username": "u"}
    assert parse_address("rediss+cluster://one").options == {"ssl": True}


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://one:port", "redis+sentinel://one,,two/shop"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"host|[Pp]ort"):
        parse_address(url)
    assert "REDIS_URL: no Redis answers at" in (redis_problem("REDIS_URL", url, patience_seconds=0) or "")


def test_one_place_that_listens_is_enough_and_no_password_is_told() -> None:
    places = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    problem = redis_problem("REDIS_URL", f"redis+cluster://:hush@{places}", patience_seconds=0)
    assert problem is not None
    assert places in problem
    assert "hush" not in problem


def test_nothing_connects_before_the_first_command_and_a_cluster_passes_for_one(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    cluster: Any = connect(f"redis+cluster://{nowhere}", timeout_seconds=1)
    assert isinstance(cluster, RedisCluster)
    for url in (
        f"redis://{nowhere}",
        f"unix://{tmp_path}/socket",
        f"redis+sentinel://{nowhere}",
        f"rediss://{nowhere}",
    ):
        client = connect(url, timeout_seconds=1)
        assert not isinstance(client, RedisCluster)
        client.close()
    cluster.close()
