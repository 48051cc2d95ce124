"""Between what a client wants sent and `httpx`: requests, their times, and what a broken one may have done."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine, Sequence
from functools import update_wrapper
from inspect import Parameter, signature
from typing import Any

import httpx

from lastseen.api.paths import EVENT_STREAM
from lastseen.client.address import Address, addresses_of, checked_token, host_rules_of
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.connection import Connection
from lastseen.client.event_stream import READ_TIMEOUT_S, StreamPosition, stream_query
from lastseen.client.retries import Send
from lastseen.client.routes import Routes
from lastseen.engine.arguments import Anything
from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.identifiers import new_session_id

MAX_RESPONSE_BYTES = 256 * 1024 * 1024
"""More than any answer takes: a thousand messages of 64 KiB are a quarter of it."""
MAX_TIMEOUT_S = 3_600.0
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class ServiceClient:
    """What both clients are: a line to a service, and what it has shown of the log."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def position(self) -> str:
        """The last records that this client's answers reflected, as `min_position` takes them."""
        return self._connection.seen.text()

    def _stream_position(
        self, last_event_id: str | None, prefix: str | Anything, kinds: tuple[str, ...] | Anything, patience_s: float
    ) -> StreamPosition:
        """Of a stream of facts, which begins with it."""
        return StreamPosition(self._connection, last_event_id, stream_query(prefix, kinds), patience_s)

    def _stream_options(self, position: StreamPosition) -> dict[str, Any]:
        """The request for what comes next on a course, for `stream`."""
        connection = self._connection
        return {
            "method": "GET",
            "url": url_of(position.address, position.address.path + EVENT_STREAM).copy_merge_params(position.query),
            "headers": position.headers(),
            "timeout": timeout_of(READ_TIMEOUT_S, connection.connect_timeout_s),
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._connection.routes}>"


def connection_of(
    address: str | Sequence[str],
    token: str | None,
    timeout: float,
    reads_own_writes: bool,
    try_timeout: float,
    connect_timeout: float,
    owner_hosts: Sequence[str],
) -> Connection:
    """What a client's calls share. Raises `InvalidSetting`."""
    routes = Routes(addresses_of(address), host_rules_of(owner_hosts))
    return Connection(
        routes,
        checked_token(token),
        _seconds("timeout", timeout),
        reads_own_writes,
        _seconds("try_timeout", try_timeout),
        _seconds("connect_timeout", connect_timeout),
    )


def _seconds(name: str, value: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_TIMEOUT_S:
        raise InvalidSetting(f"{name} = {shown(value)}: give seconds, more than 0 and at most {MAX_TIMEOUT_S:g}")
    return float(value)


def pool_options(connections: int, verify: ssl.SSLContext | bool) -> dict[str, Any]:
    """Options of both of httpx's clients."""
    if type(connections) is not int or not 1 <= connections <= 10_000:
        raise InvalidSetting(f"connections = {shown(connections)}: give a whole number from 1 to 10000")
    return {
        # Shorter than servers keep idle connections: one that is closed just as it is used loses a request.
        # The clients bound them themselves: httpx's pool looks at all that wait, and all that are open, at each step.
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=connections, keepalive_expiry=3.0),
        "verify": verify,
        # Neither a proxy nor a password of the environment has any business between this client and its token.
        "trust_env": False,
        "follow_redirects": False,
    }


def url_of(address: Address, path: str) -> httpx.URL:
    """Where a request goes; the path is percent-encoded already."""
    return httpx.URL(scheme=address.scheme, host=address.host, port=address.port, raw_path=path.encode("ascii"))


def request_options(send: Send, left_s: float) -> dict[str, Any]:
    """A request that has so long, for `build_request`."""
    url = url_of(send.address, send.path)
    return {
        "method": send.method,
        "url": url.copy_merge_params(send.query) if send.query else url,
        "headers": send.headers,
        "content": send.content,
        "timeout": timeout_of(left_s, min(send.connect_timeout_s, left_s)),
    }


def timeout_of(seconds: float, connect_s: float) -> httpx.Timeout:
    """Times of one request: how long each wait for bytes may take, and how long the connection."""
    return httpx.Timeout(seconds, connect=connect_s, pool=seconds * 0.8)


def response_of(response: httpx.Response, content: bytes) -> Response:
    """An answer, whole."""
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)


def no_response_from(error: httpx.HTTPError | TimeoutError) -> NoResponse:
    """What a failure means."""
    said = "" if isinstance(error, httpx.LocalProtocolError) else str(error)  # which may quote a header
    timed_out = isinstance(error, httpx.TimeoutException | TimeoutError)
    return NoResponse(f"{type(error).__name__} {said}".strip(), not isinstance(error, _NOT_SENT), timed_out)


def holder_name(holder: str | None) -> str:
    """The name of the holder of a session; a generated one, if none is given."""
    return holder or f"client#{new_session_id()[:8]}"


def no_free_connection(connections: int, timeout_s: float) -> NoResponse:
    """All connections were in use all the time."""
    why = f"{connections} calls were in progress, and none ended within {timeout_s:g} s"
    return NoResponse(why, False, was_queued=True)


def response_too_large() -> httpx.RemoteProtocolError:
    """For an answer that does not end."""
    return httpx.RemoteProtocolError(f"the response is larger than {MAX_RESPONSE_BYTES} bytes")


def copy_signature(
    method: Callable[..., Any], make: Callable[..., Call[Any]]
) -> Callable[..., Any] | Callable[..., Coroutine[Any, Any, Any]]:
    """Give a client's method the name, the words and the parameters of the call that it makes."""
    update_wrapper(method, make)
    del method.__wrapped__  # type: ignore[attr-defined]  # it has no `self`, and would be taken for the method
    made = signature(make)
    own = Parameter("self", Parameter.POSITIONAL_ONLY)
    method.__signature__ = made.replace(parameters=[own, *made.parameters.values()])  # type: ignore[attr-defined]
    return method
