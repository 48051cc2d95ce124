"""Tickets for event streams in browsers: an `EventSource` can send no token, and none may stand in an address.

A ticket stands there instead: for a minute it opens the one stream that it was made for, and nothing else. It is signed
with the digest of its caller's token, which every instance reads from the token file. So no instance has to remember
it, and it ends with its token: a token that is revoked, expired or replaced takes its tickets with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec

from lastseen.api.problems import Problem
from lastseen.auth.caller import Caller
from lastseen.http.guard.request_head import AUTHENTICATE

TICKET_MS = 60_000
"""How long a ticket opens its stream; the stream lasts longer."""
MAX_TICKET_CHARACTERS = 4_096
_PURPOSE = b"lastseen stream ticket 1\0"
_SIGNATURE_BYTES = 32


class Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a ticket is for."""

    caller: str
    """The name of the token that it was made with."""
    prefix: str
    """The stream is of keys that begin so."""
    kinds: str
    """And of facts of these kinds, separated by commas; empty: of all."""
    expires_at_ms: int


_decoder = msgspec.json.Decoder(Ticket)


def new_ticket(caller: Caller, prefix: str, kinds: str, now_ms: int) -> tuple[str, int]:
    """A ticket for a caller's stream, and when it expires. What it may hear was checked."""
    ticket = Ticket(caller.name, prefix, kinds, now_ms + TICKET_MS)
    content = msgspec.json.encode(ticket)
    text = base64.urlsafe_b64encode(_signature(caller.seed, content) + content)
    return text.rstrip(b"=").decode("ascii"), ticket.expires_at_ms


def checked_ticket(text: str, named: Callable[[str], Caller | None], now_ms: int) -> tuple[Caller, Ticket]:
    """A ticket, and who holds it. `named` knows the callers whose tokens are valid. Raises `Problem` 401."""
    try:
        if len(text) > MAX_TICKET_CHARACTERS:
            raise ticket_refused()
        decoded = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        signature, content = decoded[:_SIGNATURE_BYTES], decoded[_SIGNATURE_BYTES:]
        ticket = _decoder.decode(content)
    except (binascii.Error, UnicodeError, msgspec.DecodeError):
        raise ticket_refused() from None
    caller = named(ticket.caller)
    # Without such a caller the check takes as long, and fails.
    key = secrets.token_bytes(32) if caller is None else caller.seed
    is_right = hmac.compare_digest(_signature(key, content), signature)
    if caller is None or not is_right or now_ms >= ticket.expires_at_ms:
        raise ticket_refused()
    return caller, ticket


def ticket_in(query_string: bytes) -> str | None:
    """The ticket in a query; `None` without one, or with two."""
    if b"ticket=" not in query_string:
        return None
    found = parse_qs(query_string.decode("latin-1"), max_num_fields=100).get("ticket", [])
    return found[0] if len(found) == 1 else None


def ticket_refused() -> Problem:
    """The one answer to a ticket that does not fit, whatever is wrong with it."""
    return Problem(
        401,
        "token-refused",
        "this ticket is no good: it is older than a minute, or its token is revoked, or expired: make another",
        headers={"WWW-Authenticate": f'{AUTHENTICATE}, error="invalid_token"'},
    )


def _signature(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + content, hashlib.sha256).digest()
