"""`make kafka`, `make kafka-cluster`, `make kafka-jars`: real brokers on loopback, until they are interrupted.

python -m infra.kafka jars|one|three
"""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from infra.kafka.choice import ADDRESS_VARIABLE, NoKafka, choose, running_elsewhere
from infra.kafka.classes import keep_classes
from infra.kafka.cluster import Cluster, is_free
from infra.kafka.jars import FOLDER, DownloadFailed, say
from infra.kafka.java import Java
from infra.kafka.node import BrokerFailed

SIZES = {"one": 1, "three": 3}
FIRST_PORT = 9092
_LOOK_EVERY_S = 1.0


def run(folder: Path, size: int) -> None:
    """Run so many brokers in the foreground until a signal comes. Raises BrokerFailed when one ends by itself."""
    launcher = choose()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrokerFailed(f"they run already, in another terminal; their records are in {folder}") from None
        usual = all(is_free(FIRST_PORT + number) for number in range(size))
        if not usual:
            say(f"port {FIRST_PORT}{' or one after it' if size > 1 else ''} is taken; using others")
        cluster = Cluster(launcher, folder, size, first_port=FIRST_PORT if usual else None)
        say(f"starting {size} broker{'s' if size > 1 else ''} with {launcher.describe()}")
        try:
            cluster.start()
            say(f"Kafka is ready at {cluster.address}; Ctrl-C stops it, its records stay in {folder}")
            print(cluster.address, flush=True)  # noqa: T201 - for scripts
            watch(cluster)
        except KeyboardInterrupt:
            say("stopping")
            cluster.stop()
        finally:
            cluster.kill()


def watch(cluster: Cluster) -> None:
    """Wait until a broker ends by itself. Raises BrokerFailed then, and whatever a signal raises."""
    never = threading.Event()
    while True:
        for node in cluster.nodes:
            if node.pid is None:
                raise BrokerFailed(f"node {node.node_id} at {node.address} ended by itself:\n{node.last_output()}")
        never.wait(_LOOK_EVERY_S)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Do what the only argument says, with the brokers' records in `folder`; returns the exit code."""
    if len(arguments) != 1 or arguments[0] not in {"jars", *SIZES}:
        say(f"python -m infra.kafka jars|{'|'.join(SIZES)}")
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        elsewhere = running_elsewhere()
        if elsewhere:
            say(f"{ADDRESS_VARIABLE} names a Kafka that runs already: {elsewhere}")
        elif arguments[0] == "jars":
            launcher = choose()
            if isinstance(launcher, Java):
                keep_classes(launcher)
            say(f"brokers for the tests: {launcher.describe()}")
        else:
            run(folder / arguments[0], SIZES[arguments[0]])
    except (NoKafka, DownloadFailed, BrokerFailed, OSError) as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
