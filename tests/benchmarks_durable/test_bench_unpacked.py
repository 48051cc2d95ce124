"""What is fetched for the benchmarks is what is pinned, byte by byte, or it is missing; and it is fetched once."""

from __future__ import annotations

import hashlib
import re
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import unpacked as here
from benchmarks.servers import PeerMissing
from benchmarks.unpacked import HERMES_AGENT, LOCK, Wheel, environment, unpacked

pytestmark = pytest.mark.thorough


def a_wheel(folder: Path) -> Wheel:
    """A wheel in a folder, with one module in it."""
    folder.mkdir()
    file = folder / "peer-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("peer.py", "x = 1\n")
    return Wheel("peer", "1.0", hashlib.sha256(file.read_bytes()).hexdigest())


def fetches_from(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[list[str]]:
    """pip replaced by a copy from `folder`; returns what it was called with."""
    calls: list[list[str]] = []

    def pip(peer: str, python: str, *arguments: str) -> None:
        calls.append(list(arguments))
        into = Path(arguments[arguments.index("--dest") + 1])
        into.mkdir()
        for file in folder.iterdir():
            (into / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(here, "_pip", pip)
    return calls


def test_a_wheel_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = a_wheel(tmp_path / "index")
    calls = fetches_from(monkeypatch, tmp_path / "index")
    folder = unpacked(wheel, tmp_path / "kept")
    assert (folder / "peer.py").read_text("utf-8") == "x = 1\n"
    assert unpacked(wheel, tmp_path / "kept") == folder
    assert len(calls) == 1
    assert "--no-deps" in calls[0]
    assert "--require-hashes" in calls[0]
    assert list((tmp_path / "kept").iterdir()) == [folder]


def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = a_wheel(tmp_path / "index")
    fetches_from(monkeypatch, tmp_path / "index")
    with pytest.raises(PeerMissing, match="not the wheel with sha256"):
        unpacked(wheel._replace(sha256="0" * 64), tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_what_cannot_be_fetched_is_missing_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(PeerMissing, match=r"hermes-agent: pip download: .*No matching distribution"):
        unpacked(HERMES_AGENT, tmp_path / "kept")


def test_an_environment_is_made_once_for_a_lock_and_again_if_it_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    is_down = True

    def make(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    def install(peer: str, python: str, *arguments: str) -> None:
        if is_down:
            raise PeerMissing(peer, "the index is down")
        installed.append(arguments[-1])

    monkeypatch.setattr(here.subprocess, "run", make)
    monkeypatch.setattr(here, "_pip", install)
    lock = tmp_path / "a.lock"
    lock.write_text("one", "utf-8")
    with pytest.raises(PeerMissing, match="the index is down"):
        environment(lock, tmp_path)
    is_down = False
    first = environment(lock, tmp_path)
    assert environment(lock, tmp_path) == first
    lock.write_text("two", "utf-8")
    assert environment(lock, tmp_path) != first
    assert installed == [str(lock), str(lock)]


def test_every_pin_of_the_peers_has_a_hash_and_no_index_is_named() -> None:
    text = LOCK.read_text("utf-8")
    pins = [each for each in re.split(r"\n(?=\S)", text) if each.strip() and not each.startswith("#")]
    assert [pin for pin in pins if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", pin, re.DOTALL)] == []
    assert {"quixstreams==3.28.1", "pyyaml==6.0.3"} <= {pin.split()[0] for pin in pins}
    assert "://" not in text


def test_who_come_at_once_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = a_wheel(tmp_path / "index")
    calls = fetches_from(monkeypatch, tmp_path / "index")
    together, pip = threading.Barrier(4), here._pip

    def slow_pip(peer: str, python: str, *arguments: str) -> None:
        pip(peer, python, *arguments)
        threading.Event().wait(0.1)  # waits: as a download takes its time

    def come() -> Path:
        together.wait()
        return unpacked(wheel, tmp_path / "kept")

    monkeypatch.setattr(here, "_pip", slow_pip)
    with ThreadPoolExecutor(4) as pool:
        found = {asked.result() for asked in [pool.submit(come) for _ in range(4)]}
    assert len(found) == len(calls) == 1
