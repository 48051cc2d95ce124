"""`make kafka`: starts, says where, and stops as asked, leaving its records and no process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.kafka import wire
from infra.kafka.__main__ import main, watch
from infra.kafka.node import BrokerFailed

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from infra.kafka.__main__ import main
sys.exit(main(["one"], Path(sys.argv[1])))
"""

Run = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs what `make kafka` runs, its records in a folder of the test's own."""
    monkeypatch.delenv("LASTSEEN_TEST_KAFKA", raising=False)
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_it_is_asked_to_stop(run: Run, asked: signal.Signals, tmp_path: Path) -> None:
    running = run()
    address = running.stdout.readline().strip()
    assert [f"{each.host}:{each.port}" for each in wire.brokers(address)] == [address]

    running.send_signal(asked)
    said = running.communicate()[1]

    assert running.returncode == 0
    assert f"Kafka is ready at {address}" in said
    with pytest.raises(OSError):
        wire.brokers(address)
    assert (tmp_path / "one" / "1" / "records" / "meta.properties").exists()


def test_a_second_one_on_the_same_records_says_so(run: Run) -> None:
    first = run()
    assert first.stdout.readline()

    second = run()
    said = second.communicate()[1]

    assert second.returncode == 1
    assert "they run already" in said
    assert first.poll() is None


def test_a_broker_that_ends_by_itself_is_reported(own_kafka_cluster) -> None:
    cluster = own_kafka_cluster(1)
    cluster.nodes[0].kill()
    with pytest.raises(BrokerFailed, match="ended by itself"):
        watch(cluster)


def test_a_named_broker_is_not_started_again(
    kafka_broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LASTSEEN_TEST_KAFKA", kafka_broker.address)
    assert main(["one"]) == 0
    assert f"runs already: {kafka_broker.address}" in capsys.readouterr().err


def test_it_says_what_it_understands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["two"]) == 2
    assert "jars|one|three" in capsys.readouterr().err
