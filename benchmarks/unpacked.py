"""Peers that are not installed beside us: a package whose wheel is only unpacked, and an environment of its own.

`hermes-agent` is unpacked and not installed, since one module of it is measured and the rest of it is an application.
Quix Streams wants older versions of what we use, so it gets an environment of its own. Both are kept in `var/peers`
and made once. What is fetched is pinned by its hash; what cannot be fetched is a peer that is missing.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.servers import PeerMissing
from infra.kafka.alone import alone_in

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "var" / "peers"
LOCK = Path(__file__).parent / "unpacked.lock"
FETCH_WITHIN_S = 600


class Wheel(NamedTuple):
    """A wheel: what it is called, and the hash of its bytes."""

    name: str
    version: str
    sha256: str

    def matches(self, file: Path) -> bool:
        """Whether a file is this wheel, byte by byte."""
        return hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256


HERMES_AGENT = Wheel("hermes-agent", "0.13.0", "e11a8c57c1f57d9a1319ada006889ecde8ed8179c4f8f57af79c65de0033be11")


def unpacked(wheel: Wheel = HERMES_AGENT, kept: Path = KEPT) -> Path:
    """The folder with a wheel's files, fetched by pip at the first time. Raises `PeerMissing`."""
    folder = kept / f"{wheel.name}-{wheel.version}-{wheel.sha256[:12]}"
    with alone_in(kept):
        if not folder.is_dir():
            _unpack(wheel, folder)
    return folder


def _unpack(wheel: Wheel, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        downloads = Path(name) / "downloads"
        wanted = Path(name) / "wanted.txt"
        wanted.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", "utf-8")
        _pip(
            wheel.name, sys.executable, "download", "--no-deps", "--only-binary", ":all:", "--require-hashes",
            "--dest", str(downloads), "--requirement", str(wanted),
        )  # fmt: skip
        file = next(iter(downloads.glob("*.whl")), None)
        if file is None or not wheel.matches(file):
            raise PeerMissing(wheel.name, f"what was fetched is not the wheel with sha256 {wheel.sha256}")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(Path(name) / "files")
        # In one step: who finds the folder finds all of it.
        (Path(name) / "files").rename(folder)


def environment(lock: Path = LOCK, kept: Path = KEPT) -> Path:
    """The Python of the environment that `lock` describes, made at the first time. Raises `PeerMissing`."""
    folder = kept / f"environment-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}-{sys.implementation.cache_tag}"
    python, whole = folder / "bin" / "python", folder / "whole"
    with alone_in(kept):
        if not whole.exists():
            _install(lock, folder, python)
            whole.touch()
    return python


def _install(lock: Path, folder: Path, python: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode:
        raise PeerMissing("the peers' environment", f"venv: {_last_line(made.stderr or made.stdout)}")
    _pip(
        "the peers' environment", str(python), "install", "--require-hashes", "--only-binary", ":all:",
        "--requirement", str(lock),
    )  # fmt: skip


def _pip(peer: str, python: str, command: str, *arguments: str) -> None:
    """Run pip; what it could not do is a peer that is missing."""
    line = [python, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=FETCH_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        raise PeerMissing(peer, f"pip {command} did not end within {FETCH_WITHIN_S} s") from None
    if done.returncode:
        raise PeerMissing(peer, f"pip {command}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1][:300] if text.strip() else "it said nothing"
