"""Kafka's jars: which ones, by `pom.xml`; where from, by Maven; where to, `var/kafka/lib`, once."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

from infra.kafka.alone import alone_in

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "kafka"
_POM = Path(__file__).with_name("pom.xml")
_ATTEMPTS = 3
_SAY_EVERY_FILES = 20
# Maven waits half an hour for a server that has gone quiet, unless it is configured otherwise: by 3.8, and by 3.9.
_PATIENCE = ("-Dmaven.wagon.rto=60000", "-Daether.connector.requestTimeout=60000")


class DownloadFailed(Exception):
    """Maven could not fetch the jars; the message has what it said."""


def kafka_version() -> str:
    """The version of Kafka that the project is developed against."""
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", _POM.read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"{_POM.name} has no kafka.version")
    return found[1]


def jars_are_here(folder: Path = FOLDER) -> bool:
    """Whether the jars that the pom asks for have been fetched."""
    mark = folder / "lib" / "pom.sha256"
    return mark.exists() and mark.read_text(encoding="ascii") == _fingerprint()


def fetch_jars(maven: str, folder: Path = FOLDER) -> Path:
    """The folder with the jars; fetches them if need be, one process at a time. Raises DownloadFailed."""
    with alone_in(folder):
        if not jars_are_here(folder):
            _fetch(maven, folder)
    return folder / "lib"


def _fetch(maven: str, folder: Path) -> None:
    arriving = folder / "lib.arriving"
    command = [maven, "--batch-mode", "--file", str(_POM), "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={arriving}", "-DincludeScope=runtime", *_PATIENCE]
    say(f"fetching Apache Kafka {kafka_version()} with Maven, once: about 45 MB, and Maven's own parts the first time")
    for attempt in range(1, _ATTEMPTS + 1):
        shutil.rmtree(arriving, ignore_errors=True)
        # Maven remembers what it could not find; --update-snapshots makes it look again.
        faults = _run(command if attempt == 1 else [*command, "--update-snapshots"])
        if faults is None:
            break
        say(f"attempt {attempt} of {_ATTEMPTS} failed")
    else:
        raise DownloadFailed(
            f"Maven could not fetch Apache Kafka {kafka_version()}; the last of {_ATTEMPTS} attempts said:\n{faults}\n"
            f"  Is Maven Central reachable? A mirror belongs in ~/.m2/settings.xml. Then: make kafka-jars"
        )
    (arriving / "pom.sha256").write_text(_fingerprint(), encoding="ascii")
    shutil.rmtree(folder / "lib", ignore_errors=True)
    arriving.rename(folder / "lib")
    say(f"Apache Kafka {kafka_version()} is in {folder / 'lib'}")


def _run(command: list[str]) -> str | None:
    """Run Maven, telling how far it is; what went wrong, None if nothing."""
    errors: deque[str] = deque(maxlen=12)
    files = 0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as maven:
        assert maven.stdout is not None
        for line in maven.stdout:
            if "Downloaded from" in line:
                files += 1
                if files % _SAY_EVERY_FILES == 0:
                    say(f"  {files} files")
            elif "Downloading from" not in line:
                errors.append(line.rstrip())
    return None if maven.returncode == 0 else "\n".join(errors)


def say(line: str) -> None:
    """Tell people how a preparation goes: on standard error, at once."""
    print(f"lastseen: {line}", file=sys.stderr, flush=True)  # noqa: T201 - it is for the terminal


def _fingerprint() -> str:
    return hashlib.sha256(_POM.read_bytes()).hexdigest()
