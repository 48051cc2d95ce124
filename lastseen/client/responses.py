"""The bodies of the service's responses, decoded strictly, as the engine's own types where there are any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from lastseen.api import responses, service_responses
from lastseen.api.responses import AppliedTouch, RefusedTouch, Session
from lastseen.api.service_responses import PrunePlan
from lastseen.client.call import Response
from lastseen.client.errors import error_for
from lastseen.engine.errors import LastseenError
from lastseen.engine.verdicts import Verdict
from lastseen.projections.bodies import Message
from lastseen.projections.explain import Explanation
from lastseen.projections.history import Entry
from lastseen.projections.session_spans import SessionSpan, SpanPage


class TouchedSession(AppliedTouch, frozen=True, kw_only=True):
    """A session that was touched together with others, as far as the response describes it."""

    key: str


class RemotePage(NamedTuple):
    """One page of a listing; `cursor` fetches the next, and is `None` on the last."""

    sessions: list[Session]
    cursor: str | None

    def __bool__(self) -> bool:
        return bool(self.sessions)


_session = msgspec.json.Decoder(Session)
_page = msgspec.json.Decoder(responses.SessionPage)
_touches = msgspec.json.Decoder(responses.TouchResults)
_bulk = msgspec.json.Decoder(responses.BulkResults)
_history = msgspec.json.Decoder(responses.HistoryPage)
_ended = msgspec.json.Decoder(responses.EndedPage)
_messages = msgspec.json.Decoder(responses.Messages)
_explanation = msgspec.json.Decoder(responses.Explanation)
_plan = msgspec.json.Decoder(service_responses.PrunePlan)
_ticket = msgspec.json.Decoder(service_responses.StreamTicket)
_object = msgspec.json.Decoder(dict[str, Any])


def stream_ticket(response: Response) -> service_responses.StreamTicket:
    """A ticket for an event stream."""
    return _ticket.decode(response.content)


def nothing(response: Response) -> None:
    """No result: a response of status 204."""
    if response.status != 204:
        raise ValueError("a response without a body was expected")


def session_of(key: str) -> Callable[[Response], Session]:
    """The session under a key."""

    def read(response: Response) -> Session:
        session = _session.decode(response.content)
        if session.key != key:
            raise ValueError("it names another key")
        return session

    return read


def session_or_none(key: str) -> Callable[[Response], Session | None]:
    """The session under a key, for calls that return `None` if there is none."""
    return session_of(key)


def touched_of(key: str) -> Callable[[Response], Session | None]:
    """A session after a touch; `None` if the touch did not wait for it."""
    whole = session_of(key)
    return lambda response: None if response.status == 202 else whole(response)


def touches_of(keys: Sequence[str]) -> Callable[[Response], list[TouchedSession | LastseenError | None]]:
    """A result for each key of many."""

    def read(response: Response) -> list[TouchedSession | LastseenError | None]:
        results = _touches.decode(response.content).results
        if len(results) != len(keys):
            raise ValueError("it does not have one result for each key")
        return [_touched(key, result) for key, result in zip(keys, results, strict=True)]

    return read


def _touched(key: str, result: responses.TouchResult) -> TouchedSession | LastseenError | None:
    if isinstance(result, AppliedTouch):
        return TouchedSession(
            result.session_id, result.version, result.last_active_at_ms, result.deadline_ms, result.position, key=key
        )
    return error_for(result.problem.status, result.problem) if isinstance(result, RefusedTouch) else None


def bulk_errors(count: int) -> Callable[[Response], list[LastseenError | None]]:
    """For each of `count` sessions why it was refused, or `None`."""

    def read(response: Response) -> list[LastseenError | None]:
        results = _bulk.decode(response.content).results
        if len(results) != count:
            raise ValueError("there is not one result for each session")
        return [
            None if result.problem is UNSET else error_for(result.problem.status, result.problem) for result in results
        ]

    return read


def bulk_results(response: Response) -> responses.BulkResults:
    """What a bulk command did to the sessions that it selected."""
    return _bulk.decode(response.content)


def page(response: Response) -> RemotePage:
    """A page of a listing."""
    found = _page.decode(response.content)
    return RemotePage(found.sessions, found.cursor)


def records(response: Response) -> list[Entry]:
    """Records of a key with their verdicts."""
    found = _history.decode(response.content).records
    if found is UNSET:
        raise ValueError("it has no records")
    return [Entry(**{**msgspec.structs.asdict(each), "verdict": Verdict[each.verdict.upper()]}) for each in found]


def session_spans(response: Response) -> list[SessionSpan]:
    """How each session of a key began and ended."""
    found = _history.decode(response.content).lives
    if found is UNSET:
        raise ValueError("it has no lives")
    return [_span(each) for each in found]


def ended_page(response: Response) -> SpanPage:
    """A page of ended sessions."""
    found = _ended.decode(response.content)
    return SpanPage([_span(each) for each in found.sessions], found.cursor)


def _span(found: responses.SessionSpan) -> SessionSpan:
    return SessionSpan(**{name: getattr(found, name) for name in SessionSpan._fields})


def messages(response: Response) -> list[Message]:
    """Messages, oldest first."""
    found = _messages.decode(response.content).messages
    return [Message(each.offset, each.event_id, each.at_ms, bytes(each.value)) for each in found]


def explanation(response: Response) -> Explanation:
    """Why a session lives or ended."""
    return Explanation(**msgspec.structs.asdict(_explanation.decode(response.content)))


def plan(response: Response) -> PrunePlan:
    """The sessions that would end, or have ended."""
    return _plan.decode(response.content)


def plain_object(response: Response) -> dict[str, Any]:
    """Any JSON object."""
    return _object.decode(response.content)
