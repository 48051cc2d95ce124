"""Kinds of problems: each that the service answers with has a page that says what it means."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from lastseen.api import problems
from lastseen.http.routes.problem_types import meanings

Problem = Callable[[httpx.Response], dict[str, Any]]
PRODUCT = Path(problems.__file__).parents[1]


def slugs_in_use() -> set[str]:
    """The kinds that some line of the service's code names."""
    found = set()
    for file in (file for room in ("api", "http") for file in (PRODUCT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            is_made = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Problem", "Kind")
            if is_made and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                found.add(node.args[1].value)
    return found


def test_every_kind_in_use_has_its_meaning() -> None:
    in_use = slugs_in_use()
    assert len(in_use) > 40
    assert in_use <= set(meanings())
    assert all(meanings().values())


def test_the_type_of_a_problem_leads_to_its_meaning(client: httpx.Client, problem: Problem) -> None:
    kind = problem(client.get("/v1/sessions/unknown"))["type"]
    page = client.get(kind)
    assert page.json() == {"type": kind, "meaning": meanings()["session-not-found"]}
    assert page.json() in client.get("/problems/").json()["problems"]
    assert problem(client.get("/problems/unheard-of"))["type"] == "/problems/no-such-problem"
