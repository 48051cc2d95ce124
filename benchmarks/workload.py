"""What the benchmarks work on: keys as a chat gateway has them, and logs full of sessions."""

from __future__ import annotations

from collections.abc import Sequence

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.events import Created, CreatedData
from lastseen.engine.identifiers import new_event_id, new_session_id
from lastseen.engine.log.port import Log, Message
from lastseen.engine.partitioner import partition_of
from lastseen.engine.plain_touch import written
from lastseen.engine.session import Policy

BATCH = 5_000


def key_of(number: int) -> str:
    """The key of the session with a number: `discord:guild23:chan45:user123`."""
    return f"discord:guild{number % 100}:chan{number % 1_000}:user{number}"


def fill(log: Log, sessions: int, now_ms: int, policy: Policy, first: int = 0, partitions: int = 1) -> list[str]:
    """Append the `created` events of so many sessions, numbered from `first`; returns their ids."""
    return fill_keys(log, [key_of(first + number) for number in range(sessions)], now_ms, policy, partitions)


def fill_keys(log: Log, keys: Sequence[str], now_ms: int, policy: Policy, partitions: int = 1) -> list[str]:
    """Append the `created` events of sessions under these keys, in their order; returns their ids."""
    session_ids = [new_session_id() for _ in keys]
    time = iso_from_ms(now_ms)
    for start in range(0, len(keys), BATCH):
        log.append(
            [
                Message(partition_of(keys[number], partitions), keys[number], encode(
                    Created(
                        id=new_event_id(now_ms), source="/bench", subject=keys[number], time=time,
                        data=CreatedData(session_id=session_ids[number], policy=policy),
                    )
                ))
                for number in range(start, min(start + BATCH, len(keys)))
            ]
        )  # fmt: skip
    return session_ids


def touches(log: Log, session_ids: list[str], events: int, now_ms: int) -> None:
    """Append so many touches, spread over the sessions."""
    time = iso_from_ms(now_ms)
    for start in range(0, events, BATCH):
        log.append(
            [
                Message(0, key_of(n % len(session_ids)), written(
                    new_event_id(now_ms), "/bench", key_of(n % len(session_ids)), time, session_ids[n %
                    len(session_ids)]
                ))
                for n in range(start, min(start + BATCH, events))
            ]
        )  # fmt: skip
