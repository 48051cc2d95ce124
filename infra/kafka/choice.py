"""Which Kafka to use: the one place that decides, for `make` and for the tests alike.

1. `LASTSEEN_TEST_KAFKA`, the address of a broker that somebody else runs (`running_elsewhere`);
2. a container engine, if one answers and its containers can be reached from here;
3. Java 17 or newer, with the jars that Maven fetches;
4. both of those installed, where this may be done: by root or passwordless sudo, with apt-get;
5. an error which says what to install. Never nothing: a test without a broker fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

from infra.kafka.jars import FOLDER, fetch_jars, jars_are_here, say
from infra.kafka.java import OLDEST_JAVA, Java, find_java
from infra.kafka.node import Launcher

ADDRESS_VARIABLE = "LASTSEEN_TEST_KAFKA"
_JAVA_PACKAGES = ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "default-jre-headless")


class NoKafka(Exception):
    """There is no way to run Kafka here; the message says what to install."""


def running_elsewhere() -> str | None:
    """The address of a broker that somebody else runs, if the environment names one."""
    return os.environ.get(ADDRESS_VARIABLE) or None


@cache
def choose() -> Launcher:
    """What to run brokers with on this machine, made ready. Raises NoKafka; DownloadFailed."""
    return _java() or _installed() or _nothing()


def _java() -> Java | None:
    program, maven = find_java(), shutil.which("mvn")
    if program and jars_are_here():
        return Java(program, FOLDER / "lib")
    return Java(program, fetch_jars(maven)) if program and maven else None


def _installed() -> Java | None:
    """Java and Maven from the system's packages, where installing is allowed without asking anybody."""
    apt, sudo = shutil.which("apt-get"), [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not apt or (sudo and not _succeeds("sudo", "-n", "true")):
        return None
    say("neither a container engine nor Java with Maven is here; installing Java and Maven with apt-get")
    quiet = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", apt, "-qq", "-o", "Acquire::Retries=3"]
    _succeeds(*quiet, "update")
    for package in _JAVA_PACKAGES:
        if find_java() or _succeeds(*quiet, "install", "-y", "--no-install-recommends", package):
            break
    if not shutil.which("mvn"):
        _succeeds(*quiet, "install", "-y", "--no-install-recommends", "maven")
    return _java()


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _nothing() -> Launcher:
    raise NoKafka(
        "there is no Kafka to work with: no container engine answers, and there is no "
        + (f"Java {OLDEST_JAVA} or newer" if not find_java() else "Maven")
        + ".\n  On Debian and Ubuntu: sudo apt-get install openjdk-17-jre-headless maven; or start Docker;"
        + f"\n  or name a broker that runs: {ADDRESS_VARIABLE}=host:9092"
    )
