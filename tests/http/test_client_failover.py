"""Both clients on real sockets: frozen and dead instances, owners that they name, and a host that must get no token."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from client_kinds import Waiting
from served import Served

import lastseen
from lastseen import AsyncClient, Client, Engine
from lastseen.engine.errors import NotOwner, OutcomeUnknown, OwnerState
from lastseen.engine.log.shared_log import Owner

KEY, TOKEN = "user:ana", "ls_not-a-real-token"
Connect = Callable[..., Any]


@pytest.fixture(params=["client", "async client"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of either kind."""
    with ExitStack() as made:

        def make(*addresses: str, **options: Any) -> Any:
            if request.param == "client":
                return made.enter_context(Client(addresses, TOKEN, **options))
            waiting = Waiting(lambda: AsyncClient(addresses, TOKEN, **options))
            made.callback(waiting.end)
            return waiting

        yield make


class Silent:
    """A socket on which connections succeed and nothing is ever answered, as of a frozen process."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_server((host, 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self.address = f"http://{host}:{self.port}"

    def received(self) -> bytes:
        """What was sent here on all connections; afterwards there are none."""
        content = b""
        with self._socket:
            while True:
                try:
                    connection, _ = self._socket.accept()
                except BlockingIOError:
                    return content
                with connection:
                    connection.setblocking(False)
                    try:
                        content += b"|" + connection.recv(65_536)
                    except BlockingIOError:
                        content += b"|"


@contextmanager
def refusing(folder: Path, address: str) -> Iterator[Served]:
    """An instance on the same log that serves nothing, and names this address as the owner's."""
    with lastseen.open_engine(f"sqlite:///{folder / 'log.db'}") as other:
        other._views.served = frozenset()
        other._views.known_owner = lambda _: Owner(OwnerState.KNOWN, address)
        with Served(other) as served:
            yield served


def test_a_frozen_instance_is_left_after_a_try_and_not_asked_again(served: Served, connect: Connect) -> None:
    frozen = Silent()
    client = connect(frozen.address, served.address, try_timeout=0.3)
    assert client.open(KEY).version == 1
    for number in range(5):
        assert client.touch(KEY, message=number).version == 2 + number
    assert frozen.received().count(b"|") == 1


def test_what_must_not_be_sent_twice_is_unknown_at_a_frozen_instance(
    served: Served, engine: Engine, connect: Connect
) -> None:
    engine.open(KEY)
    frozen = Silent()
    client = connect(frozen.address, served.address, timeout=0.5, try_timeout=0.1)
    with pytest.raises(OutcomeUnknown):
        client.touch(KEY, message="hello")
    assert client.touch(KEY, message="hello").version == 2, "the next call goes to the instance that answers"
    assert len(engine.messages(KEY)) == 1
    assert frozen.received().count(b"|") == 1


def test_a_dead_instance_is_left_at_once(served: Served, engine: Engine, connect: Connect) -> None:
    dead = Silent()
    dead.received()  # which closes it
    client = connect(dead.address, served.address)
    engine.open(KEY)
    assert client.touch(KEY, message="hello").version == 2
    assert client.list().sessions[0].key == KEY


def test_an_owner_is_followed_and_asked_directly_from_then_on(served: Served, tmp_path: Path, connect: Connect) -> None:
    with refusing(tmp_path, served.address) as other:
        client = connect(other.address)
        assert client.open(KEY).version == 1
        other.stop()
        assert client.touch(KEY, message="hello").version == 2
        assert client.get(KEY).version == 2


def test_neither_call_nor_token_reaches_a_host_that_no_rule_names(
    served: Served, engine: Engine, tmp_path: Path, connect: Connect
) -> None:
    stranger = Silent("127.0.0.2")
    with refusing(tmp_path, stranger.address) as other:
        client = connect(other.address)
        with pytest.raises(NotOwner, match="owner_hosts") as caught:
            client.touch(KEY, attributes={"secret": "attributes"})
        assert caught.value.address == stranger.address
        assert connect(other.address, served.address).open(KEY).version == 1, "the other address is asked"
    assert stranger.received() == b""
    friend = Silent("127.0.0.2")
    with refusing(tmp_path, friend.address) as other, pytest.raises(OutcomeUnknown):
        connect(other.address, owner_hosts=["127.0.0.2"], timeout=0.5).rotate(KEY)
    assert TOKEN.encode() in friend.received(), "a rule that names the host sends the token there"


def test_a_stream_moves_on_to_the_next_address(served: Served, engine: Engine) -> None:
    dead = Silent()
    dead.received()
    engine.open(KEY)
    with Client([dead.address, served.address]) as client, client.events("0") as events:
        assert next(events).key == KEY
