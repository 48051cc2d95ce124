"""The network client under every Kafka client of ours: kafka-python's own, with its faults corrected.

kafka-python leaves the sockets of failed connections to the garbage collector; its TLS handshake has no time limit; it
drops what a broker says before it closes the connection, such as that the password is wrong; it accepts the setting
that no topic be created by asking for it, and does not pass it on; and it logs why a connection failed without telling
the caller. Each correction does no harm once kafka-python makes it too, and none reaches the clients of the host
application."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.selector import NetworkSelector

from lastseen.engine.log.kafka.library_internals import (
    ConnectionPool,
    TcpTransport,
    TlsTransport,
    check_network,
    follow_topic,
)
from lastseen.engine.log.kafka.secrets import closing_quietly

REFUSED = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
"""A broker's answers to a client that it does not admit."""


class Connections(ConnectionPool):
    """Connections that remember why the last of them failed, and close the socket of each attempt that fails."""

    last_failure: Exception | None = None

    def __init__(self, net: NetworkSelector, **config: Any) -> None:
        super().__init__(net, **config)
        self._loop = net
        self._seen: WeakSet[Any] = WeakSet()
        self._unfinished: set[socket.socket] = set()
        """The sockets of connections that are being made. The selector has them only while they are waited for."""

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        """A connection, made if need be (kafka-python's)."""
        connection = super().get_connection(node_id, *arguments, **options)
        if connection not in self._seen:
            self._seen.add(connection)
            connection.close_future.add_errback(self._note)
        return connection

    def _note(self, failure: Exception) -> None:
        # A refusal says more than the timeout that follows it.
        if not isinstance(self.last_failure, REFUSED) or isinstance(failure, REFUSED):
            self.last_failure = failure

    async def build_transport(self, node: Any, timeout_at_s: float | None) -> TcpTransport | TlsTransport:
        """A connected transport, within the limits of time (`ConnectionPool`)."""
        connected = await self._connect_socket(node, timeout_at_s)
        with self._closing_on_failure(connected):
            if self.ssl_enabled:
                tls = {name: value for name, value in self.config.items() if name.startswith("ssl_")}
                transport = TlsTransport(self._loop, connected, host=node.host, **tls)
            else:
                transport = TcpTransport(self._loop, connected, host=node.host)
            with self._closing_on_failure(transport.socket):
                try:
                    await transport.handshake()
                except Exception as error:
                    raise errors.KafkaConnectionError(f"Handshake failed: {error}") from error
        return transport

    async def _connect_socket(self, node: Any, timeout_at_s: float | None) -> socket.socket:
        """A socket that is connected to the first of the node's addresses that answers."""
        made = KafkaNetSocket()
        failure = errors.KafkaConnectionError("DNS Resolution failure")
        for family, kind, protocol, _, address in made.dns_lookup(node.host, node.port):
            try:
                attempt: socket.socket = made.socket(family, kind, protocol)
                with self._closing_on_failure(attempt):
                    attempt.setblocking(False)
                    for option in self.config["socket_options"]:
                        attempt.setsockopt(*option)
                    await made.sock_connect(self._loop, attempt, address, timeout_at=timeout_at_s)
                    return attempt
            except errors.KafkaTimeoutError:
                raise errors.KafkaConnectionError("Connection timed out") from None
            except OSError as error:
                failure = errors.KafkaConnectionError(f"unable to connect: {error}")
            except errors.KafkaConnectionError as error:
                failure = error
        raise failure

    @contextmanager
    def _closing_on_failure(self, attempt: socket.socket) -> Iterator[None]:
        """Keep a socket where `close_unfinished` finds it while a connection is made of it; close it on failure."""
        self._unfinished.add(attempt)
        try:
            yield
        except BaseException:
            attempt.close()
            raise
        finally:
            self._unfinished.discard(attempt)

    def close_unfinished(self) -> None:
        """Close the sockets of connections that are being made."""
        for each in tuple(self._unfinished):
            each.close()


class NetClient(KafkaNetClient):  # type: ignore[misc]
    """The network client. A `topic` is part of its first metadata request, which saves a tenth of a second."""

    def __init__(self, topic: str | None, **config: Any) -> None:
        """Raises `UnsupportedLibrary`."""
        check_network()
        selector = selectors.DefaultSelector()
        net = NetworkSelector(**config | {"selector": lambda: selector})
        connections = Connections(net, **config)
        super().__init__(net=net, manager=connections)
        self._selector, self._loop, self._connections = selector, net, connections
        self.cluster.config["allow_auto_create_topics"] = False
        if topic is not None:
            follow_topic(self.cluster, topic)

    @property
    def last_failure(self) -> Exception | None:
        """Why a connection failed last, if one has."""
        return self._connections.last_failure

    def close(self, node_id: Any = None) -> None:
        """Close a connection, or the client, with the sockets of connections that are being made."""
        if node_id is not None:
            super().close(node_id)
            return
        with closing_quietly():
            self._connections.close()
            self._loop.stop()
            try:
                left = [key.fileobj for key in self._selector.get_map().values()]
            except (AttributeError, RuntimeError):  # closed already: the map is `None` then
                left = []
            super().close()
        for each in left:
            if isinstance(each, socket.socket):
                each.close()
        self._connections.close_unfinished()
