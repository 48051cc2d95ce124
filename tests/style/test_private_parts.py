"""kafka-python's private parts are named in one file: `engine/log/kafka/library_internals.py`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from sources import Source, python_files

INTERNALS = "engine/log/kafka/library_internals.py"
OWN = ("self", "cls")


def private_attributes(source: Source) -> Iterator[str]:
    """Attributes beginning with one underscore, of anything but the object itself, read, set or looked up by name."""
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in OWN):
            name = node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            is_lookup = isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr", "hasattr", "delattr"}
            name = str(node.args[1].value) if is_lookup else ""
        else:
            continue
        if name.startswith("_") and not name.startswith("__"):
            yield f"{source.path}:{node.lineno} uses {name} of another object: kafka-python's belong in {INTERNALS}"


def shared_classes_changed(source: Source) -> Iterator[str]:
    """Assignments to attributes of classes and modules that kafka-python shares with the host application."""
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(source.tree())
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).partition(".")[0] == "kafka"
    }
    for node in ast.walk(source.tree()):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            root: ast.expr = target
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(target, ast.Attribute) and isinstance(root, ast.Name) and root.id in imported:
                yield f"{source.path}:{node.lineno} changes {ast.unparse(target)} for every client in the process"


def test_private_parts_are_named_in_one_file_and_nothing_shared_is_changed() -> None:
    sources = python_files("engine/log/kafka")
    assert INTERNALS in {source.path for source in sources}
    faults = [fault for source in sources if source.path != INTERNALS for fault in private_attributes(source)]
    faults += [fault for source in sources for fault in shared_classes_changed(source)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text", ["consumer._coordinator.rejoining", "self._producer._sender", "getattr(consumer, '_fetcher', None)"]
)
def test_a_private_part_is_found(text: str) -> None:
    assert len(list(private_attributes(Source("engine/log/kafka/group.py", text)))) == 1


@pytest.mark.parametrize("text", ["self._consumer.poll()", "cls._known", "x.__dict__", "getattr(url, name)"])
def test_what_is_our_own_is_left_alone(text: str) -> None:
    assert list(private_attributes(Source("engine/log/kafka/group.py", text))) == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("from kafka.net.inet import KafkaNetSocket\nKafkaNetSocket.sock_connect = None", 1),
        ("from kafka.net import transport\ntransport.KafkaTCPTransport._sock_recv = None", 1),
        ("import kafka.net.inet\nkafka.net.inet.create_connection = None", 1),
        ("fetcher.PartitionRecords = None", 0),
    ],
)
def test_a_change_of_a_shared_class_is_found(text: str, faults: int) -> None:
    assert len(list(shared_classes_changed(Source("engine/log/kafka/net_client.py", text)))) == faults
