"""Building what is released from what git has, and installing it where nothing else of lastseen is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("engine", "projections", "lastseen")
WHEEL, SDIST = "wheel", "sdist"
_BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"


class Installed(NamedTuple):
    """An environment with lastseen from a wheel, and with the packages that it depends on."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def program(self) -> Path:
        """`lastseen` in it."""
        return self.folder / "bin" / "lastseen"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment of a program that must find nothing of this checkout."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MYPYPATH")
    return {n: v for n, v in os.environ.items() if n not in ours and not n.startswith("LASTSEEN_")} | more


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a program prints. It must succeed."""
    ended = subprocess.run(
        command, cwd=cwd, env=clean_environment(**environment), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def tracked(*folders: str) -> list[str]:
    """The paths that git tracks in these folders or everywhere, and those that it would on the next `git add`. A link
    is one path, whatever it leads to."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return sorted({path for path in listing.split("\0") if path and os.path.lexists(ROOT / path)})


def check_out(into: Path) -> None:
    """Copy what git has, links as links, so that a build leaves nothing in this checkout and finds nothing ignored."""
    for path in tracked():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, into / path, follow_symlinks=False)


def build(kind: str, source: Path, into: Path) -> Path:
    """The wheel or the source archive of a source folder."""
    into.mkdir()
    run(sys.executable, "-c", _BUILD, kind, into, cwd=source)
    (built,) = into.iterdir()
    return built


def unpack(sdist: Path, into: Path) -> Path:
    """The source folder in a source archive."""
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (folder,) = into.iterdir()
    return folder


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def install(wheel: Path, into: Path) -> Installed:
    """An environment with the wheel in it. The packages that it depends on are those of the tests' own environment:
    named in a `.pth` file, so that its installed checkout, which is one too, is passed over."""
    run(sys.executable, "-m", "venv", "--without-pip", into, cwd=into.parent)
    made = Installed(into)
    run(
        sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", made.python,
        "install", "--no-deps", "--no-index", wheel,
        cwd=into.parent,
    )  # fmt: skip
    own = run(made.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=into.parent).strip()
    Path(own, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return made
