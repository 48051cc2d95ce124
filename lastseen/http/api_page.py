"""The API as a page for people, made from its own description: no script, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; padding: .75rem; background: color-mix(in srgb, currentcolor 8%, transparent); }
nav ul { columns: 16rem; padding-left: 1.25rem; }
h3 { margin: 2rem 0 .25rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
"""
_HEAD = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>{title}</title>'
    '<link rel="stylesheet" href="/docs/style.css"></head><body>\n<h1>{title}</h1>\n'
)
_END = "</body></html>\n"
LINKS: Mapping[str, str] = {
    "/docs": "the API, for people",
    "/openapi.json": "the API, for programs (OpenAPI 3.1)",
    "/v1/sessions": "live sessions",
    "/v1/statistics": "figures",
    "/v1/events/stream": "events, as they happen",
    "/metrics": "metrics, for Prometheus",
    "/livez": "whether the process answers",
    "/readyz?verbose": "whether this instance is ready",
    "/problems/": "what each error means",
}
"""Where `/` leads to."""


def index_page(version: str) -> str:
    """What stands at `/`, for a browser."""
    rows = "".join(
        f'<tr><td><a href="{escape(path)}"><code>{escape(path)}</code></a></td><td>{escape(what)}</td></tr>\n'
        for path, what in LINKS.items()
    )
    return f"{_HEAD.format(title='lastseen ' + escape(version))}<table>\n{rows}</table>\n{_END}"


def api_page(described: Mapping[str, Any]) -> str:
    """Every operation of an OpenAPI document: what it does, takes and gives."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    info = described["info"]
    parts = [
        _HEAD.format(title=f"lastseen {escape(str(info['version']))}: the API"),
        _prose(str(info.get("description", ""))),
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>\n<nav><ul>\n',
        *(
            f'<li><a href="#{escape(operation["operationId"])}">{escape(operation["summary"])}</a></li>\n'
            for _, _, operation in operations
        ),
        "</ul></nav>\n",
    ]
    for method, path, operation in operations:
        parts += _operation(method, path, operation)
    return "".join([*parts, _END])


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f'<h3 id="{escape(operation["operationId"])}">{escape(operation["summary"])}</h3>\n'
        f"<p><code>{method} {escape(path)}</code></p>\n{_prose(operation.get('description', ''))}"
    )
    rows = [
        f"<tr><td><code>{escape(part['name'])}</code></td><td>{escape(part['in'])}</td>"
        f"<td>{_inline(part.get('description') or part.get('schema', {}).get('description', ''))}</td></tr>\n"
        for part in operation.get("parameters", ())
    ]
    if rows:
        yield f"<table>\n<tr><th>parameter</th><th>in</th><th></th></tr>\n{''.join(rows)}</table>\n"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" in body:
        yield f"<p>Body, for example:</p>\n<pre>{escape(json.dumps(body['example'], ensure_ascii=False))}</pre>\n"
    good = [(status, each) for status, each in operation["responses"].items() if status < "4"]
    yield "".join(f"<p>{escape(status)}: {_inline(each['description'])}</p>\n" for status, each in good)


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(each)}</p>\n" for each in text.split("\n\n") if each.strip())


def _inline(text: str) -> str:
    """A line of Markdown, of which only code is used."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
