"""`lastseen doctor`: what it finds, what it says to do, and that it leaves everything as it was."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sqlite3
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka_fixtures import SharedBroker
from typer.testing import CliRunner, Result

import lastseen
from infra.kafka.access import Certificate
from lastseen.cli import doctor
from lastseen.cli.program import app
from lastseen.configuration.service_settings import ServiceSettings
from lastseen.doctor import machine
from lastseen.doctor import snapshot as doctor_snapshot
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import file_system, open_log
from lastseen.engine.log.port import Message
from lastseen.projections.snapshot_rows import PartitionRow, decode_partition, sealed, unsealed

MIN = 60_000


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of this machine, nor a service on it, has a say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTSEEN_PORT", "0")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of 30 records after the genesis records, with all that an engine keeps beside it."""
    path = tmp_path / "log.db"
    with lastseen.open_engine(f"sqlite:///{path}", background=False, partitions=2) as engine:
        for number in range(15):
            engine.open(f"key-{number}")
            engine.touch(f"key-{number}")
        engine.archive()
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def findings(log: Path | str, *arguments: str, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    """What it finds, by what was looked at."""
    url = log if isinstance(log, str) else f"sqlite:///{log}"
    result = run("--log", url, "--json", *arguments)
    assert result.exit_code == exit_code, (result.stdout, result.stderr)
    reported = json.loads(result.stdout)
    assert reported["ok"] is (exit_code == 0)
    return {each["check"]: each for each in reported["findings"]}


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file: what is in it, and when it was written."""
    return {
        each.name: (hashlib.sha256(each.read_bytes()).hexdigest(), each.stat().st_mtime_ns) for each in folder.iterdir()
    }


def test_all_is_well_and_nothing_is_changed(log: Path, tmp_path: Path) -> None:
    before = files(tmp_path)

    found = findings(log)

    assert files(tmp_path) == before
    assert {check: each["severity"] for check, each in found.items()} == dict.fromkeys(
        ["log", "rights", "file system", "write-ahead log", "genesis", "clocks", "producers", "records", "flood",
         "snapshot", "digest", "history", "archives", "disk", "access", "memory"], "ok",
    )  # fmt: skip
    assert found["log"]["says"] == f"{log} holds 32 records in 2 partitions"
    assert "0 records behind the log, 15 sessions" in found["snapshot"]["says"]
    with lastseen.open_engine(f"sqlite:///{log}", background=False) as engine:
        for number, (_, digest) in engine.checkpoints().items():
            assert f"{number}: {digest[:12]}" in found["digest"]["says"]


def test_beside_a_running_engine(log: Path, tmp_path: Path) -> None:
    with lastseen.open_engine(f"sqlite:///{log}", background=False) as engine:
        engine.touch("key-1")
        engine.flush()
        engine.touch("key-2")
        before = {name: each for name, each in files(tmp_path).items() if not name.endswith("-shm")}
        found = findings(log)
        after = {name: each for name, each in files(tmp_path).items() if not name.endswith("-shm")}
        assert engine.touch("key-3") is not None
    assert after == before
    assert "1 records behind the log" in found["snapshot"]["says"]
    assert found["digest"]["severity"] == "ok"


def test_for_people(log: Path) -> None:
    result = run("--log", f"sqlite:///{log}", "-o", "table")
    assert result.exit_code == 0
    assert "next step" in result.stdout
    assert json.loads(run("--log", f"sqlite:///{log}", "--output", "json").stdout)["ok"] is True


@pytest.mark.parametrize("content", [None, b"", b"no log at all, only text"])
def test_there_is_no_log(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "log.db"
    if content is not None:
        path.write_bytes(content)
    before = files(tmp_path)
    found = findings(path, exit_code=1)
    assert found["log"]["severity"] == "error"
    assert found["log"]["next_step"]
    assert str(path) in found["log"]["says"]
    assert files(tmp_path) == before
    assert "disk" in found, "the machine is looked at all the same"


def test_a_url_that_names_no_log_is_wrong_usage() -> None:
    assert run("--log", "ftp://host/log").exit_code == 2


def change(path: Path, statement: str, *values: Any) -> None:
    """Tamper with a file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def rewrite_partition(log: Path, **fields: Any) -> None:
    """Have the snapshot say something else of partition 0, sealed as if it were right."""
    path = Path(f"{log}.snapshot")
    with closing(sqlite3.connect(path)) as connection:
        (state,) = connection.execute("SELECT state FROM partitions WHERE number = 0").fetchone()
    row: PartitionRow = decode_partition(unsealed(state))
    for name, value in fields.items():
        setattr(row, name, value)
    change(path, "UPDATE partitions SET state = ? WHERE number = 0", sealed(row))


def test_a_snapshot_that_is_missing(log: Path) -> None:
    Path(f"{log}.snapshot").unlink()
    found = findings(log)
    assert found["snapshot"]["severity"] == "note"
    assert "reads all of the log, 32 records" in found["snapshot"]["says"]


def test_a_snapshot_elsewhere(log: Path, tmp_path: Path) -> None:
    shutil.move(f"{log}.snapshot", tmp_path / "elsewhere.snapshot")
    shutil.move(f"{log}.history", tmp_path / "elsewhere.history")
    found = findings(log, "--set", f"snapshot={tmp_path / 'elsewhere.snapshot'}")
    assert (found["snapshot"]["severity"], found["history"]["severity"]) == ("ok", "ok")
    assert findings(log, "--set", "snapshot=:memory:", exit_code=1)["snapshot"]["severity"] == "warning"


def test_a_snapshot_that_is_damaged(log: Path) -> None:
    change(Path(f"{log}.snapshot"), "UPDATE partitions SET state = x'00' || state WHERE number = 0")
    found = findings(log, exit_code=1)
    assert found["snapshot"]["severity"] == "warning"
    assert "loads the newest archive" in found["snapshot"]["next_step"]
    for archive in log.parent.glob("*.archive-*"):
        archive.unlink()
    assert "no sound archive" in findings(log, exit_code=1)["snapshot"]["next_step"]


def test_a_snapshot_whose_digest_is_not_the_logs(log: Path) -> None:
    rewrite_partition(log, digest=b"x" * 32)
    found = findings(log, exit_code=1)
    assert found["digest"]["severity"] == "error"
    assert "partition 0" in found["digest"]["says"]
    assert "delete the snapshot" in found["digest"]["next_step"]


def test_a_long_log_is_left_to_verify(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_snapshot, "MAX_FOLDED", 29)
    found = findings(log)
    assert found["digest"]["severity"] == "note"
    assert "lastseen verify" in found["digest"]["next_step"]


def test_a_snapshot_that_is_ahead_of_the_log(log: Path) -> None:
    rewrite_partition(log, checkpoint=1_000)
    found = findings(log, exit_code=1)
    assert found["snapshot"]["severity"] == "error"
    assert "up to offset 1000, and the log ends at" in found["snapshot"]["says"]


def test_a_snapshot_of_another_log(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    lastseen.open_engine(f"sqlite:///{other}", background=False).shutdown()
    shutil.copy(f"{log}.snapshot", f"{other}.snapshot")
    found = findings(other, exit_code=1)
    assert found["snapshot"]["severity"] == "error"
    assert "was taken of log" in found["snapshot"]["says"]


def test_a_snapshot_far_behind(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lastseen.open_engine(f"sqlite:///{log}", background=False, snapshot=":memory:") as engine:
        engine.touch("key-1")
        engine.touch("key-2")
    monkeypatch.setattr(doctor_snapshot, "FAR_BEHIND", 1)
    found = findings(log, exit_code=1)
    assert found["snapshot"]["severity"] == "warning"
    assert "2 records behind the log" in found["snapshot"]["says"]


def test_a_history_that_is_older_and_an_archive_that_is_not_as_written(log: Path) -> None:
    change(Path(f"{log}.history"), "UPDATE meta SET value = 1 WHERE name = 'checkpoint-0'")
    (archive,) = log.parent.glob("*.archive-1")
    archive.write_bytes(archive.read_bytes() + b"x")
    Path(f"{log}.snapshot.damaged").write_bytes(b"")

    result = run("--log", f"sqlite:///{log}", "--json")

    assert result.exit_code == 1
    reported = [(each["check"], each["severity"]) for each in json.loads(result.stdout)["findings"]]
    assert {("history", "warning"), ("archives", "warning"), ("archives", "note")} <= set(reported)


class Off(SystemClock):
    """A clock that is wrong."""

    def __init__(self, by_ms: int) -> None:
        self.by_ms = by_ms

    def now_ms(self) -> int:
        return super().now_ms() + self.by_ms


@pytest.mark.parametrize(("by_ms", "severity"), [(20_000, "warning"), (5 * MIN, "error")])
def test_a_log_clock_that_is_ahead(log: Path, by_ms: int, severity: str) -> None:
    with lastseen.open_engine(f"sqlite:///{log}", clock=Off(by_ms), background=False) as engine:
        engine.touch("key-1")
    found = findings(log, exit_code=1)
    assert found["clocks"]["severity"] == severity
    assert "s ahead of this machine's clock" in found["clocks"]["says"]


@pytest.mark.parametrize(("by_ms", "severity"), [(-20_000, "warning"), (-15 * MIN, "error"), (2 * MIN, "error")])
def test_a_service_whose_clock_is_wrong_is_named(log: Path, by_ms: int, severity: str) -> None:
    with lastseen.open_engine(f"sqlite:///{log}", background=False, source="/gateway/late") as engine:
        engine._clock = engine._touches._clock = Off(by_ms)
        try:
            engine.touch("key-1", wait="appended")
        finally:
            engine._clock = engine._touches._clock = SystemClock()
    found = findings(log, exit_code=1)
    assert found["producers"]["severity"] == severity
    assert "/gateway/late by " in found["producers"]["says"]
    assert "/lastseen" not in found["producers"]["says"]


def imported(folder: Path, at_ms: int) -> Path:
    """A log that was copied from one that was written at another time."""
    old, path = folder / "old.db", folder / "copy.db"
    with lastseen.open_engine(f"sqlite:///{old}", clock=lastseen.ManualClock(at_ms), background=False) as engine:
        engine.open("key")
        engine.touch("key")
    result = CliRunner().invoke(app, ["log", "copy", f"sqlite:///{old}", f"sqlite:///{path}"])
    assert result.exit_code == 0, result.stderr
    return path


def test_imported_history_has_times_of_its_own(tmp_path: Path) -> None:
    path = imported(tmp_path, SystemClock().now_ms() - 60 * MIN)
    assert findings(path)["producers"]["severity"] == "ok"


def test_history_that_is_being_imported(tmp_path: Path) -> None:
    path = imported(tmp_path, 1_700_000_000_000)
    with closing(sqlite3.connect(path)) as connection, connection:
        # As if it were still going on: the record that ends it, and those after it, are gone.
        (end,) = connection.execute(
            "SELECT rowid FROM stored_events WHERE CAST(state AS TEXT) LIKE '%import_finished%'"
        ).fetchone()
        connection.execute("DELETE FROM stored_events WHERE rowid >= ?", (end,))
    assert findings(path)["producers"]["says"].startswith("events of 0 sources")


def test_an_empty_log_has_no_clock(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    open_log(f"sqlite:///{path}", SystemClock(), genesis=False).close()
    found = findings(path)
    assert found["clocks"]["severity"] == found["genesis"]["severity"] == "note"
    assert "the first engine that opens it writes its genesis records" in found["genesis"]["says"]


def test_a_log_of_format_1(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(open_log(f"sqlite:///{path}", SystemClock(), genesis=False)) as log:
        log.append([Message(0, "ana", b"{}")])
    found = findings(path, exit_code=1)
    assert found["genesis"]["severity"] == "error"
    assert "lastseen log copy" in found["genesis"]["says"]
    with pytest.raises(lastseen.errors.NoGenesis, match="lastseen log copy"):
        lastseen.open_engine(f"sqlite:///{path}")


def test_files_that_every_account_can_read(log: Path) -> None:
    archive = next(log.parent.glob("*.archive-1"))
    for path in (log, archive):
        path.chmod(0o644)
    log.with_name("log.db.history").chmod(0o640)
    found = findings(log, exit_code=1)["access"]
    assert found["severity"] == "warning"
    assert str(log) in found["says"]
    assert str(archive) in found["says"]
    assert "history" not in found["says"], "its group may"
    assert f"chmod 600 {log}" in found["next_step"]


@pytest.mark.parametrize(("free", "severity"), [(10 << 20, "error"), (500 << 20, "warning")])
def test_a_full_disk(log: Path, monkeypatch: pytest.MonkeyPatch, free: int, severity: str) -> None:
    usage = shutil.disk_usage(log.parent)._replace(total=100 << 30, free=free)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    found = findings(log, exit_code=1)
    assert found["disk"]["severity"] == severity
    assert "free some space" in found["disk"]["next_step"]


def test_a_log_that_cannot_be_written_to(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the question itself is answered otherwise.
    monkeypatch.setattr("lastseen.doctor.sqlite_log.os.access", lambda place, _: place != log.parent)
    found = findings(log, exit_code=1)
    assert found["rights"] == {
        "check": "rights", "severity": "error", "says": f"this user cannot write to {log.parent}",
        "next_step": "correct its owner or its permissions",
    }  # fmt: skip


def test_a_file_system_without_locks(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(file_system, "_try", refuse)
    found = findings(log, exit_code=1)["file system"]
    assert found["severity"] == "error"
    assert re.search(r"log.db cannot be locked: its file system.* answers a lock with ENOLCK \(No locks", found["says"])
    assert "keep the log on a local disk" in found["next_step"]


def test_a_network_file_system(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {log.parent} rw,noatime shared:1 - nfs4 server:/home rw\n"
    )
    monkeypatch.setattr(file_system, "MOUNTS", mounts)
    found = findings(log, exit_code=1)["file system"]
    assert (found["severity"], "nfs4, a network file system" in found["says"]) == ("warning", True)


def test_a_cache_that_does_not_fit_the_memory(log: Path) -> None:
    found = findings(log, "--set", "max_memory_bytes=100000000", exit_code=1)
    assert found["memory"]["severity"] == "warning"
    assert "the limit is 100 MB" in found["memory"]["says"]


def test_a_write_ahead_log_that_has_grown(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastseen.doctor.sqlite_log.LARGE_WAL_BYTES", 1_000)
    with lastseen.open_engine(f"sqlite:///{log}", background=False) as engine:
        engine.touch("key-1")
        assert findings(log, exit_code=1)["write-ahead log"]["severity"] == "warning"


def test_the_tokens(log: Path, tmp_path: Path) -> None:
    place = tmp_path / "tokens.json"
    assert findings(log, "--set", f"token_file={place}", exit_code=1)["tokens"]["severity"] == "error"
    made = CliRunner().invoke(app, ["token", "create", "probe", "--scope", "read", "--token-file", str(place)])
    assert made.exit_code == 0, made.stderr
    result = run("--log", f"sqlite:///{log}", "--set", f"token_file={place}", "--json")
    assert result.exit_code == 0
    assert made.stdout.strip() not in result.stdout
    assert any(
        each["check"] == "tokens" and each["says"].startswith("1 in ") for each in json.loads(result.stdout)["findings"]
    )


class Answering(BaseHTTPRequestHandler):
    """A service that says how it is."""

    status, text = 200, ""

    def do_GET(self) -> None:
        assert self.path == "/readyz?verbose"
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: object) -> None:
        """Not on stderr."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield str(server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "text", "severity"),
    [
        (200, "[ok] fold: works\nready\n", "ok"),
        (200, "[warning] snapshot: no room\nready\n", "warning"),
        (503, "[failing] log: no broker answers\nnot ready\n", "error"),
        (404, "", "error"),
    ],
)
def test_a_service_that_runs(
    log: Path, port: str, monkeypatch: pytest.MonkeyPatch, status: int, text: str, severity: str
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    monkeypatch.setattr(Answering, "text", text)
    found = findings(log, "--set", f"port={port}", exit_code=0 if severity == "ok" else 1)
    assert found["service"]["severity"] == severity
    for line in text.splitlines():
        assert line.startswith("[ok]") or line in found["service"]["says"] or line.endswith("ready")


def test_a_service_that_speaks_tls(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Certificate.make(tmp_path / "tls")
    monkeypatch.setattr(Answering, "text", "ready\n")
    server = HTTPServer(("127.0.0.1", 0), Answering)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.keystore)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        settings = {"port": server.server_port, "host": "127.0.0.1", "tls_cert_file": made.keystore}
        found = findings(log, *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert found["service"]["says"] == f"the one at https://127.0.0.1:{server.server_port} is ready"


@pytest.mark.parametrize(
    ("host", "reached"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("localhost", "localhost")],
)
def test_where_a_service_is_reached(host: str, reached: str) -> None:
    assert doctor._address(ServiceSettings(host=host, port=1)) == f"http://{reached}:1"
    assert doctor._address(ServiceSettings(host=host, port=0)) is None
    assert doctor._address(ServiceSettings(host=host, roles=("view",))) is None


def test_no_service_runs(log: Path, port: str, tmp_path: Path) -> None:
    config = tmp_path / "service.toml"
    config.write_text(f"log = 'sqlite:///{log}'\nport = 1\n")
    result = CliRunner().invoke(
        app, ["doctor", "--config", str(config), "--profile", "production", "--json"], env={"LASTSEEN_PORT": None}
    )
    (found,) = [each for each in json.loads(result.stdout)["findings"] if each["check"] == "service"]
    assert result.exit_code == 0
    assert found["severity"] == "note"
    assert "none responds at http://127.0.0.1:1" in found["says"]


# ── Kafka ──


def contents(broker: SharedBroker, name: str) -> Any:
    """All that a log's topics hold, and who is in a group."""
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    consumer = KafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest")
    try:
        records = {}
        for topic in (name, f"{name}.facts", f"{name}.state"):
            parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            ends = consumer.end_offsets(parts)
            consumer.assign(parts)
            consumer.seek_to_beginning()
            while any(consumer.position(part) < ends[part] for part in parts):
                for part, batch in consumer.poll(100).items():
                    records.setdefault(part, []).extend(
                        (each.offset, each.timestamp, each.key, each.value, tuple(each.headers)) for each in batch
                    )
        groups = sorted(each["group_id"] for each in admin.list_groups() if name in each["group_id"])
        return records, groups
    finally:
        consumer.close()
        admin.close()


@pytest.fixture
def topic(kafka_broker: SharedBroker) -> str:
    name = f"doctor-{uuid.uuid4().hex}"
    url = f"kafka://{kafka_broker.address}/{name}"
    made = CliRunner().invoke(app, ["topics", "create", "--log", url, "--partitions", "2"])
    assert made.exit_code == 0, made.stderr
    return name


def test_a_log_on_kafka(kafka_broker: SharedBroker, topic: str, tmp_path: Path) -> None:
    url, snapshot = f"kafka://{kafka_broker.address}/{topic}", tmp_path / "kafka.snapshot"
    with lastseen.open_engine(url, snapshot=str(snapshot), background=False, prune=False, facts=False) as engine:
        for number in range(10):
            engine.open(f"key-{number}")
    before, on_disk = contents(kafka_broker, topic), files(tmp_path)

    found = findings(url, "--set", f"snapshot={snapshot}")

    assert contents(kafka_broker, topic) == before
    assert files(tmp_path) == on_disk
    assert len(before[0]) == 2
    assert before[1] == []
    assert found["log"]["says"] == f"{url} responds, and holds 12 records in 2 partitions"
    for check in ("topics", "beginning", "clocks", "producers", "records", "flood", "snapshot", "digest", "history"):
        assert found[check]["severity"] == "ok", found[check]
    assert "12 records folded" in found["digest"]["says"]


def test_a_log_on_kafka_without_a_snapshot(kafka_broker: SharedBroker, topic: str) -> None:
    url = f"kafka://{kafka_broker.address}/{topic}"
    found = findings(url, "--set", "snapshot=memory", exit_code=1)
    assert found["snapshot"]["severity"] == "warning"
    assert "in memory only" in found["snapshot"]["says"]

    found = findings(url)
    assert found["snapshot"]["severity"] == "note"
    assert "no engine of this account has left one" in found["snapshot"]["says"]

    with lastseen.open_engine(url, facts=False) as engine:
        engine.open("someone")
    assert findings(url)["digest"]["severity"] == "ok"


def test_topics_that_are_unfit_or_weak(kafka_broker: SharedBroker) -> None:
    name = f"doctor-{uuid.uuid4().hex}"
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.address)
    configs = {"message.timestamp.type": "CreateTime", "retention.ms": "1000000"}
    admin.create_topics(
        {name: {"num_partitions": 1, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True
    )
    admin.close()

    result = run("--log", f"kafka://{kafka_broker.address}/{name}", "--json")

    assert result.exit_code == 1
    topics = [each for each in json.loads(result.stdout)["findings"] if each["check"] == "topics"]
    said = {each["severity"]: each["says"] for each in topics}
    assert "LogAppendTime" in said["error"]
    assert any("retention.ms" in each["says"] for each in topics if each["severity"] == "warning")
    assert any(f"{name}.facts: the topic does not exist" in each["says"] for each in topics)


def test_a_topic_that_is_not_there(kafka_broker: SharedBroker) -> None:
    found = findings(f"kafka://{kafka_broker.address}/never-made", exit_code=1)
    assert found["log"]["severity"] == "error"
    assert "lastseen topics create" in found["log"]["says"]
