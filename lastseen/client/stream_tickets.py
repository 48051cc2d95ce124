"""The call that asks for a ticket, with which a browser opens an event stream."""

from __future__ import annotations

from msgspec import UNSET

from lastseen.api.paths import EVENT_TICKETS
from lastseen.api.requests import StreamTicketRequest
from lastseen.api.service_responses import StreamTicket
from lastseen.client import responses
from lastseen.client.call import Call, body
from lastseen.engine.arguments import ANY, Anything, wanted_kinds, wanted_text


def stream_ticket(*, prefix: str | Anything = ANY, kinds: tuple[str, ...] | Anything = ANY) -> Call[StreamTicket]:
    """A ticket with which an `EventSource` in a browser opens a stream of facts: see `StreamTicket.url`."""
    own, wanted = wanted_text("prefix", prefix), wanted_kinds(kinds)
    request = StreamTicketRequest(UNSET if own is None else own, ",".join(wanted) if wanted else UNSET)
    return Call("POST", EVENT_TICKETS, responses.stream_ticket, content=body(request), is_repeatable=True)
