"""TLS in front of servers that have none: the embedded Valkey is built without it.

The ports here speak both: clients come with TLS, the servers and sentinels among themselves without. So a server can
announce such a port as its own, and whoever is told about it arrives here.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import trustme

from ops.processes import free_port

_TLS_HANDSHAKE = 0x16
_CHUNK_BYTES = 65_536


@dataclass(frozen=True)
class Authority:
    """Signs the certificates of a test; ``file`` is what a client has to trust."""

    authority: trustme.CA
    file: Path

    @classmethod
    def in_folder(cls, folder: Path, name: str = "authority") -> Authority:
        """A new one, its certificate in the folder."""
        authority, file = trustme.CA(), folder / f"{name}.pem"
        authority.cert_pem.write_to_path(str(file))
        return cls(authority, file)

    @property
    def query(self) -> str:
        """The part of a URL that names the certificate."""
        return f"ssl_ca_certs={quote(str(self.file), safe='')}"

    def server_context(self, *names: str) -> ssl.SSLContext:
        """For a server that is known under these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        return context


@dataclass
class TlsPort:
    """A port in front of a server's. Counts who came with TLS and who came without."""

    port: int
    target: int
    context: ssl.SSLContext
    encrypted: int = 0
    plain: int = 0
    _open: set[socket.socket] = field(default_factory=set)

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Cut what is connected."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _connect(self, client: socket.socket) -> None:
        with suppress(OSError), closing(client):
            if client.recv(1, socket.MSG_PEEK)[:1] == bytes([_TLS_HANDSHAKE]):
                client = self.context.wrap_socket(client, server_side=True)
                self.encrypted += 1
            else:
                self.plain += 1
            with closing(client), socket.create_connection(("127.0.0.1", self.target)) as server:
                self._open |= {client, server}
                try:
                    _relay(client, server)
                finally:
                    self._open -= {client, server}


def _relay(client: socket.socket, server: socket.socket) -> None:
    """Pass on what comes, in both directions, until one side ends. One thread: OpenSSL wants one at a time."""
    other = {client: server, server: client}
    while True:
        undelivered = isinstance(client, ssl.SSLSocket) and client.pending()
        ready = [client] if undelivered else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(_CHUNK_BYTES)
            if not data:
                return
            other[source].sendall(data)


@contextmanager
def tls_port(target: int, context: ssl.SSLContext, port: int | None = None) -> Iterator[TlsPort]:
    """A port that passes on to ``target``, with TLS for those who want it."""
    with socket.create_server(("127.0.0.1", port or free_port())) as listener:
        made = TlsPort(listener.getsockname()[1], target, context)
        threading.Thread(target=made.serve, args=(listener,), daemon=True).start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            made.close()
