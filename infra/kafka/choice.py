"""Which Kafka to use: the one place that decides, for `make` and for the tests alike.

1. `LASTSEEN_TEST_KAFKA`, the address of a broker that runs already (`running_elsewhere`);
2. a container engine, if one answers and its containers can be reached from here;
3. Java 17 or newer, with the jars that Maven fetches;
4. both of those installed, where this may be done: with apt-get, by root, or by sudo where the user allows it;
5. an error which says what to install. Never nothing: a test without a broker fails.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from infra.kafka import packages, wire
from infra.kafka.cluster import Cluster
from infra.kafka.docker import Docker, find_docker
from infra.kafka.jars import FOLDER, fetch_jars, jars_are_here, say
from infra.kafka.java import OLDEST_JAVA, Java, find_java
from infra.kafka.node import BrokerFailed, Launcher

ADDRESS_VARIABLE = "LASTSEEN_TEST_KAFKA"
_CONTAINER_REACHED_WITHIN_S = 45
# Debian 12 has 17, Debian 13 has 21.
_JAVA_PACKAGES = ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "default-jre-headless")


class NoKafka(Exception):
    """There is no way to run Kafka here; the message says what to install."""


def running_elsewhere() -> str | None:
    """The address of a broker that runs already, if the environment names one. Raises NoKafka if it is silent."""
    address = os.environ.get(ADDRESS_VARIABLE)
    if not address:
        return None
    try:
        wire.brokers(address.split(",")[0], timeout_s=10)
    except (OSError, ValueError) as failure:
        raise NoKafka(f"{ADDRESS_VARIABLE}={address} does not answer as a Kafka broker would: {failure}") from None
    return address


@cache
def choose(folder: Path = FOLDER) -> Launcher:
    """What to run brokers with on this machine, made ready; jars go to `folder`/lib. Raises NoKafka, DownloadFailed."""
    launcher = _containers() or _java(folder) or _installed(folder)
    if launcher is None:
        missing = "Maven" if find_java() else f"Java {OLDEST_JAVA} or newer"
        raise NoKafka(
            f"there is no Kafka to work with: no container engine can be used, and there is no {missing}.\n"
            f"  On Debian and Ubuntu: sudo apt-get install {_JAVA_PACKAGES[0]} maven; or start Docker;\n"
            f"  or name a broker that runs: {ADDRESS_VARIABLE}=host:9092"
        )
    return launcher


def _containers() -> Docker | None:
    """An engine may answer and be somewhere else, behind a socket or a tunnel; so one broker is tried first."""
    docker = find_docker()
    if docker is None:
        return None
    with tempfile.TemporaryDirectory(prefix="lastseen-kafka-") as folder:
        trial = Cluster(docker, Path(folder), 1)
        try:
            trial.start(_CONTAINER_REACHED_WITHIN_S)
        except BrokerFailed as failure:
            say(f"a container engine answers, but a broker in it does not; going on without it: {failure}")
            return None
        finally:
            trial.kill()
    return docker


def _java(folder: Path) -> Java | None:
    program, maven = find_java(), shutil.which("mvn")
    if program and jars_are_here(folder):
        return Java(program, folder / "lib")
    return Java(program, fetch_jars(maven, folder)) if program and maven else None


def _installed(folder: Path) -> Java | None:
    """Java and Maven from the system's packages, where they may be installed."""
    missing = [name for name, found in (("Java", find_java()), ("Maven", shutil.which("mvn"))) if not found]
    apt_get = packages.apt_get(missing, why="the Kafka broker of the tests")
    if apt_get is None:
        return None
    say("installing Java and Maven with apt-get: there is no container engine, and one of the two is missing")
    packages.succeeds([*apt_get, "update"])
    for package in _JAVA_PACKAGES:
        if find_java():
            break
        packages.succeeds([*apt_get, "install", "-y", "--no-install-recommends", package])
    if not shutil.which("mvn"):
        packages.succeeds([*apt_get, "install", "-y", "--no-install-recommends", "maven"])
    return _java(folder)
