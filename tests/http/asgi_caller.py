"""Calls an ASGI application by hand: every byte of the request is the test's, and the answer is seen as it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.patience import eventually_async

Fields = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    """What an application has answered so far."""

    status: int = 0
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    is_complete: bool = False

    def __getitem__(self, name: str) -> str:
        """A header field, in any spelling; it must be there once."""
        (value,) = [value for key, value in self.fields if key.lower() == name.lower().encode()]
        return value.decode("latin-1")

    def __contains__(self, name: str) -> bool:
        return any(key.lower() == name.lower().encode() for key, _ in self.fields)

    def problem(self) -> dict[str, Any]:
        """The answer as problem details, which it must be."""
        assert self["content-type"] == "application/problem+json"
        found: dict[str, Any] = msgspec.json.decode(self.body)
        assert found["status"] == self.status
        return found

    @property
    def slug(self) -> str:
        """The kind of problem."""
        return str(self.problem()["type"]).removeprefix("/problems/")


def request(
    method: str = "GET", path: str = "/v1/sessions", *, query: bytes = b"", fields: Iterable[tuple[str, str]] = (),
    host: str | None = "127.0.0.1:8321", scheme: str = "http", token: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The scope of a request."""
    head = [] if host is None else [("host", host)]
    if token is not None:
        head.append(("authorization", f"Bearer {token}"))
    head += fields
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
        "scheme": scheme, "http_version": "1.1", "root_path": "",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in head],
    }  # fmt: skip


async def call(app: Any, scope: dict[str, Any], body: Iterable[bytes] | AsyncIterator[bytes] = ()) -> Answer:
    """Send a request, its body in these chunks; returns when the application has returned."""
    answer = Answer()
    await app(scope, receiver(body), sender(answer))
    return answer


def receiver(body: Iterable[bytes] | AsyncIterator[bytes]) -> Callable[[], Any]:
    """The receiving side of a request whose caller hangs up after its body."""

    async def messages() -> AsyncIterator[dict[str, Any]]:
        if isinstance(body, AsyncIterator):
            async for chunk in body:
                yield {"type": "http.request", "body": chunk, "more_body": True}
        else:
            for chunk in body:
                yield {"type": "http.request", "body": chunk, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}
        while True:
            yield {"type": "http.disconnect"}

    return messages().__anext__


def sender(answer: Answer) -> Callable[[dict[str, Any]], Any]:
    """The sending side, which writes down what is sent and checks its order."""

    async def send(message: dict[str, Any]) -> None:
        assert not answer.is_complete, f"{message} after the end of the answer"
        if message["type"] == "http.response.start":
            assert answer.status == 0, "an answer begins once"
            answer.status, answer.fields = message["status"], list(message["headers"])
        else:
            assert answer.status, "a body before the head"
            answer.body += message.get("body", b"")
            answer.is_complete = not message.get("more_body", False)

    return send


def once(app: Any, scope: dict[str, Any], body: Iterable[bytes] = ()) -> Answer:
    """`call`, in an event loop of its own."""
    return asyncio.run(call(app, scope, body))


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until the condition holds."""
    await eventually_async(condition, every_s=0)
