"""The network client under every client of Kafka: kafka-python's own, with the faults mended that show.

Sockets of connections that could not be made are left to the garbage collector; a TLS handshake has no end if the other
side says nothing; what a broker says before it hangs up, such as that the password is wrong, is dropped; the setting
that no topic be made by asking for it is taken and not passed on; and why a connection failed is written to the log,
but told to nobody. Each is mended so that it does no harm once kafka-python mends it too.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from lastseen.engine.log.kafka.secrets import closing_quietly

HANDSHAKE_TIMEOUT_S = 10.0
REFUSED = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
"""What a broker says to those whom it does not let in."""

_connect = KafkaNetSocket.sock_connect


@contextmanager
def _unfinished(net: Any, sock: socket.socket) -> Iterator[None]:
    """Keeps a socket, while a connection is made of it, where whoever closes the client finds it; closes it if that
    fails. In the selector it is found only while it is waited for."""
    sockets = _sockets_of(net)
    sockets.add(sock)
    try:
        yield
    except BaseException:
        sock.close()
        raise
    finally:
        sockets.discard(sock)


def _sockets_of(net: Any) -> set[socket.socket]:
    found: set[socket.socket] = net.__dict__.setdefault("_lastseen_unfinished", set())
    return found


async def _connect_or_close(self: Any, net: Any, sock: socket.socket, *address: Any, **limits: Any) -> socket.socket:
    """Connect; a socket with which that fails is closed."""
    with _unfinished(net, sock):
        return await _connect(self, net, sock, *address, **limits)  # type: ignore[no-any-return]


async def _shake_hands_or_close(self: Any) -> None:
    """The TLS handshake, within a time; a socket with which it fails is closed."""
    give_up = time.monotonic() + HANDSHAKE_TIMEOUT_S
    with _unfinished(self._net, self._sock):
        while True:
            try:
                self._sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._net.wait_read(self._sock, give_up)
            except ssl.SSLWantWriteError:
                await self._net.wait_write(self._sock, give_up)


def _last_words_first(receive: Any) -> Any:
    """What the other side said before it hung up, such as why, is read first; the end is met at the next reading."""

    def received(self: Any) -> tuple[bytes, Exception | None]:
        found, failure = receive(self)
        return found, None if found else failure

    return received


KafkaNetSocket.sock_connect = _connect_or_close
KafkaSSLTransport.handshake = _shake_hands_or_close
for _transport in (KafkaTCPTransport, KafkaSSLTransport):
    _transport._sock_recv = _last_words_first(_transport._sock_recv)


class _Connections(KafkaConnectionManager):  # type: ignore[misc]
    """Connections that remember why the last of them failed."""

    last_failure: Exception | None = None

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        """A connection, made if need be (kafka-python's)."""
        is_new = node_id not in self._conns
        connection = super().get_connection(node_id, *arguments, **options)
        if is_new:
            connection.close_future.add_errback(self._note)
        return connection

    def _note(self, failure: Exception) -> None:
        # That we were refused says more than that we then ran out of time.
        if not isinstance(self.last_failure, REFUSED) or isinstance(failure, REFUSED):
            self.last_failure = failure


class NetClient(KafkaNetClient):  # type: ignore[misc]
    """The network client. A `topic` is asked about from the start: to be told of it later takes a tenth of a second."""

    def __init__(self, topic: str | None, **config: Any) -> None:
        net = NetworkSelector(**config)
        super().__init__(net=net, manager=_Connections(net, **config))
        self.cluster.config["allow_auto_create_topics"] = False
        topics = getattr(self.cluster, "_topics", None)
        if topic is not None and isinstance(topics, set):
            topics.add(topic)

    @property
    def last_failure(self) -> Exception | None:
        """Why a connection failed last, if one has."""
        return self._manager.last_failure  # type: ignore[no-any-return]

    def close(self, node_id: Any = None) -> None:
        """Close a connection, or the client, with the sockets of connections that are being made."""
        if node_id is not None:
            super().close(node_id)
            return
        with closing_quietly():
            self._manager.close()
            self._net.stop()
            try:
                left = [key.fileobj for key in self._net._selector.get_map().values()]
            except (AttributeError, RuntimeError):  # closed already, or not as expected
                left = []
            super().close()
        for each in [*left, *_sockets_of(self._net)]:
            if isinstance(each, socket.socket):
                each.close()
