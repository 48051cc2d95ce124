"""The mended network client: what it leaves behind when it is closed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Generator
from typing import Any

from lastseen.engine.log.kafka import net_client
from lastseen.engine.log.kafka.net_client import NetClient


class _Turn:
    """A wait that the selector knows nothing of, as between two of its turns."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class _Transport:
    """One that is shaking hands."""

    def __init__(self, net: Any, sock: socket.socket) -> None:
        self._net, self._sock = _Net(net), _Silent(sock)


class _Net:
    """The client's loop, with a wait of the test's own."""

    def __init__(self, net: Any) -> None:
        self.__dict__ = net.__dict__

    async def wait_read(self, *_: object) -> None:
        await _Turn()


class _Silent(socket.socket):
    """A socket whose other side says nothing."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())

    def do_handshake(self) -> None:
        raise ssl.SSLWantReadError


def test_a_socket_that_is_not_waited_for_just_now_is_closed_with_the_client() -> None:
    client = NetClient(None, bootstrap_servers="127.0.0.1:1")
    ours, theirs = socket.socketpair()
    transport = _Transport(client._net, ours)
    shaking = net_client._shake_hands_or_close(transport)
    shaking.send(None)
    assert transport._sock.fileno() >= 0
    client.close()
    assert transport._sock.fileno() == -1
    shaking.close()
    theirs.close()
