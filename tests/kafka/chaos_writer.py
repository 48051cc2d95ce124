"""A service that writes what people in recorded chat do, in a process of its own that is killed at random moments.

What a line becomes follows from the recording alone, so a writer that was killed goes on with the first line that its
file of acknowledgements lacks, and writes again, under the same event ids, what may be in the log already. Each line of
that file, `<number of the event> <partition> <offset>`, is written and synced once the log has acknowledged the event.

Most people are steady: their sessions end when they leave, and each event names the version that it is meant for, so
written twice it counts once. The others are fleeting: each line begins a session that idles out soon unless one lives.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import random
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.engine import errors, events
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.log.kafka.log import KafkaLog
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Message, Position
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Policy
from lastseen.replay.recording import SLICE, ChatEvent, count_lines, read_chat

WRITERS = 4
SOURCE = "/chaos"
STEADY = Policy(idle_ttl_ms=86_400_000)
FLEETING = Policy(idle_ttl_ms=1_500)
MAX_AT_ONCE = 8


def is_fleeting(key: str) -> bool:
    """Whether a person's sessions idle out."""
    return zlib.crc32(key.encode()) % 8 == 0


def share_of(key: str) -> int:
    """Which writer writes for a person."""
    return zlib.crc32(key.encode()) // 8 % WRITERS


class Step(NamedTuple):
    """One event to write, but for its time."""

    number: int
    """Its line, counted on when the recording is begun anew."""
    key: str
    kind: type[Any]
    published: Any

    def message(self, partitions: int) -> Message:
        """The event, sent now."""
        now = iso_from_ms(SystemClock().now_ms())
        event = self.kind(id=f"line-{self.number}", source=SOURCE, subject=self.key, time=now, data=self.published)
        return Message(partition_of(self.key, partitions), self.key, encode(event))


class Person:
    """A steady person's session, as the events so far have left it."""

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.version = 0
        self.is_away = False

    def act(self, number: int, chat: ChatEvent) -> Step | None:
        """What a line becomes; nothing, where a person leaves who was not there."""
        if self.session_id is None:
            if chat.action == "leave":
                return None
            self.session_id, self.version, self.is_away = session_id_of(number), 1, False
            return Step(number, chat.key, events.Created, events.CreatedData(session_id=self.session_id, policy=STEADY))
        named = {"session_id": self.session_id, "if_version": self.version}
        self.version += 1
        if chat.action == "leave":
            self.session_id = None
            return Step(number, chat.key, events.Closed, events.ClosedData(**named, reason="logout"))
        if self.is_away or number % 9 == 0:
            self.is_away = not self.is_away
            kind = events.Suspended if self.is_away else events.Resumed
            return Step(number, chat.key, kind, events.ReasonedData(**named))
        return Step(number, chat.key, events.Touched, events.TouchedData(**named, message={"line": number}))


def session_id_of(number: int) -> str:
    """The id of the session that a line begins."""
    return base64.urlsafe_b64encode(hashlib.sha256(b"%d" % number).digest())[:22].decode()


def steps(share: int) -> Iterator[Step]:
    """What one writer writes: without end, for the recording is begun anew."""
    people: dict[str, Person] = {}
    recording = [chat for chat in read_chat(SLICE) if share_of(chat.key) == share]
    lines = count_lines(SLICE)
    for lap in itertools.count():
        for chat in recording:
            number = lap * lines + chat.line
            if is_fleeting(chat.key):
                published = events.CreatedData(session_id=session_id_of(number), policy=FLEETING)
                yield Step(number, chat.key, events.Created, published)
            else:
                step = people.setdefault(chat.key, Person()).act(number, chat)
                if step is not None:
                    yield step


def acknowledged_in(path: Path) -> list[tuple[int, Position]]:
    """The events that were acknowledged, by their numbers, and where they stand. A line torn off does not count."""
    lines = path.read_text(encoding="ascii").split("\n")[:-1] if path.exists() else []
    return [(int(number), Position(int(part), int(offset))) for number, part, offset in (x.split() for x in lines)]


class PrematureLog(KafkaLog):
    """A broken log: it acknowledges an append before the broker has.

    The one before has to be done: a writer that nothing holds back floods the topic faster than engines can read it.
    """

    in_flight: Future[list[Position]] | None = None

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Say that it is done."""
        if self.in_flight is not None:
            self.in_flight.exception()
        self.in_flight = self.append_soon(messages)
        return [Position(message.partition, -1) for message in messages]


def write(url: str, pipe: Connection, path: Path, share: int, seed: int, is_broken: bool = False) -> None:
    """Write until the parent process is gone, or kills this one."""
    done = acknowledged_in(path)
    last = done[-1][0] if done else -1
    log = (PrematureLog if is_broken else KafkaLog)(parse_kafka_url(url))
    chance = random.Random(seed)
    left = itertools.dropwhile(lambda step: step.number <= last, steps(share))
    pipe.send("open")
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
        while not pipe.poll():
            batch = list(itertools.islice(left, chance.randint(1, MAX_AT_ONCE)))
            places = append(log, batch)
            lines = [f"{step.number} {at.partition} {at.offset}\n" for step, at in zip(batch, places, strict=True)]
            file.write("".join(lines).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())


def append(log: KafkaLog, batch: Sequence[Step]) -> list[Position]:
    """Write some events; again, for as long as the log does not say that it has them."""
    while True:
        try:
            return log.append([step.message(log.partitions) for step in batch])
        except (errors.LogUnavailable, errors.OutcomeUnknown):
            continue  # its answer took its time already
