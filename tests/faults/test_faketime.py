"""Where libfaketime comes from: what is here, what may be installed, or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.kafka.packages import ALLOW_SUDO
from tests.faults import faketime
from tests.programs import Missing

pytestmark = pytest.mark.thorough


def test_it_is_found_where_packages_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faketime, "_FOLDERS", (str(tmp_path),))
    assert faketime.find() is None
    place = tmp_path / "riscv64-linux-gnu" / "faketime" / "libfaketimeMT.so.1"
    place.parent.mkdir(parents=True)
    place.touch()
    assert faketime.choose() == place


def test_without_it_and_without_rights_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faketime, "_FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="sudo apt-get install libfaketime"):
        faketime.choose()


def test_it_is_installed_where_that_may_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called, library = tmp_path / "called", tmp_path / "lib" / "libfaketimeMT.so.1"
    library.parent.mkdir()
    for name, script in (
        ("sudo", 'shift; exec "$@"'),
        ("env", 'shift; exec "$@"'),
        ("apt-get", f'echo "$@" >> {called}; case "$*" in *libfaketime*) [ -e {called}.lists ] && : > {library};; '
         f"*update*) : > {called}.lists;; esac"),
    ):  # fmt: skip
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
        program.chmod(0o755)
    (tmp_path / "true").symlink_to("/bin/true")
    monkeypatch.setattr(faketime, "_FOLDERS", (str(library.parent),))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(ALLOW_SUDO, "1")
    assert faketime.choose() == library
    asked = [word for word in called.read_text("ascii").split() if word in ("install", "update")]
    assert asked == ["install", "update", "install"], "lists that are too old are made new, and only then"
