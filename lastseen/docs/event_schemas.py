"""`engine/schemas/*.json`: one JSON Schema (draft 2020-12) for each stored event type, from the models."""

from __future__ import annotations

import inspect
import json
from typing import Any

from pydantic import TypeAdapter

from lastseen.engine import events
from lastseen.engine.events import STORED_EVENTS, StoredEvent, name_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def event_schemas() -> dict[str, str]:
    """Event type → its schema as text."""
    return {_type_of(kind): json.dumps(_schema(kind), indent=2) + "\n" for kind in STORED_EVENTS}


def _type_of(kind: type[StoredEvent]) -> str:
    return str(kind.__dataclass_fields__["type"].default)


def _schema(kind: type[StoredEvent]) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema(mode="validation")
    # The constructors fill in what never varies; a record must say it.
    stated = [name for name, member in schema["properties"].items() if "const" in member]
    for name in stated:
        del schema["properties"][name]["default"]
    for model in (schema, *schema["$defs"].values()):
        for member in model["properties"].values():
            member.pop("title", None)  # "Session Id" says no more than "session_id".
    required = {*schema["required"], *stated}
    described = {
        "$schema": DIALECT,
        "$id": f"urn:lastseen:{_type_of(kind)}",
        "title": _type_of(kind),
        "description": f"`{name_of(kind)}`, a CloudEvents 1.0 event in structured JSON. {_meaning(kind)}",
    }
    return described | schema | described | {"required": [name for name in schema["properties"] if name in required]}


def _meaning(kind: type[StoredEvent]) -> str:
    """What the event says: its own docstring, or that of its data where it has none."""
    own = kind.__dict__.get("__doc__") or ""
    data = kind.__dataclass_fields__["data"].type
    text = own if own and not own.startswith(f"{kind.__name__}(") else inspect.getdoc(_named(data)) or ""
    return " ".join(text.split())


def _named(data: Any) -> Any:
    return getattr(events, data) if isinstance(data, str) else data
