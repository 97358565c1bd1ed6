"""TLS and passwords, for one server, Sentinel and Cluster: our side of it, for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from engine.context import Engine
from engine.errors import GateUnavailable
from engine.gate.clients import connect_queue
from engine.gate.gate import Gate
from engine.upkeep.guard import watch_lanes
from tests.cluster.members import PASSWORD, data_server
from tests.cluster.sentinel import sentinel_topology, url_of
from tests.cluster.shards import cluster_topology
from tests.cluster.tls import Authority, TlsPort, tls_port
from tests.conftest import EngineMaker
from tests.integration.offers import assert_recorded_once, offer, win_all
from tests.integration.shop import drain_all

LANES = 16
QUOTED = quote(PASSWORD, safe="")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.in_folder(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Whom nobody's certificate is from."""
    return Authority.in_folder(tmp_path, "stranger")


def tls_fronts(authority: Authority) -> tuple[list[TlsPort], Callable[[int], AbstractContextManager[int]]]:
    """What puts a TLS port before a server's, and those that it has put."""
    context = authority.server_context("127.0.0.1")
    ports: list[TlsPort] = []

    @contextmanager
    def front(target: int) -> Iterator[int]:
        with tls_port(target, context) as port:
            ports.append(port)
            yield port.port

    return ports, front


def assert_sells(engine: Engine) -> None:
    """Coupons are won and recorded."""
    watch_lanes(engine)
    coupon = offer(engine, total=20)
    wins = win_all(engine, coupon, range(1, 21))
    drain_all(engine)
    assert_recorded_once(engine, coupon, wins)


def assert_refused(url: str) -> None:
    """The gate is not to be had by this URL."""
    gate = Gate.connect(url, lanes=1, backlog_limit=1, timeout_seconds=2)
    with pytest.raises(GateUnavailable):
        gate.inspect(0)
    gate.close()


def assert_queues(url: str) -> None:
    """RQ can use what the URL names."""
    queue = Queue("bells", connection=connect_queue(url), serializer=JSONSerializer)
    queue.enqueue("operator.add", 1, 2)
    assert queue.count == 1
    queue.connection.close()


def test_one_server_is_reached_by_tls_and_only_if_it_is_the_right_one(
    tmp_path: Path, authority: Authority, stranger: Authority, make_engine: EngineMaker
) -> None:
    with data_server(tmp_path, "server") as server:
        server.await_answer()
        with (
            tls_port(server.port, authority.server_context("localhost", "127.0.0.1")) as port,
            tls_port(server.port, authority.server_context("elsewhere.example")) as misnamed,
        ):
            url = f"rediss://:{QUOTED}@127.0.0.1:{port.port}/0?{authority.query}"
            assert_sells(make_engine(redis_url=url, queue_redis_url=url))
            assert_queues(url)
            assert port.encrypted
            assert not port.plain
            assert_refused(url.replace(authority.query, stranger.query))
            assert_refused(url.replace(f":{QUOTED}@", ":wrong@"))
            assert_refused(url.replace(f":{port.port}/", f":{misnamed.port}/"))
            with pytest.raises(redis.ConnectionError):
                connect_queue(url.replace(authority.query, stranger.query)).ping()


def test_sentinels_and_the_servers_they_name_are_reached_by_tls_and_a_failover_is_followed(
    tmp_path: Path, authority: Authority, stranger: Authority, make_engine: EngineMaker
) -> None:
    ports, front = tls_fronts(authority)
    with sentinel_topology(tmp_path, front) as topology:
        doors = [front(sentinel.port) for sentinel in topology.sentinels]
        with doors[0] as first, doors[1] as second, doors[2] as third:
            url = f"{url_of((first, second, third), 'rediss+sentinel')}&{authority.query}"
            engine = make_engine(redis_url=url, queue_redis_url=url)
            assert_sells(engine)
            assert_queues(url)
            assert all(door.encrypted and not door.plain for door in ports[len(topology.servers) :][:1])
            assert any(port.encrypted for port in ports[: len(topology.servers)])
            topology.fail_over()
            topology.await_health()
            assert_sells(engine)
            assert_refused(url.replace(authority.query, stranger.query))
            assert_refused(url.replace(f"sentinel_password={QUOTED}", "sentinel_password=wrong"))
            assert_refused(url.replace(f":{QUOTED}@", ":wrong@"))


def test_nodes_of_a_cluster_are_reached_by_tls_and_a_failover_is_followed(
    tmp_path: Path, authority: Authority, stranger: Authority, make_engine: EngineMaker, redis_url: str
) -> None:
    ports, front = tls_fronts(authority)
    with cluster_topology(tmp_path, front) as topology:
        url = f"{topology.url.replace('redis+', 'rediss+', 1)}?{authority.query}"
        engine = make_engine(lanes=LANES, redis_url=url, queue_redis_url=redis_url)
        assert_sells(engine)
        topology.fail_over(0)
        assert_sells(engine)
        assert sum(bool(port.encrypted) for port in ports) > len(topology.shards)
        assert_refused(url.replace(authority.query, stranger.query))
        assert_refused(url.replace(f":{QUOTED}@", ":wrong@"))
