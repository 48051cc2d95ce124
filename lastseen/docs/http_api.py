"""`docs/openapi.json`: the HTTP API as the application describes it."""

from __future__ import annotations

import json


def openapi() -> str:
    """The description, as text."""
    from lastseen.embedded.opening import open_engine
    from lastseen.http.application import build
    from lastseen.http.routes.health import router as health
    from lastseen.http.routes.metrics import router as metrics

    with open_engine("memory://", background=False) as engine:
        app = build(engine, operations=[health(engine), metrics(engine)])
        return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"
