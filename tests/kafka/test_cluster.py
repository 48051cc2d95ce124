"""Three engines on three brokers, six callers, 60 keys: engines are restarted, killed, frozen, added and taken away.

No response is ever wrong, and no key is without an answer for longer than 2 s where the change was planned, and 12 s
where an engine crashed or froze (Kafka notices that after 10 s). The seconds are those of a caller of a service to
which nothing happens, on the same machine: a busy machine makes its calls slower, too. The longest gaps are logged.
"""

from __future__ import annotations

import logging
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

import lastseen
from infra.kafka.cluster import free_ports
from lastseen.engine.log.kafka.new_log import create_log
from lastseen.engine.log.kafka.topic import NewTopics
from lastseen.engine.log.kafka.url import parse_kafka_url
from tests.kafka.cluster_callers import Caller, Control
from tests.kafka_fixtures import OwnCluster
from tests.patience import PATIENCE_S
from tests.service.running import Running, wait_until

PARTITIONS = 6
KEYS = [f"user:{number}" for number in range(60)]
CALLERS = 6
CALM_S = 5.0
FROZEN_S = 15.0
PLANNED_GAP_S = 2.0
CRASH_GAP_S = 12.0
_logger = logging.getLogger(__name__)


class Service:
    """One place for an engine: a process at a time, at an address that stays."""

    def __init__(self, scene: Scene, name: str) -> None:
        (port,) = free_ports(1)
        self.name, self.address = name, f"http://127.0.0.1:{port}"
        self._arguments = (
            "--log", scene.url, "--port", str(port), "--set", f"view={scene.view}", "--set", f"address={self.address}",
            "--set", "snapshot=:memory:",
        )  # fmt: skip
        self._scene = scene
        self.process: Running

    def start(self) -> None:
        """Start a process, and wait until it answers."""
        self.process = self._scene.end.enter_context(Running(self._scene.folder, *self._arguments))
        self.process.address()

    def figure(self, share: str) -> int:
        """How many partitions it has of a kind."""
        text = httpx.get(f"{self.address}/metrics", timeout=PATIENCE_S).text
        found = re.search(rf'^lastseen_partitions\{{share="{share}"\}} (\d+)', text, re.MULTILINE)
        assert found, text
        return int(found[1])


class Scene:
    """The services, their callers, and the control."""

    def __init__(self, folder: Path, url: str, view: str, end: ExitStack) -> None:
        self.folder, self.url, self.view, self.end = folder, url, view, end
        self.services = [Service(self, name) for name in ("one", "two", "three")]
        self.gaps: dict[str, tuple[float, float]] = {}
        """Of each change the longest gap of a key, in seconds by the clock and by the control."""

    def begin(self) -> None:
        """Start everything, and measure the calm."""
        for service in self.services:
            service.start()
        self.settle()
        control = self.end.enter_context(Running(self.folder, "--log", "sqlite:///control.db", "--port", "0"))
        self.control = Control(control.address())
        self.callers = [Caller(KEYS[number::CALLERS], self.addresses) for number in range(CALLERS)]
        for caller in self.callers:
            for each in caller.keys:
                self._open(each.key, caller)
        for thread in (self.control, *self.callers):
            thread.start()
        self.end.callback(self.stop)
        began_s = time.monotonic()
        wait_until(lambda: all(len(key.succeeded_s) > 20 for caller in self.callers for key in caller.keys), "all run")
        wait_until(lambda: time.monotonic() - began_s > CALM_S, "a calm time")
        self.control.calibrate(began_s, time.monotonic())
        self._note("calm", began_s)

    def _open(self, key: str, caller: Caller) -> None:
        def opened() -> httpx.Response | None:
            for address in self.addresses():
                response = httpx.post(f"{address}/v1/sessions", json={"key": key}, timeout=PATIENCE_S)
                if response.is_success:
                    return response
            return None

        response = wait_until(opened, f"{key} is open")
        (known,) = [each for each in caller.keys if each.key == key]
        known.session_id, known.version = response.json()["session_id"], response.json()["version"]
        known.position = response.headers["position"]

    def addresses(self) -> list[str]:
        """Where callers find services; they learn of a new one, and that one is gone, as from a load balancer."""
        return [service.address for service in self.services]

    def stop(self) -> None:
        """End the callers and the control."""
        for thread in (*self.callers, self.control):
            thread.end()

    def settle(self) -> None:
        """Wait until each partition has one owner, each service its share, and each partition its standby."""

        def is_settled() -> bool:
            owned = [service.figure("owned") for service in self.services]
            loading = sum(service.figure("loading") for service in self.services)
            standby = sum(service.figure("standby") for service in self.services)
            is_even = sum(owned) == PARTITIONS and max(owned) - min(owned) <= 1
            return is_even and not loading and standby == (PARTITIONS if self.view == "owned" else 0)

        wait_until(is_settled, "the partitions are divided")

    @contextmanager
    def change(self, name: str, bound_s: float) -> Iterator[None]:
        """Something happens: the longest gap of a key, until everything is settled again, must be within the bound."""
        began_s = time.monotonic()
        yield
        self.settle()
        seen = {key.key: len(key.succeeded_s) for caller in self.callers for key in caller.keys}
        wait_until(
            lambda: all(len(key.succeeded_s) > seen[key.key] for caller in self.callers for key in caller.keys),
            f"every key is answered for after: {name}",
        )
        wall_s, control_s = self._note(name, began_s)
        assert self.wrong() == []
        # A caller comes round to each of its keys only every so often: that long a gap is when nothing happens.
        _, calm_s = self.gaps["calm"]
        assert control_s <= bound_s + calm_s, f"{name}: a key had no answer for {control_s:.1f} s ({wall_s:.1f} s)"

    def _note(self, name: str, began_s: float) -> tuple[float, float]:
        gap = max((caller.longest_gap(began_s, time.monotonic()) for caller in self.callers), key=self.control.seconds)
        self.gaps[name] = gap.ended_s - gap.began_s, self.control.seconds(gap)
        says = "%s, view=%s: longest gap of a key %.2f s, %.2f s by the control"
        _logger.warning(says, name, self.view, *self.gaps[name])
        return self.gaps[name]

    def wrong(self) -> list[str]:
        """Responses that no service may give."""
        return [each for caller in self.callers for each in caller.wrong]

    def check_log(self) -> None:
        """Each session is as its caller knows it."""
        self.stop()
        with lastseen.open_engine(self.url, prune=False, facts=False, background=False) as engine:
            for caller in self.callers:
                for key in caller.keys:
                    session = engine.get(key.key)
                    assert session is not None
                    assert session.session_id == key.session_id
                    assert key.version <= session.version <= key.version + key.unknown


@pytest.fixture
def scene(tmp_path: Path, own_kafka_cluster: OwnCluster) -> Iterator[Callable[[str], Scene]]:
    """Sets the scene: `scene(view)`."""
    with ExitStack() as end:

        def begin(view: str) -> Scene:
            url = f"kafka://{own_kafka_cluster(3).address}/cluster"
            create_log(parse_kafka_url(url), NewTopics(PARTITIONS))
            found = Scene(tmp_path, url, view, end)
            found.begin()
            return found

        yield begin


@pytest.mark.thorough
@pytest.mark.parametrize("view", ["owned", "all"])
def test_no_key_is_without_an_answer_for_long(scene: Callable[[str], Scene], view: str) -> None:
    cluster = scene(view)
    for service in list(cluster.services):
        with cluster.change(f"restart of {service.name}", PLANNED_GAP_S):
            service.process.tell()
            assert service.process.exit_code() == 0
            service.start()
    with cluster.change("one engine more", PLANNED_GAP_S):
        another = Service(cluster, "four")
        another.start()
        cluster.services.append(another)
    with cluster.change("one engine less", PLANNED_GAP_S):
        cluster.services.remove(another)
        another.process.tell()
        assert another.process.exit_code() == 0
    victim = cluster.services[0]
    with cluster.change("kill -9", CRASH_GAP_S):
        victim.process.tell(signal.SIGKILL)
        victim.process.exit_code()
        victim.start()
    frozen = cluster.services[1]
    with cluster.change("SIGSTOP for 15 s", CRASH_GAP_S):
        frozen.process.tell(signal.SIGSTOP)
        thaws_s = time.monotonic() + FROZEN_S
        wait_until(lambda: time.monotonic() > thaws_s, "it stands still")
        frozen.process.tell(signal.SIGCONT)
    cluster.check_log()
    _logger.warning("tries that failed: %s", [caller.failures for caller in cluster.callers])
