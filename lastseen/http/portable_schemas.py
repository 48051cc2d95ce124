"""JSON schemas in the forms that client generators read.

What msgspec writes is right, and says the same. But openapi-python-client generates nothing at all where it meets
`items: false` or an `enum` of `true`, and openapi-typescript takes an object without named properties for an empty one.
"""

from __future__ import annotations

from typing import Any


def portable(schema: Any) -> Any:
    """The same schema, and those within it, in the plainer form."""
    if isinstance(schema, list):
        return [portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: portable(each) for name, each in schema.items()}
    if found.get("enum") == [True]:
        del found["enum"]
        found |= {"type": "boolean", "const": True}
    elements = found.get("prefixItems")
    if found.get("items") is False and elements and all(each == elements[0] for each in elements):
        del found["prefixItems"]
        found |= {"items": elements[0], "minItems": len(elements), "maxItems": len(elements)}
    if found.get("type") == "object" and not found.keys() & {"properties", "additionalProperties"}:
        found["additionalProperties"] = True
    return found


def without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with its defaults said in words: openapi-typescript takes a field that has one for one
    that must be given, and a request would have to name every field."""
    properties = {name: dict(member) for name, member in schema.get("properties", {}).items()}
    for member in properties.values():
        default = member.pop("default", None)
        if default not in (None, False):
            member["description"] = f"{member.get('description', '')} Default: {default}.".strip()
    return schema | ({"properties": properties} if properties else {})
