"""What the service's answers hold, read into the engine's own types where there are such. Read strictly, by type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lastseen.client.call import Response
from lastseen.client.errors import Stated, error_for
from lastseen.client.remote_session import RemotePage, RemotePlan, RemoteSession
from lastseen.engine.errors import LastseenError
from lastseen.engine.log.port import Position
from lastseen.engine.verdicts import Verdict
from lastseen.projections.bodies import Message
from lastseen.projections.explain import Explanation
from lastseen.projections.history import Entry, SessionSpan


class TouchedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was touched together with others: as much of it as such a touch tells."""

    key: str
    session_id: str
    version: int
    last_active_at_ms: int
    deadline_ms: int | None
    position: Position


class _Problem(Stated):
    status: int = 500


class _Applied(msgspec.Struct, tag_field="result", tag="applied"):
    session_id: str
    version: int
    last_active_at_ms: int
    deadline_ms: int | None
    position: Position


class _Sent(msgspec.Struct, tag_field="result", tag="sent"):
    pass


class _Refused(msgspec.Struct, tag_field="result", tag="refused"):
    problem: _Problem


class _TouchResults(msgspec.Struct):
    results: list[_Applied | _Sent | _Refused]


class _Page(msgspec.Struct):
    sessions: list[RemoteSession]
    cursor: str | None


class _Record(msgspec.Struct):
    key: str
    offset: int
    partition: int
    at_ms: int
    verdict: str
    name: str | None
    session_id: str | None
    event_id: str | None
    source: str | None
    reason: str | None


class _Records(msgspec.Struct):
    records: list[_Record]


class _Life(msgspec.Struct):
    key: str
    began_offset: int
    session_id: str
    partition: int
    began_at_ms: int
    began_by: str | None
    ended_at_ms: int | None
    ended_offset: int | None
    ended_by: str | None
    reason: str | None


class _Lives(msgspec.Struct):
    lives: list[_Life]


class _Message(msgspec.Struct):
    offset: int
    event_id: str
    at_ms: int
    value: msgspec.Raw


class _Messages(msgspec.Struct):
    messages: list[_Message]


_session = msgspec.json.Decoder(RemoteSession)
_page = msgspec.json.Decoder(_Page)
_touches = msgspec.json.Decoder(_TouchResults)
_records = msgspec.json.Decoder(_Records)
_lives = msgspec.json.Decoder(_Lives)
_messages = msgspec.json.Decoder(_Messages)
_explanation = msgspec.json.Decoder(Explanation)
_plan = msgspec.json.Decoder(RemotePlan)
_object = msgspec.json.Decoder(dict[str, Any])


def nothing(response: Response) -> None:
    """No result: an answer of 204."""
    if response.status != 204:
        raise ValueError("an answer without a body was expected")


def session_of(key: str) -> Callable[[Response], RemoteSession]:
    """The session under a key."""

    def read(response: Response) -> RemoteSession:
        session = _session.decode(response.content)
        if session.key != key:
            raise ValueError("it is about another key")
        return session

    return read


def session_or_none(key: str) -> Callable[[Response], RemoteSession | None]:
    """The session under a key, where that is no error if there is none."""
    return session_of(key)


def touched_of(key: str) -> Callable[[Response], RemoteSession | None]:
    """A session after a touch; `None` if nobody waited for it."""
    whole = session_of(key)
    return lambda response: None if response.status == 202 else whole(response)


def touches_of(keys: Sequence[str]) -> Callable[[Response], list[TouchedSession | LastseenError | None]]:
    """A result for each key of many."""

    def read(response: Response) -> list[TouchedSession | LastseenError | None]:
        results = _touches.decode(response.content).results
        if len(results) != len(keys):
            raise ValueError("there is not one result for each key")
        return [_touched(key, result) for key, result in zip(keys, results, strict=True)]

    return read


def _touched(key: str, result: _Applied | _Sent | _Refused) -> TouchedSession | LastseenError | None:
    match result:
        case _Applied():
            return TouchedSession(key=key, **msgspec.structs.asdict(result))
        case _Refused(problem):
            return error_for(problem.status, problem)
        case _:
            return None


def page(response: Response) -> RemotePage:
    """A page of a listing."""
    found = _page.decode(response.content)
    return RemotePage(found.sessions, found.cursor)


def records(response: Response) -> list[Entry]:
    """Records of a key with their verdicts."""
    found = _records.decode(response.content).records
    return [Entry(**{**msgspec.structs.asdict(each), "verdict": Verdict[each.verdict.upper()]}) for each in found]


def session_spans(response: Response) -> list[SessionSpan]:
    """How each session of a key began and ended."""
    return [SessionSpan(**msgspec.structs.asdict(each)) for each in _lives.decode(response.content).lives]


def messages(response: Response) -> list[Message]:
    """Messages, oldest first."""
    found = _messages.decode(response.content).messages
    return [Message(each.offset, each.event_id, each.at_ms, bytes(each.value)) for each in found]


def explanation(response: Response) -> Explanation:
    """Why."""
    return _explanation.decode(response.content)


def plan(response: Response) -> RemotePlan:
    """What is to end, or has ended."""
    return _plan.decode(response.content)


def plain_object(response: Response) -> dict[str, Any]:
    """Any JSON object."""
    return _object.decode(response.content)
