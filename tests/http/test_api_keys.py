"""Keys in paths: every legal key, through a real server and a real client, names its own session and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from served import Served

import lastseen
from lastseen import Engine
from lastseen.api.paths import path_of, segment_of
from lastseen.engine.codec import check_key
from lastseen.http.key_paths import key_in

Problem = Callable[[httpx.Response], dict[str, Any]]

VERBS = ["touch", "suspend", "resume", "hold", "release", "close", "rotate", "history", "explain", "messages"]
legal = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=512)
awkward = st.lists(
    st.sampled_from(["/", "%", "%2F", "%2e", "?", "#", "..", ".", "+", " ", "&", ";", ":", "\\", "é", "💬", *VERBS]),
    min_size=1, max_size=8,
).map("".join)  # fmt: skip
keys = st.one_of(legal, awkward)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, httpx.Client]]:
    """One server for all examples."""
    folder: Path = tmp_path_factory.mktemp("keys")
    with (
        lastseen.open_engine(f"sqlite:///{folder / 'log.db'}", idle_ttl=None) as engine,
        Served(engine) as served,
        served.client() as client,
    ):
        # The thread that touches together starts with the first touch, and lives as long as the server.
        engine.open("first")
        client.post("/v1/sessions/first/touch")
        yield engine, client


@given(keys)
@example("a/touch")
@example("touch")
@example("/")
@example("//touch/")
@example("%2F")
@example("a%2Ftouch")
@example(".")
@example("..")
@example("../../v1/sessions")
@example("?x=1#y")
@example("💬" * 512)
def test_a_segment_is_the_key_and_nothing_else(key: str) -> None:
    segment = segment_of(key)
    assert key_in(segment) == key
    assert segment.isascii()
    assert not set(segment) & set("/?#"), "nothing that ends a segment"
    assert segment not in (".", "..")


@settings(max_examples=150)
@given(keys)
@example("a/touch")
@example("touch")
@example("//touch/")
@example("%2Ftouch")
@example("?x=1#y")
@example("💬" * 512)
def test_every_legal_key_names_its_session(place: tuple[Engine, httpx.Client], key: str) -> None:
    engine, client = place
    check_key(key)
    made = client.post("/v1/sessions", json={"key": key})
    assert made.json()["key"] == key
    where = made.headers.get("location") or path_of(key)
    before = engine.get(key)
    assert before is not None
    assert client.get(where).json()["session_id"] == before.session_id
    touched = client.post(f"{where}/touch")
    assert (touched.status_code, touched.json()["key"], touched.json()["version"]) == (200, key, before.version + 1)
    assert client.post(f"{where}/hold", json={"holder": "job"}).json()["key"] == key


def test_dots_reach_the_server_written_out(place: tuple[Engine, httpx.Client]) -> None:
    engine, client = place
    for key in (".", ".."):
        engine.open(key)
        assert client.get(path_of(key)).json()["key"] == key


def test_a_verb_is_a_segment_of_its_own(place: tuple[Engine, httpx.Client], problem: Problem) -> None:
    engine, client = place
    engine.open("room")
    engine.open("room/touch")
    assert client.post("/v1/sessions/room/touch").json()["key"] == "room"
    assert client.post("/v1/sessions/room%2Ftouch/touch").json()["key"] == "room/touch"
    assert client.get("/v1/sessions/room%2Ftouch").json()["key"] == "room/touch"
    assert problem(client.get("/v1/sessions/room/room/touch"))["status"] == 404


@pytest.mark.parametrize("segment", ["%FF", "%C3", "a%00b", "a%0Ab", "%7F"])
def test_what_can_be_no_key_is_refused(place: tuple[Engine, httpx.Client], problem: Problem, segment: str) -> None:
    _, client = place
    assert problem(client.get(f"/v1/sessions/{segment}"))["type"] == "/problems/invalid-key"
    assert problem(client.post(f"/v1/sessions/{segment}/touch"))["type"] == "/problems/invalid-key"
