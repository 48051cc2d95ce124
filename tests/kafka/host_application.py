"""A program that has Kafka clients of its own beside a log: prints what the log has changed of kafka-python.

Arguments: the log's URL, the broker's address, and a topic of the program's own with one record in it. Run it in a
process of its own, so that kafka-python is as it was installed when the program first looks.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
import time
from types import ModuleType
from typing import Any

import kafka
from kafka import KafkaConsumer, TopicPartition
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaTCPTransport

PATIENCE_S = 30
MADE_BY_COPY = ("__slotnames__",)
"""Python's own `copy` keeps this on a class once it has copied one of its instances."""
NOT_LOADED = ("kafka.benchmarks", "kafka.cli", "kafka.vendor")


def modules() -> list[ModuleType]:
    """All modules of kafka-python that a program may use."""
    names = [each.name for each in pkgutil.walk_packages(kafka.__path__, "kafka.", onerror=lambda _: None)]
    return [
        kafka,
        *(
            importlib.import_module(name)
            for name in names
            if not (name.startswith(NOT_LOADED) or name.endswith("__main__"))
        ),
    ]


def behaviour() -> dict[str, Any]:
    """Every function and class of kafka-python by its name, and every attribute of its classes."""
    found: dict[str, Any] = {"KafkaNetSocket._registry": dict(KafkaNetSocket._registry)}
    for module in modules():
        for name, value in vars(module).items():
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("kafka"):
                found[f"{module.__name__}.{name}"] = value
                if inspect.isclass(value):
                    attributes = {key: each for key, each in vars(value).items() if key not in MADE_BY_COPY}
                    found |= {f"{module.__name__}.{name}.{key}": each for key, each in attributes.items()}
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is not the same any more."""
    missing = object()
    return sorted(
        name
        for name in before.keys() | after.keys()
        if before.get(name, missing) is not after.get(name, missing)
        and not (isinstance(before.get(name), dict | int) and before[name] == after.get(name, missing))
    )


def consume(address: str, topic: str) -> list[bytes]:
    """What a plain consumer of the program's own reads, over kafka-python's own classes."""
    consumer = KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    found: list[bytes] = []
    give_up_s = time.monotonic() + PATIENCE_S
    while not found and time.monotonic() < give_up_s:
        found += [record.value for records in consumer.poll(timeout_ms=200).values() for record in records]
    client = consumer._client
    assert type(client) is KafkaNetClient
    assert type(client._manager) is KafkaConnectionManager
    assert {type(each.transport) for each in client._manager._conns.values() if each.connected} == {KafkaTCPTransport}
    consumer.close()
    return found


def main(url: str, address: str, topic: str) -> None:
    """Look, use a log and an engine, look again, and use a client that has nothing to do with them."""
    before = behaviour()
    import lastseen
    from lastseen.engine.clock import SystemClock
    from lastseen.engine.log import open_log
    from lastseen.engine.log.port import Message, Position

    with lastseen.open_engine(url) as engine:
        engine.open("ana")
        give_up_s = time.monotonic() + PATIENCE_S
        while not engine.owned() and time.monotonic() < give_up_s:
            time.sleep(0.02)  # waits: for the group, in which the engine's own thread joins
        log = open_log(url, SystemClock())
        log.append([Message(0, "bob", b"{}")])
        assert log.wait(Position(0, 1), PATIENCE_S)
        assert log.read(0, 0, 10)
        changed = differences(before, behaviour())
        own = consume(address, topic)
        log.close()
    changed_at_the_end = differences(before, behaviour())
    report = {"changed": changed, "changed at the end": changed_at_the_end, "own": [each.decode() for each in own]}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
