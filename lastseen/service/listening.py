"""The socket of a service, bound before anything else, so that a port in use is reported at once."""

from __future__ import annotations

import errno
import socket

from lastseen.engine.errors import CannotListen

BACKLOG = 2048
_REASONS = {
    errno.EADDRINUSE: "another program uses it: stop that program, or choose another port with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose one of its own with --host",
    errno.EACCES: "this user may not listen there: choose a port above 1023 with --port",
}


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet. Raises `CannotListen`."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _cannot(host, port, error) from error
    # Of a name with several addresses, one of IPv4: that is what callers who know no name try first.
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    try:
        # A port that this service has just left may be taken again, though the system still remembers connections.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setblocking(False)
        return bound
    except OSError as error:
        bound.close()
        raise _cannot(host, port, error) from error


def listen(bound: socket.socket) -> None:
    """Take callers from now on. Raises `CannotListen` where another program has begun to since it was bound."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _cannot(host, port, error) from error


def address_of(bound: socket.socket, host: str, scheme: str = "http") -> str:
    """What callers use: `http://127.0.0.1:8321`."""
    port = bound.getsockname()[1]
    name = host.strip("[]")
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def _cannot(host: str, port: int, error: OSError) -> CannotListen:
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}: give another --host or --port")
    return CannotListen(f"cannot listen on {host}:{port}: {reason}")
