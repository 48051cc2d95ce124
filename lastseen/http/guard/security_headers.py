"""The header fields of every answer that tell browsers and caches to keep out, and refusals as answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastseen.api.problems import MEDIA_TYPE, Problem, document

if TYPE_CHECKING:
    from starlette.types import Send

Fields = list[tuple[bytes, bytes]]

_ALWAYS: Fields = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_NO_STORE = (b"cache-control", b"no-store")
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_CSP = b"content-security-policy"
_NOTHING = (_CSP, b"default-src 'none'; frame-ancestors 'none'")
_OWN_PAGES = (
    _CSP,
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    b" connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
)


def with_security_headers(fields: Fields, extra_headers: Fields, is_https: bool) -> Fields:
    """The header fields of an answer with those that every answer has, and with `more`.

    What the application says of caching and of content is left as it is.
    """
    is_html = has_csp = has_cache = False
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-type":
            is_html = value.startswith(b"text/html")
        elif lower == b"cache-control":
            has_cache = True
        elif lower == _CSP:
            has_csp = True
    out = [*fields, *_ALWAYS, *extra_headers]
    if not has_cache:
        out.append(_NO_STORE)
    if not has_csp:
        out.append(_OWN_PAGES if is_html else _NOTHING)
    if is_https:
        out.append(_HSTS)
    return out


async def refuse(send: Send, problem: Problem, is_head: bool = False) -> None:
    """Answer with a problem."""
    body = document(problem)
    fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers.items()]
    fields += [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
