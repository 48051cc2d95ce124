"""Where a client sends its token: to the addresses it has, and to owners that they name, by rules that it was given."""

from __future__ import annotations

from typing import Any

import pytest
from driven import KEY, SECRET, Driven, owned_by, session

from lastseen import AsyncClient, Client
from lastseen.client import reads
from lastseen.client.call import Response
from lastseen.engine.errors import InvalidSetting, NotOwner, OwnerState


def named(owner: str, by: str = "https://one:1", *hosts: str) -> Driven:
    """A call that a 421 sends to an owner, which would answer it."""
    return Driven(reads.get(KEY), [owned_by(owner), session()], address=by, owner_hosts=hosts, is_whole=False)


@pytest.mark.parametrize(
    ("owner", "by", "hosts"),
    [
        ("https://one:9", "https://one:1", ()),
        ("one:9", "https://one:1", ()),
        ("two:9", "https://one:1,https://two:9", ()),
        ("https://two:9", "https://one:1", ("two",)),
        ("https://TWO:9", "https://one:1", ("Two",)),
        ("https://n7.sessions.svc:9", "https://one:1", ("*.sessions.svc",)),
        ("https://10.1.2.3:9", "https://one:1", ("10.1.0.0/16",)),
        ("https://[fd00::7]:9", "https://one:1", ("fd00::/8",)),
        ("https://two:9", "http://one:1", ("two",)),
        ("https://anywhere.example", "https://one:1", ("*",)),
    ],
)
def test_an_owner_is_asked_where_a_rule_allows_it(owner: str, by: str, hosts: tuple[str, ...]) -> None:
    driven = named(owner, by, *hosts)
    assert driven.error is None
    assert len(driven.sent) == 2


@pytest.mark.parametrize(
    ("owner", "by", "hosts"),
    [
        ("https://evil.example", "https://one:1", ()),
        ("https://one.evil.example", "https://one:1", ()),
        ("https://evil-two", "https://one:1", ("two",)),
        ("https://sessions.svc", "https://one:1", ("*.sessions.svc",)),
        ("https://evilsessions.svc", "https://one:1", ("*.sessions.svc",)),
        ("https://10.2.0.1", "https://one:1", ("10.1.0.0/16",)),
        ("https://10.1.evil.example", "https://one:1", ("10.1.0.0/16",)),
        ("http://one:9", "https://one:1", ()),
        ("http://two", "https://one:1", ("two", "*")),
        ("https://one:1@evil.example", "https://one:1", ()),
        ("https://evil.example/https://one:1", "https://one:1", ()),
        ("https://u:p@one", "https://one:1", ("*",)),
        ("ftp://one", "https://one:1", ("*",)),
        ("javascript:alert(1)", "https://one:1", ("*",)),
        ("https://", "https://one:1", ("*",)),
        ("https://one/?q", "https://one:1", ("*",)),
    ],
)
def test_neither_call_nor_token_goes_elsewhere(owner: str, by: str, hosts: tuple[str, ...]) -> None:
    driven = Driven(reads.get(KEY), lambda _: owned_by(owner), 1, address=by, owner_hosts=hosts)
    assert isinstance(driven.error, NotOwner)
    assert driven.error.owner is OwnerState.KNOWN
    assert "owner_hosts" in str(driven.error)
    assert driven.asked == ["one"]
    assert driven.pauses == [], "waiting does not change the rule"


def test_the_other_addresses_are_asked_when_the_owner_is_named_by_another_name() -> None:
    driven = Driven(
        reads.get(KEY),
        [owned_by("10.0.0.2:8321"), session()],
        address="http://one:8321,http://two:8321",
        owner_hosts=(),
    )
    assert (driven.error, driven.asked) == (None, ["one", "two"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_http_redirect_is_not_followed(status: int) -> None:
    moved = Response(status, {"location": "https://one:1/elsewhere"}, b"")
    driven = Driven(reads.get(KEY), [moved], address="https://one:1")
    assert len(driven.sent) == 1
    assert driven.error is not None
    assert SECRET not in str(driven.error)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("hosts", ["two words", ["*two"], ["10.0.0.0/99"], [7], 7, [""], ["http://two"], ["*."]])
def test_a_rule_that_makes_no_sense_is_refused(kind: Any, hosts: Any) -> None:
    with pytest.raises(InvalidSetting, match="owner_hosts"):
        kind("http://one", SECRET, owner_hosts=hosts)
