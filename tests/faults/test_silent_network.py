"""A network that drops every packet and tells nobody: whoever waits without a time-out of their own must notice.

Such a network cannot be had in a test without being root, so these look at what the sockets were told. Measured once
between two network namespaces: 11 s with these settings; without them a question to Postgres and a wait for its answer
were both still waiting when patience ended, after 75 s.
"""

from __future__ import annotations

import socket
from contextlib import closing

from engine.gate.clients import connect_queue
from engine.ledger.session import Ledger

IDLE_SECONDS, BETWEEN_SECONDS, PROBES = 5, 2, 3


def keepalive_of(connection: socket.socket) -> tuple[int, int, int, int]:
    return (
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    )


def test_a_session_with_postgres_notices_a_network_that_went_silent(database_url: str) -> None:
    with closing(Ledger(database_url)) as ledger, ledger.read() as connection:
        descriptor = connection.connection.driver_connection.pgconn.socket  # type: ignore[union-attr]
        with socket.socket(fileno=socket.dup(descriptor)) as ours:
            assert keepalive_of(ours) == (1, IDLE_SECONDS, BETWEEN_SECONDS, PROBES)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


def test_a_worker_that_waits_for_jobs_notices_a_network_that_went_silent(redis_url: str) -> None:
    with connect_queue(redis_url) as client:
        connection = client.connection_pool.get_connection()
        assert keepalive_of(connection._get_socket()) == (1, IDLE_SECONDS, BETWEEN_SECONDS, PROBES)
        client.connection_pool.release(connection)


def test_a_queue_on_a_unix_socket_needs_no_keepalive() -> None:
    with connect_queue("unix:///nowhere") as client:
        assert "socket_keepalive_options" not in client.connection_pool.connection_kwargs
