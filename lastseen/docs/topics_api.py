"""`docs/asyncapi.json`: the topics of a Kafka log, in AsyncAPI 3, from the models of events, facts and states."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from lastseen.api.facts import FactEvent, StateEvent
from lastseen.docs.event_schemas import event_schemas
from lastseen.engine.codec import CONTENT_TYPE
from lastseen.version import __version__

_COMPONENT = "#/components/schemas/"
_TOPIC = {"topic": {"description": "The log's topic, as `kafka://host:9092/topic` names it.", "default": "sessions"}}


def asyncapi() -> str:
    """The description, as text."""
    schemas: dict[str, Any] = {}
    events = {}
    for kind, text in event_schemas().items():
        schema = json.loads(text)
        for name, inner in schema.pop("$defs", {}).items():
            schemas[name] = _hoisted(inner)
        del schema["$schema"], schema["$id"]
        schemas[kind] = _hoisted(schema)
        events[kind] = _message(kind, schema["description"], kind)
    _, others = msgspec.json.schema_components([FactEvent, StateEvent], ref_template=_COMPONENT + "{name}")
    schemas |= others
    messages = {
        **events,
        "fact": _message("lastseen.fact.{kind}.v1", "One effect of an applied record.", "FactEvent"),
        "state": _message("lastseen.state.v1", "A session's newest state.", "StateEvent"),
        "tombstone": {
            "name": "tombstone",
            "summary": "The session under this key has ended: a record without a value.",
            "payload": {"type": "null"},
            "bindings": {"kafka": {"key": {"type": "string"}}},
        },
    }
    channels = {
        "log": _channel(
            "{topic}",
            "The log: the events that services report. It is the source of truth, and is kept permanently.",
            list(events),
        ),
        "facts": _channel("{topic}.facts", "The effects of applied records, in the order of the log.", ["fact"]),
        "states": _channel("{topic}.state", "Compacted: key → newest state.", ["state", "tombstone"]),
    }
    described = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "lastseen: topics",
            "version": __version__,
            "description": "Events, facts and states of sessions. Keys are session keys, in UTF-8; values are"
            " CloudEvents 1.0 in structured JSON.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": {
            "followEvents": _operation("receive", "log", "An engine folds every record, once, in order."),
            "writeEvents": _operation("send", "log", "Any authorised service appends events; the fold judges them."),
            "publishFacts": _operation(
                "send", "facts", "The partition's owner publishes the effects of applied records."
            ),
            "publishStates": _operation("send", "states", "The partition's owner keeps the newest state by key."),
        },
        "components": {"messages": messages, "schemas": schemas},
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _hoisted(schema: Any) -> Any:
    """A schema whose references lead to the document's components instead of its own definitions."""
    if isinstance(schema, dict):
        return {
            name: value.replace("#/$defs/", _COMPONENT) if name == "$ref" else _hoisted(value)
            for name, value in schema.items()
        }
    return [_hoisted(each) for each in schema] if isinstance(schema, list) else schema


def _message(name: str, summary: str, schema: str) -> dict[str, Any]:
    return {
        "name": name,
        "summary": summary,
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": _COMPONENT + schema},
        "bindings": {"kafka": {"key": {"type": "string"}}},
    }


def _channel(address: str, description: str, messages: list[str]) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "parameters": _TOPIC,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}
