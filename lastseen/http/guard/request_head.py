"""What the guard reads of a request's head, in one pass over its fields, and the bounds it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastseen.api.problems import Problem
from lastseen.http.guard.limits import Limits

_ONCE = frozenset([b"host", b"authorization", b"content-length", b"origin"])
_READ = _ONCE | {b"content-encoding", b"transfer-encoding"}
_SCHEME = b"bearer "
MAX_TOKEN_CHARACTERS = 256
AUTHENTICATE = 'Bearer realm="lastseen"'


def read_head(scope: Mapping[str, Any], limits: Limits) -> dict[bytes, bytes]:
    """The fields that the guard goes by. Raises `Problem` 400, 414, 415 or 431."""
    fields = scope["headers"]
    url_bytes = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
    if url_bytes > limits.max_head_bytes:
        raise Problem(414, "url-too-long", f"the address of a request may take {limits.max_head_bytes} bytes")
    head_bytes = url_bytes
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        head_bytes += len(name) + len(value) + 4
        if name in _READ:
            if name in found and name in _ONCE:
                raise Problem(400, "repeated-field", f"the field {name.decode()} may be sent only once in a request")
            found[name] = value
    if len(fields) > limits.max_head_fields or head_bytes > limits.max_head_bytes:
        raise Problem(
            431,
            "head-too-large",
            f"the head of a request may have {limits.max_head_fields} fields and {limits.max_head_bytes} bytes",
        )
    if found.get(b"content-encoding", b"identity").lower() != b"identity":
        # Nothing here unpacks: a few packed bytes could become any number.
        raise Problem(
            415,
            "packed-body",
            "send the body as it is, without Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )
    return found


def body_bytes(head: Mapping[bytes, bytes]) -> int | None:
    """How many bytes of body were announced; `None` where they come in chunks. Raises `Problem` 400."""
    if b"transfer-encoding" in head:
        return None
    declared = head.get(b"content-length", b"0")
    if not declared.isdigit() or len(declared) > 19:
        raise Problem(400, "bad-length", "Content-Length must be a whole number of bytes")
    return int(declared)


def bearer_token(head: Mapping[bytes, bytes]) -> bytes:
    """The token of a request: from its header, and from nowhere else. Raises `Problem` 401."""
    field = head.get(b"authorization")
    if field is None:
        raise Problem(
            401,
            "token-missing",
            "send a token in a header, as Authorization: Bearer <token>; `lastseen token create` makes one",
            headers={"WWW-Authenticate": AUTHENTICATE},
        )
    secret = field[len(_SCHEME) :].strip()
    if field[: len(_SCHEME)].lower() != _SCHEME or not secret or len(secret) > MAX_TOKEN_CHARACTERS:
        raise token_refused()
    return secret


def token_refused() -> Problem:
    """The one answer to a token that does not fit, whatever is wrong with it."""
    return Problem(
        401,
        "token-refused",
        "this token is unknown, revoked or expired",
        headers={"WWW-Authenticate": f'{AUTHENTICATE}, error="invalid_token"'},
    )
