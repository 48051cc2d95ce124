"""The interfaces that take input, and what must hold for any input: no crash, no hang, no effect, a clear error.

Each interface is a context manager that gives a function: it takes one input, and raises `AssertionError`, or lets an
error that is none of lastseen's own escape, where the interface does not hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
from typer.testing import CliRunner

import lastseen
from lastseen.cli.exit_codes import EXIT_CODES
from lastseen.compat.gateway.importing import import_sessions as import_gateway
from lastseen.configuration.configuration import configure
from lastseen.engine.codec import decode
from lastseen.engine.errors import LastseenError, SnapshotError
from lastseen.engine.log import open_log
from lastseen.engine.log.kafka import records as kafka_records
from lastseen.engine.log.kafka.batch_records import records_in
from lastseen.engine.log.kafka.decompression import Unreadable
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Message, Record
from lastseen.engine.verdicts import Verdict
from lastseen.exchange import history, sessions
from lastseen.exchange.sidecar import sidecar_of
from lastseen.http.application import build
from lastseen.projections.partition import Partition
from tests.fuzz.mutation import spoil, text_of

T0 = 1_700_000_000_000
GOLDEN = Path(__file__).parents[1] / "specs" / "golden"
Try = Callable[[Random], None]
Interface = Callable[[Path], Any]


@contextmanager
def records(_: Path) -> Iterator[Try]:
    """Bytes that any program may put on the log, folded into a partition with live sessions."""
    examples = [file.read_bytes() for file in sorted(GOLDEN.glob("*.json"))]
    partition, offset = Partition(0), 0

    def fold(key: str | None, value: bytes | None) -> Any:
        nonlocal offset
        offset += 1
        return partition.fold(Record(0, offset - 1, T0, key, value))

    def take(chance: Random) -> None:
        example = chance.choice(examples)
        key: str | None = json.loads(example)["subject"]
        if chance.random() < 0.2:
            key = chance.choice((None, text_of(spoil(chance, (key or "").encode()))))
        value = None if chance.random() < 0.02 else spoil(chance, example)
        before = {each.session_id: each.__copy__() for each in partition.by_id.values()}  # type: ignore[attr-defined]
        digest = partition.digest
        verdict = fold(key, value).verdict
        assert isinstance(verdict, Verdict)
        assert partition.digest != digest, "every record counts in the digest"
        if verdict in (Verdict.MALFORMED, Verdict.UNKNOWN_TYPE, Verdict.CLOCK_SKEW):
            assert partition.by_id == before, "what is void changes nothing"
        if value is not None and key is not None:
            decoded = decode(key, value)
            assert isinstance(decoded, Verdict) or decoded[0].subject == key

    yield take


@contextmanager
def kafka_batches(_: Path) -> Iterator[Try]:
    """Batches of records as a broker sends them."""
    headers = kafka_records.encoded_headers(kafka_records.EVENT_HEADERS)
    sound = kafka_records.encode([Message(0, f"key-{n}", b"value " * n) for n in range(12)], headers)

    def take(chance: Random) -> None:
        body, count = spoil(chance, sound), chance.choice((0, 1, 11, 12, 12, 12, 13))
        try:
            found = records_in(body, count, 0, 5, T0, chance.choice((None, T0)))
        except Unreadable:
            return
        assert [each.offset for each in found] == list(range(5, 5 + count))

    yield take


@contextmanager
def keys_and_headers(_: Path) -> Iterator[Try]:
    """Sound batches of records with unforeseen keys and headers, as any program may write them."""
    examples = [file.read_bytes() for file in sorted(GOLDEN.glob("*.json"))]

    def framed(spoilt: bytes | None) -> bytes:
        """A length, and so many bytes; or null."""
        return b"\x01" if spoilt is None else kafka_records.varint(len(spoilt)) + spoilt

    def anything(chance: Random, sound: bytes) -> bytes | None:
        return None if chance.random() < 0.2 else spoil(chance, sound)

    def take(chance: Random) -> None:
        sent: list[tuple[bytes | None, bytes]] = []
        body = b""
        for number in range(chance.randrange(1, 6)):
            value = chance.choice(examples)
            key = anything(chance, json.loads(value)["subject"].encode())
            headers = [
                framed(anything(chance, b"content-type")) + framed(anything(chance, b"application/cloudevents+json"))
                for _ in range(chance.choice((0, 1, 1, 3, 20)))
            ]
            rest = b"\0" + kafka_records.varint(chance.choice((0, 1, 1_000_000))) + kafka_records.varint(number)
            rest += framed(key) + framed(value) + kafka_records.varint(len(headers)) + b"".join(headers)
            body += framed(rest)
            sent.append((key, value))
        found = records_in(body, len(sent), 0, 0, T0, T0)
        for record, (key, value) in zip(found, sent, strict=True):
            assert record.value == value
            assert record.key is None or record.key.encode() == key
            if record.key != json.loads(value)["subject"]:
                verdict = Partition(0).fold(record._replace(offset=0)).verdict
                assert verdict is Verdict.MALFORMED, "under another key, or none, it belongs to no session"

    yield take


PATHS = (
    "/v1/sessions", "/v1/sessions/KEY", "/v1/sessions/KEY/touch", "/v1/sessions/KEY/suspend", "/v1/sessions/KEY/resume",
    "/v1/sessions/KEY/hold", "/v1/sessions/KEY/release", "/v1/sessions/KEY/close", "/v1/sessions/KEY/rotate",
    "/v1/sessions/KEY/history", "/v1/sessions/KEY/explain", "/v1/touches", "/v1/prune", "/v1/statistics",
    "/v1/projections", "/v1/snapshots", "/v1/operations", "/v1/sessions?limit=5&sort=lru&cursor=AAAA&prefix=a",
    "/v1/sessions/KEY?as_of=1700000000000", "/v1/sessions/KEY/history?after=0&limit=3",
)  # fmt: skip
BODIES = (
    {"key": "a", "attributes": {"owner": "o"}, "policy": {"idle_ttl_ms": 5}},
    {"message": "x", "attributes": {"n": None}},
    {"holder": "job", "lease_ms": 60_000}, {"reason": "logout"}, {"touches": [{"key": "kept-1"}, {"key": "unknown"}]},
    {"dry_run": True}, {"keys": ["kept-1"]}, {},
)  # fmt: skip
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD")
HEADERS = (
    "If-Match",
    "Idempotency-Key",
    "Content-Type",
    "Last-Event-ID",
    "Authorization",
    "Min-Position",
    "Host",
    "Accept",
)


@contextmanager
def http(folder: Path) -> Iterator[Try]:
    """Requests to the service, by a caller that may do everything."""
    loop = asyncio.new_event_loop()
    with lastseen.open_engine(f"sqlite:///{folder / 'http.db'}", background=False) as engine:
        engine.open("kept-1")
        app = build(engine)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")

        def take(chance: Random) -> None:
            asked = chance.choice(PATHS)
            if "KEY" in asked:
                key = chance.choice((b"kept-1", b"unknown", b"a%2Fb", spoil(chance, b"kept-1")))
                asked = asked.replace("KEY", quote(key, safe="%") or "x")
            if chance.random() < 0.3:
                path, _, query = asked.partition("?")
                spoilt = spoil(chance, query.encode())
                asked = (
                    path
                    + "?"
                    + "".join(c if c.isalnum() or c in "=&%" else f"%{ord(c) & 255:02X}" for c in text_of(spoilt))
                )
            method = chance.choice(METHODS[:3] if chance.random() < 0.9 else METHODS)
            body = json.dumps(chance.choice(BODIES)).encode()
            if chance.random() < 0.7:
                body = spoil(chance, body)
            headers = {"content-type": "application/json"}
            if chance.random() < 0.3:
                noise = bytes(c for c in spoil(chance, b'"1", W/"2"') if 32 <= c < 127)
                headers[chance.choice(HEADERS)] = noise.decode("ascii")
            end = engine._log.end_offsets()[0]
            answer = loop.run_until_complete(client.request(method, asked, content=body, headers=headers))
            assert answer.status_code < 500 or answer.status_code in (503, 504), (method, asked, body, answer.text)
            if answer.status_code >= 400:
                assert method == "HEAD" or answer.json()["status"] == answer.status_code, (method, asked, answer.text)
                assert engine._log.end_offsets()[0] == end, ("refused, and written", method, asked, body)

        try:
            yield take
        finally:
            loop.run_until_complete(client.aclose())
            loop.run_until_complete(app.state.workers.close())
            loop.close()
            assert engine._follower.failure is None


COMMANDS = (
    "ls",
    "show",
    "history",
    "explain",
    "stats",
    "prune --dry-run",
    "verify",
    "log copy",
    "config show",
    "doctor",
)


@contextmanager
def command_line(folder: Path) -> Iterator[Try]:
    """Arguments of commands."""
    from lastseen.cli.program import app

    url = f"sqlite:///{folder / 'cli.db'}"
    with lastseen.open_engine(url, background=False) as engine:
        engine.open("key")
    options = ["--log", url, "-o", "json", "--limit", "3", "--sort", "lru", "--at", "0:1", "--cursor", "x", "key"]
    runner = CliRunner()
    before = (folder / "cli.db").read_bytes()

    def take(chance: Random) -> None:
        words = chance.choice(COMMANDS).split()
        for word in chance.sample(options, chance.randrange(5)):
            words.append(text_of(spoil(chance, word.encode())) if chance.random() < 0.6 else word)
        if not any(word.startswith("--l") for word in words):
            words += ["--log", url]
        done = runner.invoke(app, words)
        assert done.exit_code in EXIT_CODES, (words, done.exit_code, done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, repr(done.exception))
        assert "Traceback" not in done.output, words
        assert (folder / "cli.db").read_bytes() == before, words

    yield take


TOML = b"""profile = "production"
log = "sqlite:///sessions.db"
host = "127.0.0.1"
port = 8321
roles = ["api", "view"]
idle_ttl = "30m"
max_sessions = 1000
"""


@contextmanager
def configuration(folder: Path) -> Iterator[Try]:
    """Configuration files, variables and flags."""
    file = folder / "lastseen.toml"

    def take(chance: Random) -> None:
        file.write_bytes(spoil(chance, TOML))
        environment = {"LASTSEEN_PORT": text_of(spoil(chance, b"8321"))} if chance.random() < 0.3 else {}
        assignments = [text_of(spoil(chance, b"idle_ttl=5m"))] if chance.random() < 0.3 else []
        with suppress(LastseenError):
            found = configure({}, assignments, config=str(file), environment=environment)
            assert 0 <= found.service.port < 65_536

    yield take


@contextmanager
def urls(_: Path) -> Iterator[Try]:
    """Addresses of logs."""

    def take(chance: Random) -> None:
        sound = b"kafka://user@host:9092,other:1/topic?partitions=3&security_protocol=SSL&delivery_timeout_ms=5000"
        url = text_of(spoil(chance, sound))
        with suppress(LastseenError):
            if chance.random() < 0.8:
                parse_kafka_url(url)
            elif not url.startswith(("kafka:", "sqlite:")):
                open_log(url, lastseen.ManualClock(T0)).close()

    yield take


@contextmanager
def import_files(folder: Path) -> Iterator[Try]:
    """Files that are brought into an empty log: exports, and a gateway's store."""
    clock = lastseen.ManualClock(T0)
    url = f"sqlite:///{folder / 'source.db'}"
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        for number in range(4):
            engine.open(f"key-{number}", attributes={"n": number})
        engine.touch("key-1", message="hello")
        engine.suspend("key-2")
    sound = {"history": folder / "history.jsonl", "sessions": folder / "sessions.jsonl", "gateway": folder / "g.json"}
    history.export_history(url, sound["history"])
    sessions.export_sessions(url, sound["sessions"])
    entry = {
        "session_key": "agent:main:telegram:dm:1", "session_id": "20231114_221320_abcdef12",
        "created_at": "2023-11-14T20:00:00", "updated_at": "2023-11-14T21:00:00", "platform": "telegram",
        "chat_type": "dm", "origin": {"platform": "telegram", "chat_id": "1", "chat_type": "dm"},
    }  # fmt: skip
    sound["gateway"].write_text(json.dumps({"agent:main:telegram:dm:1": entry}))
    bring = {"history": history.import_history, "sessions": sessions.import_sessions, "gateway": import_gateway}
    contents = {kind: file.read_bytes() for kind, file in sound.items()}
    sidecars = {kind: sidecar_of(file).read_bytes() for kind, file in sound.items() if kind != "gateway"}
    file = folder / "spoilt.jsonl"

    def take(chance: Random) -> None:
        kind = chance.choice(sorted(bring))
        is_of_sidecar = kind in sidecars and chance.random() < 0.3
        file.write_bytes(contents[kind] if is_of_sidecar else spoil(chance, contents[kind]))
        if kind in sidecars:
            sidecar = sidecars[kind]
            sidecar_of(file).write_bytes(spoil(chance, sidecar) if is_of_sidecar else sidecar)
        with suppress(LastseenError):
            bring[kind](file, "memory://", clock=clock)  # type: ignore[operator]

    yield take


@contextmanager
def snapshots(folder: Path) -> Iterator[Try]:
    """Snapshot files: what is damaged is said, and what the engine then knows is what the log says."""
    clock = lastseen.ManualClock(T0)
    url, snapshot = f"sqlite:///{folder / 'log.db'}", folder / "spoilt.snapshot"
    sound = folder / "sound.snapshot"
    with lastseen.open_engine(url, clock=clock, background=False, snapshot=str(sound)) as engine:
        for number in range(20):
            engine.open(f"key-{number}", attributes={"n": number})
        digests, keys = engine.checkpoints(), {view.key for view in engine.list().sessions}
    content, named = sound.read_bytes(), [f"key-{number}" for number in range(20)]

    def take(chance: Random) -> None:
        for file in folder.glob("spoilt.*"):
            file.unlink()
        snapshot.write_bytes(spoil_in_place(chance, content))
        settings = {"clock": clock, "background": False, "snapshot": str(snapshot)}
        # It is reported at the start, or, for what is read only on request, then.
        with suppress(SnapshotError), lastseen.open_engine(url, **settings) as engine:
            assert engine.checkpoints() == digests
            assert {view.key for view in engine.list().sessions} == keys
            assert [engine.get(key).attributes["n"] for key in named] == list(range(20))  # type: ignore[union-attr]

    yield take


def spoil_in_place(chance: Random, content: bytes) -> bytes:
    """Damage as a disk does it: some bytes are other ones, or the end is missing."""
    spoilt = bytearray(content)
    for _ in range(chance.randrange(1, 4)):
        place, length = chance.randrange(len(spoilt)), chance.choice((1, 1, 8, 64, 512))
        noise = bytes(length) if chance.random() < 0.3 else chance.randbytes(length)
        spoilt[place : place + length] = noise[: len(spoilt) - place]
    return bytes(spoilt[: chance.randrange(len(spoilt))] if chance.random() < 0.2 else spoilt)


INTERFACES: dict[str, tuple[Interface, float]] = {
    "records": (records, 0.45),
    "kafka batches": (kafka_batches, 0.15),
    "keys and headers": (keys_and_headers, 0.05),
    "urls": (urls, 0.1),
    "configuration": (configuration, 0.1),
    "http": (http, 0.1),
    "import files": (import_files, 0.02),
    "command line": (command_line, 0.004),
    "snapshots": (snapshots, 0.01),
}
"""Each interface, and its share of the inputs: a slow one gets fewer."""
