"""The corrected network client: what it leaves behind when it is closed, and how long a handshake may take."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.net.inet import KafkaNetSocket

from lastseen.engine.log.kafka import library_internals
from lastseen.engine.log.kafka.net_client import NetClient


@pytest.fixture
def silent() -> Iterator[SimpleNamespace]:
    """A node that accepts connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield SimpleNamespace(host="127.0.0.1", port=server.getsockname()[1])


def client_for_tls() -> NetClient:
    """A client whose connections are under TLS."""
    context = ssl.create_default_context()
    return NetClient(None, bootstrap_servers="127.0.0.1:1", security_protocol="SSL", ssl_context=context)


def shaking_hands(client: NetClient, node: SimpleNamespace) -> tuple[Coroutine[Any, Any, Any], socket.socket]:
    """A connection whose TLS handshake is under way, and its socket."""
    connecting = client._connections.build_transport(node, None)
    while True:
        waits_for = connecting.send(None)
        (sock,) = [each for each in client._connections._unfinished if each.fileno() >= 0]
        if isinstance(sock, ssl.SSLSocket):
            assert "read" in str(waits_for.method)
            return connecting, sock


def test_a_socket_that_is_not_waited_for_just_now_is_closed_with_the_client(silent: SimpleNamespace) -> None:
    client = client_for_tls()
    connecting, sock = shaking_hands(client, silent)
    assert sock.fileno() not in client._selector.get_map(), "the selector does not know of it"
    client.close()
    assert sock.fileno() == -1
    connecting.close()


def test_a_socket_whose_handshake_is_given_up_is_closed(silent: SimpleNamespace) -> None:
    client = client_for_tls()
    connecting, sock = shaking_hands(client, silent)
    connecting.close()
    assert sock.fileno() == -1
    assert client._connections._unfinished == set()
    client.close()


def test_a_handshake_has_a_time_limit(silent: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_internals, "HANDSHAKE_TIMEOUT_S", 0.1)
    client = client_for_tls()
    with pytest.raises(Exception, match="Handshake failed"):
        client._loop.run(client._connections.build_transport, silent, None)
    assert client._connections._unfinished == set()
    client.close()


def test_the_socket_of_a_connection_that_is_refused_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    real = KafkaNetSocket.socket

    def make_socket(self: KafkaNetSocket, *kind: Any) -> socket.socket:
        made.append(real(self, *kind))
        return made[-1]

    monkeypatch.setattr(KafkaNetSocket, "socket", make_socket)
    client = NetClient(None, bootstrap_servers="127.0.0.1:1")
    with pytest.raises(Exception, match="ECONNREFUSED"):
        client._loop.run(client._connections.build_transport, SimpleNamespace(host="127.0.0.1", port=1), None)
    assert [each.fileno() for each in made] == [-1]
    client.close()
