"""Which Kafka is used, on machines that have this or that: their programs are stand-ins on a path of their own."""

from __future__ import annotations

import io
import os
import shutil
import socket
import sys
import threading
from pathlib import Path

import pytest

from infra.kafka import choice, jars, packages
from infra.kafka.choice import NoKafka, running_elsewhere
from infra.kafka.docker import Docker, image
from infra.kafka.jars import DownloadFailed, fetch_jars, jars_are_here
from infra.kafka.java import Java, java_version

pytestmark = pytest.mark.thorough

JAVA_17 = """echo 'openjdk version "17.0.15" 2025-04-15' >&2"""
JAVA_11 = """echo 'openjdk version "11.0.27" 2025-04-15' >&2"""
JAVA_8 = """echo 'java version "1.8.0_452"' >&2"""
MAVEN = """
for argument; do case "$argument" in -DoutputDirectory=*) folder="${argument#*=}"; esac; done
mkdir -p "$folder"; : >"$folder/kafka.jar"; echo "Downloaded from central: kafka.jar"
"""
NO_ENGINE = "echo 'Cannot connect to the Docker daemon' >&2; exit 1"
ENGINE_WITHOUT_IMAGE = '[ "$1" = version ]'
ENGINE_OUT_OF_REACH = 'case "$1" in version|image) ;; *) echo "no such host" >&2; exit 125; esac'


def answer_once(listening: socket.socket, answer: bytes | None) -> None:
    """Give the next caller an answer, whatever it asks."""
    if answer is not None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)


class Machine:
    """A machine with few programs on its path, and a folder for the jars."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.folder = folder / "bin", folder / "kafka"
        self.programs.mkdir()
        for tool in ("sh", "env", "mkdir", "cat", "chmod"):
            (self.programs / tool).symlink_to(shutil.which(tool))

    def has(self, **programs: str) -> Machine:
        """Put stand-ins on the path, by name."""
        for name, script in programs.items():
            file = self.programs / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            file.chmod(0o755)
        return self

    def choose(self) -> Java | Docker:
        """What is chosen here."""
        return choice.choose.__wrapped__(self.folder)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with nothing, on which this is an ordinary user."""
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(machine.programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return machine


def test_a_named_broker_comes_first(kafka_broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTSEEN_TEST_KAFKA", kafka_broker.address)
    assert running_elsewhere() == kafka_broker.address
    monkeypatch.setenv("LASTSEEN_TEST_KAFKA", "")
    assert running_elsewhere() is None


@pytest.mark.parametrize(
    "answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\5\0\0\0\1\0", b"\0\0\0\5\0\0\0\7\0"]
)
def test_a_named_broker_must_answer_as_one(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("LASTSEEN_TEST_KAFKA", address)
        if answer is None:
            listening.close()
        answering = threading.Thread(target=answer_once, args=(listening, answer))
        answering.start()
        with pytest.raises(NoKafka, match=f"LASTSEEN_TEST_KAFKA={address} does not answer"):
            running_elsewhere()
        answering.join()


def test_java_and_maven_are_enough(machine: Machine) -> None:
    chosen = machine.has(java=JAVA_17, mvn=MAVEN).choose()
    assert chosen == Java(str(machine.programs / "java"), machine.folder / "lib")
    assert (machine.folder / "lib" / "kafka.jar").exists()


def test_jars_that_are_here_need_no_maven(machine: Machine) -> None:
    machine.has(java=JAVA_17, mvn=MAVEN).choose()
    (machine.programs / "mvn").unlink()
    assert isinstance(machine.choose(), Java)


def test_java_home_goes_before_the_path(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has(java=JAVA_11, mvn=MAVEN)
    home = machine.folder / "jdk"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text(f"#!/bin/sh\n{JAVA_17}\n", encoding="utf-8")
    (home / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert machine.choose().program == str(home / "bin" / "java")


def test_versions_of_java_are_read(machine: Machine) -> None:
    versions = {}
    for name, script in {"new": JAVA_17, "older": JAVA_11, "old": JAVA_8, "mute": "exit 1"}.items():
        machine.has(**{name: script})
        versions[name] = java_version(str(machine.programs / name))
    assert versions == {"new": 17, "older": 11, "old": 1, "mute": None}


def test_an_engine_that_does_not_answer_is_no_engine(machine: Machine) -> None:
    assert isinstance(machine.has(docker=NO_ENGINE, java=JAVA_17, mvn=MAVEN).choose(), Java)


def test_an_engine_without_the_image_is_passed_over_and_named(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(machine.has(docker=ENGINE_WITHOUT_IMAGE, java=JAVA_17, mvn=MAVEN).choose(), Java)
    assert f"{image()} could not be pulled" in capsys.readouterr().err


def test_an_engine_out_of_reach_is_passed_over_and_named(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(machine.has(docker=ENGINE_OUT_OF_REACH, java=JAVA_17, mvn=MAVEN).choose(), Java)
    said = capsys.readouterr().err
    assert "a broker in it does not" in said
    assert "no such host" in said


INSTALLING = """
echo "$@" >>"$0.log"
case "$*" in
*openjdk-17*) echo "E: Unable to locate package" >&2; exit 100;;
*openjdk-21*) name=java; script='{java}';;
*maven*) name=mvn; script='{maven}';;
*) exit 0;;
esac
printf '#!/bin/sh\\n%s\\n' "$script" >"${{0%/*}}/$name"; chmod 755 "${{0%/*}}/$name"
""".format(java=JAVA_17.replace("'", "'\\''"), maven=MAVEN)


def test_root_gets_java_and_maven_installed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert isinstance(machine.has(apt_get=INSTALLING).choose(), Java)
    asked = (machine.programs / "apt-get.log").read_text(encoding="utf-8").splitlines()
    assert [line.split()[-1] for line in asked] == [
        "update", "openjdk-17-jre-headless", "openjdk-21-jre-headless", "maven",
    ]  # fmt: skip


def test_so_does_a_user_who_allows_sudo(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(packages.ALLOW_SUDO, "1")
    sudo = '[ "$1" = -n ] || exit 1; shift; exec "$@"'
    assert isinstance(machine.has(apt_get=INSTALLING, sudo=sudo, java=JAVA_17).choose(), Java)
    asked = (machine.programs / "apt-get.log").read_text(encoding="utf-8").splitlines()
    assert [line.split()[-1] for line in asked] == ["update", "maven"]


def test_sudo_is_not_used_unasked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(packages.ALLOW_SUDO, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal, so no user's answer
    with pytest.raises(NoKafka, match="sudo apt-get install"):
        machine.has(apt_get=INSTALLING, sudo='echo used >>"$0.log"', java=JAVA_17).choose()
    assert not (machine.programs / "sudo.log").exists()
    assert "sudo could install Maven with apt-get" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "is_used"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_a_terminal_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str, is_used: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv(packages.ALLOW_SUDO, raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", Terminal())
    machine.has(apt_get="exit 0", sudo="exit 0")
    assert packages.install(["maven"], why="a test") is is_used
    assert sys.stderr.getvalue().startswith(  # type: ignore[attr-defined]
        "lastseen: may sudo install maven with apt-get, for a test? [y/N] "
    )


@pytest.mark.parametrize(
    ("programs", "missing"),
    [
        ({}, "Java 17 or newer"),
        ({"java": JAVA_11, "mvn": MAVEN}, "Java 17 or newer"),
        ({"java": JAVA_17}, "Maven"),
        ({"apt_get": INSTALLING, "sudo": "exit 1"}, "Java 17 or newer"),
        ({"apt_get": INSTALLING}, "Java 17 or newer"),
    ],
)
def test_where_there_is_nothing_it_says_what_to_install(
    machine: Machine, programs: dict[str, str], missing: str
) -> None:
    with pytest.raises(NoKafka) as failure:
        machine.has(**programs).choose()
    assert str(failure.value).splitlines() == [
        f"there is no Kafka to work with: no container engine can be used, and there is no {missing}.",
        "  On Debian and Ubuntu: sudo apt-get install openjdk-17-jre-headless maven; or start Docker;",
        "  or name a broker that runs: LASTSEEN_TEST_KAFKA=host:9092",
    ]


def test_a_download_that_fails_is_tried_again(machine: Machine) -> None:
    flaky = 'echo x >>"$0.tries"; [ "$(cat "$0.tries")" = "x\nx" ] || { echo "[ERROR] timed out"; exit 1; }' + MAVEN
    machine.has(mvn=flaky)
    assert (fetch_jars(str(machine.programs / "mvn"), machine.folder) / "kafka.jar").exists()
    assert jars_are_here(machine.folder)


def test_a_download_that_keeps_failing_says_what_maven_said(machine: Machine) -> None:
    machine.has(mvn="echo '[ERROR] repository is unreachable'; exit 1")
    with pytest.raises(DownloadFailed, match=r"(?s)repository is unreachable.*make kafka-jars"):
        fetch_jars(str(machine.programs / "mvn"), machine.folder)
    assert not jars_are_here(machine.folder)


def test_jars_of_another_pom_are_fetched_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has(mvn=MAVEN)
    fetch_jars(str(machine.programs / "mvn"), machine.folder)
    (machine.folder / "lib" / "old.jar").touch()
    monkeypatch.setattr(jars, "_fingerprint", lambda: "another")
    assert not jars_are_here(machine.folder)

    fetch_jars(str(machine.programs / "mvn"), machine.folder)

    assert not (machine.folder / "lib" / "old.jar").exists()
