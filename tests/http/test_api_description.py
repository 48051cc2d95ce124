"""The API's own description: valid, complete, and true of what the service does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

import lastseen
from lastseen.docs.http_api import openapi
from lastseen.http.application import build, operations_of
from lastseen.http.operation import Operation
from lastseen.http.worker_threads import WorkerThreads


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """The description."""
    text: dict[str, Any] = json.loads(openapi())
    return text


@pytest.fixture(scope="module")
def operations() -> Iterator[list[Operation]]:
    """What it is made from."""
    with lastseen.open_engine("memory://", background=False) as engine:
        yield operations_of(WorkerThreads(engine))


def test_it_is_openapi(described: dict[str, Any]) -> None:
    validate(described)


def test_every_operation_is_in_it_with_its_answers(described: dict[str, Any], operations: list[Operation]) -> None:
    assert len(operations) > 20
    for operation in operations:
        said = described["paths"][operation.path][operation.method.lower()]
        assert said["operationId"] == operation.name
        assert said["summary"]
        assert operation.scope is None or f"`{operation.scope.value}`" in said["description"]
        assert {str(status) for status in operation.responses} <= set(said["responses"])
        for status, answer in said["responses"].items():
            assert answer["description"]
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (operation.name, status)
        if operation.needs_body:
            assert said["requestBody"]["content"]["application/json"]["example"], operation.name


def test_names_and_paths_are_used_once(operations: list[Operation]) -> None:
    assert len({operation.name for operation in operations}) == len(operations)
    assert len({(operation.method, operation.path) for operation in operations}) == len(operations)


def test_links_lead_to_operations(described: dict[str, Any], operations: list[Operation]) -> None:
    names = {operation.name for operation in operations}
    linked = [
        link["operationId"]
        for path in described["paths"].values()
        for said in path.values()
        for answer in said["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert linked
    assert set(linked) <= names


def test_examples_are_what_they_are_examples_of(operations: list[Operation]) -> None:
    import msgspec

    for operation in operations:
        if operation.body is not None and operation.body_example is not None:
            msgspec.convert(operation.body_example, operation.body)


def test_the_service_hands_out_the_same_description(described: dict[str, Any]) -> None:
    with lastseen.open_engine("memory://", background=False) as engine:
        app = build(engine)
        assert set(app.openapi()["paths"]) <= set(described["paths"])
