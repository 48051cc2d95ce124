"""JSON Schemas as Markdown tables: a row a field, with its type, its bounds and what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_BOUNDS = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("minLength", "from {} characters"),
    ("maxLength", "up to {} characters"),
    ("minItems", "from {} items"),
    ("maxItems", "up to {} items"),
)
_LARGEST = 2**53 - 1
"""The bound of every whole number, said once and not in every row."""


def field_rows(schema: Schema, link: Callable[[str], str]) -> Iterator[str]:
    """The table of an object's fields; `link` makes the name of another schema a link to where it is described."""
    required = set(schema.get("required", ()))
    yield from ("| field | type | meaning |", "|---|---|---|")
    for name, field in schema.get("properties", {}).items():
        mark = "" if name in required else " (optional)"
        yield f"| `{name}`{mark} | {type_of(field, link)} | {cell(described(field))} |"


def type_of(schema: Schema, link: Callable[[str], str]) -> str:
    """The type of a value in few words: `integer`, `text or null`, a list of what."""
    if "$ref" in schema:
        return link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(type_of(each, link) for each in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"] if each is not None)
    kind = schema.get("type", "any JSON value")
    if kind == "array":
        inner = schema.get("items")
        return f"list of {type_of(inner, link)}" if inner else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {type_of(schema['additionalProperties'], link)}"
    return {"string": "text", "boolean": "true or false"}.get(kind, str(kind))


def described(schema: Schema) -> str:
    """What is said of a value, and its bounds and default."""
    inner = [schema, *schema.get("anyOf", ())]
    said = next((each["description"] for each in inner if "description" in each), "")
    bounds = [
        text.format(each[name]) for each in inner for name, text in _BOUNDS if name in each and each[name] != _LARGEST
    ]
    default = schema.get("default")
    if isinstance(default, bool):
        bounds.append(f"default `{str(default).lower()}`")
    elif isinstance(default, int) or default:
        bounds.append(f"default `{default}`")
    said = said.rstrip(".")
    return "; ".join(filter(None, [said, *bounds]))


def cell(text: str) -> str:
    """Text as it may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
