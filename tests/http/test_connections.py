"""Connections of callers that want more than their share, against a real server: others are served.

What is checked are counts and states, not durations.
"""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from test_greedy_callers import connected
from test_guard_server import PATIENT, Slow, answered, head, is_hung_up, serving

from lastseen.auth.token_file import TokenFile
from lastseen.engine.arguments import ANY
from lastseen.http.guard.connections import Admission, Connections, address_group
from tests.patience import PATIENCE_S, eventually
from tests.service.running import Running

FEW = replace(PATIENT, max_connections=16)


class Held:
    """An application that answers probes and POST at once, and holds each GET until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = False

    @contextmanager
    def released(self) -> Iterator[None]:
        """At the end, let all go on, also where the test fails: the server waits for them."""
        try:
            yield
        finally:
            self.may_end = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        size = len((await receive())["body"])
        if scope["method"] == "GET" and scope["path"] == "/":
            self.begun += 1
            while not self.may_end:
                await asyncio.sleep(0.005)  # waits: for the test, which sets it from its own thread
        body = b"%d" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("sent", [b"", b"GET / HT", head("/", "Content-Length: 10", method="POST") + b"x"])
def test_sockets_whose_request_does_not_arrive_give_way(sent: bytes) -> None:
    with serving(Slow(), FEW) as port, connected(port, 3 * FEW.max_connections) as idle:
        for each in idle:
            each.sendall(sent)
        with connected(port, 1) as (caller,):
            for _ in range(3):
                caller.sendall(head())
                assert answered(caller)[0] == 200, "one whose request has arrived is served"
        assert is_hung_up(idle[0]), "the oldest gave way"


def test_where_all_are_served_only_probes_find_a_place() -> None:
    app = Held()
    with serving(app, FEW) as port, app.released():
        with connected(port, 12) as busy:  # three quarters: all are of one address
            for each in busy:
                each.sendall(head())
            eventually(lambda: app.begun == len(busy), "all are served", every_s=0.005)
            with connected(port, 2) as (caller, probe):
                caller.sendall(head())
                status, body = answered(caller)
                assert (status, json.loads(body)["type"]) == (503, "/problems/too-many-connections")
                probe.sendall(head("/livez"))
                assert answered(probe)[0] == 200
                assert is_hung_up(probe), "the place is for the next probe"
            with connected(port, 5) as idle, connected(port, 1) as (probe,):
                probe.sendall(head("/readyz?x=1"))
                assert answered(probe)[0] == 200, "idle sockets give way there too"
                idle[-1].sendall(head())
                assert answered(idle[-1])[0] == 503, "a place of the reserve never becomes another"
            app.may_end = True
            assert [answered(each)[0] for each in busy] == [200] * len(busy), "none of them was closed"
        with connected(port, 1) as (later,):
            later.sendall(head())
            assert answered(later)[0] == 200


class Sock:
    """A connection for the bound alone."""

    def __init__(self, waits: bool) -> None:
        self.waits, self.is_closed = waits, False

    def is_waiting(self) -> bool:
        return self.waits

    def give_way(self) -> None:
        self.is_closed = True


def test_the_address_with_most_connections_gives_way_first() -> None:
    bound = Connections(16)
    few, many = [Sock(True) for _ in range(4)], [Sock(True) for _ in range(40)]
    assert {bound.admit(each, "10.0.0.1") for each in few} == {Admission.ANY}
    assert {bound.admit(each, "10.0.0.2") for each in many} == {Admission.ANY}
    assert len(bound) == 16
    assert not any(each.is_closed for each in few)
    assert [each.is_closed for each in many] == [True] * 28 + [False] * 12
    for each in (*few, *many, *many):
        bound.leave(each)
    assert len(bound) == 0
    busy = [Sock(False) for _ in range(30)]
    found = [bound.admit(each, f"10.0.0.{number}") for number, each in enumerate(busy)]
    assert found == [Admission.ANY] * 16 + [Admission.PROBES] * 2 + [Admission.NONE] * 12
    assert len(bound) == 18
    for each in busy:
        bound.leave(each)
    assert not bound._places._by_address, "addresses are not collected"


def test_an_address_whose_connections_are_all_busy_is_left_alone() -> None:
    bound = Connections(16)
    busy, idle = [Sock(False) for _ in range(12)], [Sock(True) for _ in range(4)]
    for each in (*busy, *idle):
        address = "10.0.0.1" if each in busy else "10.0.0.2"
        assert bound.admit(each, address) is Admission.ANY
    assert bound.admit(Sock(True), "10.0.0.3") is Admission.ANY
    assert [each.is_closed for each in idle] == [True, False, False, False]
    assert bound.admit(Sock(True), "10.0.0.1") is Admission.PROBES, "it has its share"
    for _ in range(20):
        assert bound.admit(Sock(True), "10.0.0.1") is Admission.PROBES, "in turn with its own"
    assert len(bound) == 18


def test_a_machine_with_many_addresses_of_ipv6_counts_once() -> None:
    assert address_group("2001:db8::1") == address_group("2001:db8::ffff:1") != address_group("2001:db8:0:1::1")
    assert address_group("::ffff:10.0.0.1") == address_group("10.0.0.1") == "10.0.0.1"


def test_idle_sockets_without_a_token_keep_no_caller_out(tmp_path: Path) -> None:
    secret, _ = TokenFile(tmp_path / "tokens.json").create("operator", ["read"], ANY, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    roomy = soft if soft == resource.RLIM_INFINITY else max(soft, 1_024)  # the callers are in this process
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        service = Running(tmp_path, "--log", "sqlite:///log.db", "--port", "0", "--token-file", "tokens.json")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (roomy, hard))
    with service:
        port = urlsplit(service.address()).port
        assert port is not None
        address = f"http://127.0.0.1:{port}"
        with connected(port, 700), httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
            assert client.get("/livez").status_code == 200
            bearer = {"Authorization": f"Bearer {secret}"}
            assert client.get("/v1/sessions", headers=bearer).status_code == 200
