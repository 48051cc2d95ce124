"""SIGTERM and kill −9 under HTTP load: every 2xx is in the log, and the next start goes on from there."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from lastseen.embedded.loading import load
from lastseen.embedded.settings import Settings
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Partition
from tests.patience import PATIENCE_S, paced_s
from tests.service.running import Running, wait_until

CALLERS = 4
LOG = "sqlite:///log.db"
ARGUMENTS = ("--log", LOG, "--port", "0")


class Acknowledged(NamedTuple):
    """What a 2xx has promised."""

    key: str
    session_id: str
    offset: int
    status: int


class Load:
    """Callers that open, touch and end sessions for as long as the service answers."""

    def __init__(self, address: str, seed: int) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.refused: list[str] = []
        """Answers that were neither 2xx nor a refusal that is part of the game."""
        self._threads = [
            threading.Thread(target=self._call, args=(address, random.Random(seed * 100 + number), number))
            for number in range(CALLERS)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, address: str, chance: random.Random, number: int) -> None:
        with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
            while True:
                key = f"caller{number}:{chance.randrange(20)}"
                try:
                    answer = self._act(client, key, chance.random())
                except httpx.HTTPError:
                    return
                if answer.is_success and answer.content:
                    received = answer.json()
                    offset = received["position"][1]
                    self.acknowledged.append(Acknowledged(key, received["session_id"], offset, answer.status_code))
                elif answer.status_code not in (204, 404, 409, 410, 503):
                    self.refused.append(f"{answer.status_code} {answer.text}")

    def _act(self, client: httpx.Client, key: str, dice: float) -> httpx.Response:
        if dice < 0.3:
            return client.post("/v1/sessions", json={"key": key})
        if dice < 0.4:
            return client.delete(f"/v1/sessions/{key}")
        return client.post(f"/v1/sessions/{key}/touch")

    def end(self) -> list[Acknowledged]:
        """Wait for the callers; returns what was acknowledged."""
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert self.refused == []
        return self.acknowledged


def fold_all(folder: Path) -> tuple[Partition, dict[int, str | None], list[Verdict]]:
    """The log from its beginning: the state, whose session each record is about, the verdicts."""
    log = open_log(f"sqlite:///{folder / 'log.db'}", SystemClock())
    partition, about, verdicts = Partition(0), {}, []
    try:
        while records := log.read(0, partition.checkpoint, 1_000):
            for record in records:
                outcome = partition.fold(record)
                verdicts.append(outcome.verdict)
                about[record.offset] = None if outcome.session is None else outcome.session.session_id
    finally:
        log.close()
    return partition, about, verdicts


def check_nothing_is_lost(folder: Path, acknowledged: list[Acknowledged]) -> Partition:
    """Every 2xx is a record that took effect, of the session that it said."""
    partition, about, verdicts = fold_all(folder)
    for each in acknowledged:
        assert each.offset < partition.checkpoint, f"{each} is not in the log"
        assert about[each.offset] == each.session_id, f"the log has something else at {each}"
        assert verdicts[each.offset] is Verdict.APPLIED, each
    return partition


def snapshot_checkpoint(folder: Path) -> int:
    """How far the snapshot goes."""
    log = open_log(f"sqlite:///{folder / 'log.db'}", SystemClock())
    try:
        state = load(log, Settings())
        state.snapshot.close()
        state.history.close()
        assert state.notes == []
        return state.partitions[0].checkpoint
    finally:
        log.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_every_2xx_is_in_the_log(tmp_path: Path, number: signal.Signals) -> None:
    acknowledged: list[Acknowledged] = []
    for cycle in range(3):
        with Running(tmp_path, *ARGUMENTS, "--set", "snapshot_interval=200ms") as service:
            address = service.address()
            # What was acknowledged before is there after the start.
            for each in acknowledged[-3:]:
                assert httpx.get(f"{address}/v1/sessions/{each.key}", timeout=PATIENCE_S).status_code in (200, 410)
            load = Load(address, cycle)
            wait_until(lambda load=load: len(load.acknowledged) >= 100, "100 answers")  # type: ignore[misc]
            service.tell(number)
            assert service.exit_code() == (0 if number == signal.SIGTERM else -signal.SIGKILL)
            acknowledged += load.end()
            assert "Traceback" not in "".join(service.errors)
        partition = check_nothing_is_lost(tmp_path, acknowledged)
        if number == signal.SIGTERM:
            assert snapshot_checkpoint(tmp_path) == partition.checkpoint
    assert {each.status for each in acknowledged} == {200, 201}


def test_a_log_that_loses_its_end_is_noticed(tmp_path: Path) -> None:
    with Running(tmp_path, *ARGUMENTS) as service:
        answer = httpx.post(f"{service.address()}/v1/sessions", json={"key": "ana"}, timeout=PATIENCE_S)
        received = answer.json()
    promised = Acknowledged("ana", received["session_id"], received["position"][1], answer.status_code)
    check_nothing_is_lost(tmp_path, [promised])
    for broken in (promised._replace(offset=promised.offset + 1), promised._replace(session_id="another")):
        with pytest.raises(AssertionError):
            check_nothing_is_lost(tmp_path, [broken])


# ── requests in flight ──


class Slow:
    """A request that is sent in two halves."""

    def __init__(self, address: str, key: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=PATIENCE_S)
        body = json.dumps({"key": key}).encode()
        self._rest = body[5:]
        self.socket.sendall(
            b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body[:5]
        )

    def finish(self) -> bytes:
        """Send the other half; returns the whole answer."""
        self.socket.sendall(self._rest)
        answer = b""
        while piece := self.socket.recv(65_536):
            answer += piece
        return answer

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def begun(service: Running, key: str) -> Slow:
    """A request that the service has begun to read."""
    address = service.address()
    slow = Slow(address, key)
    # Another request on another connection, answered: the one before has arrived.
    assert httpx.get(f"{address}/v1/sessions", timeout=PATIENCE_S).status_code == 200
    return slow


def test_a_request_in_flight_gets_its_answer(tmp_path: Path) -> None:
    with Running(tmp_path, *ARGUMENTS) as service:
        slow = begun(service, "in-flight")
        service.tell()
        service.line("stopping")
        with pytest.raises(httpx.ConnectError):
            wait_until(
                lambda: not httpx.get(f"{service.address()}/v1/sessions", timeout=PATIENCE_S), "the port is closed"
            )
        assert service.process.poll() is None
        answer = slow.finish()
        slow.close()
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert service.exit_code() == 0
    partition, _, _ = fold_all(tmp_path)
    assert "in-flight" in partition.active


def test_a_second_signal_ends_the_wait_and_loses_nothing(tmp_path: Path) -> None:
    with Running(tmp_path, *ARGUMENTS, "--set", "shutdown_timeout=60s", "--set", "snapshot_interval=1h") as service:
        address = service.address()
        assert httpx.post(f"{address}/v1/sessions", json={"key": "kept"}, timeout=PATIENCE_S).status_code == 201
        slow = begun(service, "never-sent")
        service.tell(signal.SIGTERM)
        service.line("stopping")
        assert service.process.poll() is None
        signalled_s = paced_s()
        service.tell(signal.SIGINT)
        service.tell(signal.SIGTERM)
        assert service.exit_code() == 0
        assert paced_s() - signalled_s < 10
        slow.close()
        assert service.lines()[-1]["event"] == "stopped"
        assert "error" not in {line["level"] for line in service.lines()}
    partition, _, _ = fold_all(tmp_path)
    assert list(partition.active) == ["kept"]
    assert snapshot_checkpoint(tmp_path) == partition.checkpoint == 2


def test_a_caller_who_never_ends_is_waited_for_only_so_long(tmp_path: Path) -> None:
    with Running(tmp_path, *ARGUMENTS, "--set", "shutdown_timeout=1s") as service:
        slow = begun(service, "never-sent")
        service.tell()
        assert service.exit_code() == 0
        slow.close()
        assert service.line("closed callers' connections")["connections"] == 1
        assert "error" not in {line["level"] for line in service.lines()}


def test_streams_end_in_good_order_and_go_on_at_the_next_service(tmp_path: Path) -> None:
    def events(stream: httpx.Response) -> Iterator[tuple[str, str]]:
        event_id = ""
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                event_id = value
            elif name == "data":
                yield event_id, json.loads(value)["subject"]

    last_event_id = None
    heard: list[str] = []
    for cycle in range(2):
        with Running(tmp_path, *ARGUMENTS) as service:
            address = service.address()
            sent = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
            with httpx.stream("GET", f"{address}/v1/events/stream", headers=sent, timeout=PATIENCE_S) as stream:
                assert stream.status_code == 200
                for number in range(3):
                    made = httpx.post(
                        f"{address}/v1/sessions", json={"key": f"key:{cycle}:{number}"}, timeout=PATIENCE_S
                    )
                    assert made.status_code == 201
                received = events(stream)
                for event_id, key in islice(received, 3):
                    last_event_id = event_id
                    heard.append(key)
                service.tell()
                # The end of the stream is an end, not a break: httpx would raise.
                assert list(received) == []
            assert service.exit_code() == 0
            assert "closed callers' connections" not in {line["event"] for line in service.lines()}
            assert "error" not in {line["level"] for line in service.lines()}
    assert heard == [f"key:{cycle}:{number}" for cycle in range(2) for number in range(3)]
