"""Where a client's calls go when several instances share the sessions, and what they ask for."""

from __future__ import annotations

import pytest
from driven import KEY, SECRET, Driven, owned_by, session

from lastseen.client import commands as calls
from lastseen.client import reads
from lastseen.client.call import Response
from lastseen.engine.errors import NotOwner, OwnerState
from lastseen.engine.partitioner import partition_of

# ── owners ──


def test_the_owners_address_is_followed() -> None:
    driven = Driven(calls.rotate(KEY), [owned_by("http://two:9000"), session()])
    assert [str(sent.address) for sent in driven.sent] == ["http://one:8321", "http://two:9000"]
    assert driven.pauses == []
    assert all(sent.headers["Authorization"] == f"Bearer {SECRET}" for sent in driven.sent)


def test_an_address_without_a_scheme_has_ours() -> None:
    driven = Driven(reads.get(KEY), [owned_by("two:9000"), session()], address="https://one/base")
    assert [str(sent.address) for sent in driven.sent] == ["https://one:443/base", "https://two:9000/base"]
    assert driven.sent[1].path == "/base/v1/sessions/telegram%3A42"


def test_owners_that_name_each_other_are_left_after_a_while() -> None:
    script = [owned_by("http://two:1"), owned_by("http://one:1"), owned_by("http://one:1"), session()]
    driven = Driven(reads.get(KEY), script)
    assert driven.result.version == 3
    assert len(driven.pauses) == 1, "each is asked once, then given a moment"


def test_an_owner_that_is_not_known_yet_is_waited_for() -> None:
    driven = Driven(calls.rotate(KEY), [owned_by(None), owned_by(None), session()])
    assert driven.result.version == 3
    assert len(driven.pauses) == 2


# ── reading one's own writes ──


def test_what_was_seen_is_asked_for() -> None:
    first = Driven(calls.touch(KEY), [session()])
    connection = first.connection
    connection.seen.add("2:5,0:3")
    connection.seen.add("nonsense, 1:1x, :")
    second = Driven(reads.get(KEY), [session()], connection=connection)
    assert second.sent[0].query == {"min_position": "2:5,0:7"}
    assert "min_position" not in Driven(calls.touch(KEY), [session()], connection=connection).sent[0].query
    empty_page = Response(200, {}, b'{"sessions":[],"cursor":null}')
    listed = Driven(reads.list(), [empty_page], connection=connection)
    assert listed.sent[0].query == {"sort": "lru", "limit": "100", "min_position": "2:5,0:7"}


def test_it_need_not_be() -> None:
    connection = Driven(calls.touch(KEY), [session()], reads_own_writes=False).connection
    assert Driven(reads.get(KEY), [session()], connection=connection).sent[0].query == {}


def test_no_more_is_asked_for_than_the_service_takes() -> None:
    connection = Driven(calls.touch(KEY), [session()]).connection
    connection.seen.add(",".join(f"{n}:{10**17}" for n in range(200)))
    (sent,) = Driven(reads.get(KEY), [session()], connection=connection).sent
    assert sent.query["min_position"].count(",") == 99


OTHER = next(f"user:{number}" for number in range(100) if partition_of(f"user:{number}", 12) != partition_of(KEY, 12))


def test_of_one_key_only_its_own_partition_is_asked_for() -> None:
    mine, other = partition_of(KEY, 12), partition_of(OTHER, 12)
    connection = Driven(calls.touch(KEY), [session({"position": f"{mine}:7", "partitions": "12"})]).connection
    connection.seen.add(f"{other}:9")
    for call in (reads.get(KEY), reads.as_of(KEY, 5), reads.messages_as_of(KEY, 5)):
        driven = Driven(call, [Response(200, {}, b'{"messages":[]}')], connection=connection)
        assert driven.sent[0].query["min_position"] == f"{mine}:7"
    for make in (reads.history, reads.session_spans, reads.explain, reads.messages):
        (sent,) = Driven(make(OTHER), [Response(200, {}, b"{}")], connection=connection).sent
        assert sent.query["min_position"] == f"{other}:9"
    unseen = next(key for n in range(100) if partition_of(key := f"user:{n}", 12) not in (mine, other))
    assert "min_position" not in Driven(reads.get(unseen), [session()], connection=connection).sent[0].query
    (sent,) = Driven(reads.list(), [Response(200, {}, b'{"sessions":[],"cursor":null}')], connection=connection).sent
    assert sent.query["min_position"] == f"{mine}:7,{other}:9"


def test_a_number_of_partitions_that_makes_no_sense_is_ignored() -> None:
    connection = Driven(calls.touch(KEY), [session({"position": "0:7", "partitions": "none"})]).connection
    connection.seen.add("2:5", "0")
    assert Driven(reads.get(KEY), [session()], connection=connection).sent[0].query == {"min_position": "0:7,2:5"}


@pytest.mark.parametrize("owner", [OwnerState.VACANT, OwnerState.LOADING, OwnerState.UNKNOWN, OwnerState.UNNAMED])
def test_what_is_known_of_the_owner_comes_back_in_the_error(owner: OwnerState) -> None:
    refused = owned_by(None, owner)
    assert refused.headers["retry-after"] == "1"
    driven = Driven(reads.get(KEY), [refused], timeout_s=0.01)
    assert isinstance(driven.error, NotOwner)
    assert (driven.error.owner, driven.error.address) == (owner, None)
