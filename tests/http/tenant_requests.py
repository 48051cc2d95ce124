"""Requests that a tenant may think of to get at another one's sessions: over every route that the description names."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote

from asgi_caller import request
from tenant_worlds import NAMES, OURS

THEIRS = "tenantB:"
EDGES = [
    "tenantA", "tenant", "t", "", "TENANTA:plain", "tenantA", "ｔｅｎａｎｔA:plain", "tenantA;plain", " tenantA:plain",
    "tenantA:../tenantB:plain", "tenantB:plain/../../tenantA:plain", "tenantA%3Aplain", "tenantA:plain\x00", "*", "%",
    "tenantA:plain/touch", "tenantB:plain/touch", "tenantA:/../../touches", ".", "..", "\u202etenantA:",
]  # fmt: skip
RAW = [
    "tenantA:plain/../tenantB:plain", "tenantA%3Aplain/..%2FtenantB%3Aplain", "%74enantB%3Aplain", "tenantB%253Aplain",
    "tenantB%C0%BAplain", "tenantB%FFplain", "%00", "tenantA%3Aplain%00tenantB%3Aplain", "tenantB:plain;", "%2e%2e",
    "tenantA:plain//tenantB:plain", "tenantB:plain/", "/tenantB:plain", "tenantA:plain%2Ftouch%2F..%2FtenantB:plain",
]  # fmt: skip

UNDESCRIBED = ("/metrics", "/livez", "/readyz", "/openapi.json")


class Requests:
    """Draws requests from a seed. Learns cursors, ids and places from the answers, as a caller would."""

    def __init__(self, seed: int, description: dict[str, Any], foreign_ids: list[str]) -> None:
        self._draw = random.Random(seed)
        self._schemas = description["components"]["schemas"]
        self._operations = [
            (method.upper(), path, operation)
            for path, methods in description["paths"].items()
            for method, operation in methods.items()
        ]
        self._operations += [
            ("GET", path, {"parameters": [{"in": "query", "name": "verbose"}]}) for path in UNDESCRIBED
        ]
        self.paths = {path for _, path, _ in self._operations}
        self._foreign_ids = foreign_ids
        self._learnt: dict[str, list[Any]] = {"cursor": ["WzAsMCwwXQ=="], "session_id": [], "plan": []}

    def learn(self, answer: Any) -> None:
        """Take from an answer what later requests may use."""
        if isinstance(answer, dict):
            if answer.get("cursor"):
                self._learnt["cursor"].append(str(answer["cursor"]))
            if answer.get("plan"):
                self._learnt["plan"].append(answer["plan"])
            if answer.get("session_id"):
                self._learnt["session_id"].append(answer["session_id"])

    def one(self) -> tuple[str, dict[str, Any], bytes]:
        """A request: the path in the description that it was made from, its scope, its body."""
        method, template, operation = self._draw.choice(self._operations)
        if self._draw.random() < 0.05:
            method = self._draw.choice(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"])
        path = template
        for part in operation.get("parameters", ()):
            if part["in"] == "path":
                path = path.replace(f"{{{part['name']}}}", self._segment())
        fields = [("host", "127.0.0.1"), *self._fields()]
        body = self._body(operation)
        if body:
            fields += [("content-type", "application/json"), ("content-length", str(len(body)))]
        scope = request(method, "/", query=self._query(operation).encode(), host=None, fields=fields)
        scope["raw_path"] = path.encode("latin-1")
        return template, scope, body

    def key(self) -> str:
        """A key: the tenant's own, another tenant's, or one that lies between."""
        where = self._draw.random()
        if where < 0.25:
            return OURS + self._draw.choice((*NAMES, "new", ""))
        if where < 0.8:
            return THEIRS + self._draw.choice((*NAMES, "new", ""))
        return self._draw.choice(EDGES)

    def _segment(self) -> str:
        return self._draw.choice(RAW) if self._draw.random() < 0.2 else quote(self.key(), safe="")

    def _fields(self) -> list[tuple[str, str]]:
        found = []
        if self._draw.random() < 0.1:
            found.append(
                (self._draw.choice(["if-match", "if-none-match"]), self._draw.choice(['"1"', '"2"', "*", "x"]))
            )
        if self._draw.random() < 0.2:
            found.append(("idempotency-key", self._draw.choice(["theirs", "ours", "x" * 200])))
        if self._draw.random() < 0.1:
            found.append(("last-event-id", self._draw.choice(["0:0:0", "0-0-0", "0:3", "x"])))
        if self._draw.random() < 0.1:
            # What a proxy might say; nothing of it says who is calling.
            name = self._draw.choice(
                ["x-forwarded-user", "x-tenant", "x-prefix", "x-original-url", "x-rewrite-url", "cookie"]
            )
            found.append((name, self._draw.choice([THEIRS, "/v1/sessions/tenantB%3Aplain", "admin"])))
        return found

    def _query(self, operation: dict[str, Any]) -> str:
        asked = [part["name"] for part in operation.get("parameters", ()) if part["in"] == "query"]
        pairs = [(name, self._value(name)) for name in asked if self._draw.random() < 0.35]
        if self._draw.random() < 0.03:
            pairs.append((self._draw.choice(["key", "prefix", "tenant", "access_token", "caller"]), self.key()))
        return "&".join(
            f"{name}={quote(value if isinstance(value, str) else json.dumps(value))}" for name, value in pairs
        )

    def _body(self, operation: dict[str, Any]) -> bytes:
        if "requestBody" not in operation or self._draw.random() < 0.05:
            return b""
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        schema = self._schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        needed = schema.get("required", ())
        body = {
            name: self._value(name)
            for name in schema.get("properties", ())
            if self._draw.random() < (0.97 if name in needed else 0.25)
        }
        return json.dumps(body, ensure_ascii=False).encode()

    def _value(self, name: str) -> Any:
        draw = self._draw
        choices: dict[str, Any] = {
            "key": self.key,
            "keys": lambda: [self.key() for _ in range(draw.randint(1, 8))],
            "prefix": lambda: draw.choice([THEIRS, OURS, "tenant", "", self.key()]),
            "owner": lambda: draw.choice(["ana", "bob", "cyd"]),
            "session_id": lambda: draw.choice(self._foreign_ids + self._learnt["session_id"][-5:]),
            "replaces": lambda: draw.choice(self._foreign_ids),
            "cursor": lambda: draw.choice(self._learnt["cursor"][-20:]),
            "as_of": lambda: draw.choice(["0:0", "0:12", f"0:{draw.randint(0, 60)}", "2023-11-14T22:13:20.100Z", "x"]),
            "min_position": lambda: f"0:{draw.randint(0, 40)}",
            "after": lambda: draw.randint(-1, 60),
            "limit": lambda: draw.choice([1, 2, 100]),
            "of": lambda: draw.choice(["records", "lives"]),
            "sort": lambda: draw.choice(["lru", "deadline", "created"]),
            "status": lambda: draw.choice(["active", "suspended"]),
            "wait": lambda: draw.choice(["applied", "appended", "none"]),
            "attributes": lambda: {"owner": draw.choice(["ana", "bob"]), "n": draw.randint(0, 3)},
            "policy": lambda: draw.choice([None, {"idle_ttl_ms": 60_000}]),
            "message": lambda: {"text": "hello"},
            "holder": lambda: draw.choice(["job", "ours"]),
            "lease_ms": lambda: 60_000,
            "reason": lambda: "logout",
            "if_exists": lambda: draw.choice(["open", "refuse"]),
            "apply": lambda: draw.choice([*self._learnt["plan"][-3:], "x" * 22]),
            "verbose": lambda: "true",
        }
        return choices[name]() if name in choices else draw.choice([THEIRS, True, 1, "x", None, self.key()])
