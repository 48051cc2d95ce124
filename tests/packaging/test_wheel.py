"""What is released: the wheel and the source archive, and that they work where there is nothing else of lastseen."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tarfile
import tomllib
import urllib.request
from pathlib import Path

import pytest
from building import PRODUCT, ROOT, WHEEL, Installed, build, clean_environment, contents, run, tracked, unpack

pytestmark = pytest.mark.thorough

LINKS = {"lastseen/engine": "../engine", "lastseen/projections": "../projections"}
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE", "top_level.txt"}
FIRST_RESULT_S = 60
NAMED_BY_RULE = (
    "lastseen/py.typed",
    "lastseen/engine/session.py",
    "lastseen/engine/log/sqlite/log.py",
    "lastseen/engine/schemas/lastseen.session.touched.v1.json",
    "lastseen/projections/live_view.py",
    "lastseen/replay/data/ubuntu-irc-slice.jsonl.gz",
)


def shipped() -> dict[str, Path]:
    """What belongs in a wheel: every file of the product that git has, under the name by which it is imported."""
    files: dict[str, Path] = {}
    for path in tracked(*PRODUCT):
        if path not in LINKS:
            files[path if path.startswith("lastseen/") else f"lastseen/{path}"] = ROOT / path
    return files


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of a user's program, which has an `engine.py` and `projections/` of its own."""
    (tmp_path / "engine.py").write_text('OWN = "my engine"\n', encoding="utf-8")
    (tmp_path / "projections").mkdir()
    (tmp_path / "projections" / "__init__.py").write_text('OWN = "my projections"\n', encoding="utf-8")
    return tmp_path


def first_example() -> str:
    """The first Python of README."""
    found = re.search(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def test_the_links_are_committed_as_links() -> None:
    assert {path: str((ROOT / path).readlink()) for path in tracked(*PRODUCT) if (ROOT / path).is_symlink()} == LINKS


def test_the_wheel_holds_every_file_of_the_product_and_nothing_else(wheel: Path) -> None:
    files = contents(wheel)
    wanted = shipped()
    assert set(NAMED_BY_RULE) <= set(wanted)
    of_lastseen = {name: content for name, content in files.items() if name.startswith("lastseen/")}
    assert sorted(of_lastseen) == sorted(wanted)
    assert [name for name, content in of_lastseen.items() if content != wanted[name].read_bytes()] == []
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert set(files) - set(of_lastseen) == {f"lastseen-{version}.dist-info/{name}" for name in METADATA}
    assert files[f"lastseen-{version}.dist-info/top_level.txt"] == b"lastseen\n"


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    (text,) = (content.decode() for name, content in contents(wheel).items() if name.endswith("/METADATA"))
    fields = text.partition("\n\n")[0].splitlines()
    assert {"Name: lastseen", "License-Expression: Apache-2.0", "Requires-Python: >=3.11"} <= set(fields)
    assert {f"Provides-Extra: {extra}" for extra in ("client", "parquet", "service", "tracing")} <= set(fields)


def test_the_source_archive_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert [member.name for member in archive.getmembers() if member.issym() or member.islnk()] == []
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
    assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml"} <= names
    source = unpack(sdist, tmp_path / "source")
    assert contents(build(WHEEL, source, tmp_path / "dist")) == contents(wheel)


def test_nothing_of_this_checkout_is_in_the_environment(installed: Installed, app: Path) -> None:
    says = "import lastseen, lastseen.engine.session as s; print(lastseen.__file__, s.__file__)"
    for place in run(installed.python, "-c", says, cwd=app).split():
        assert Path(place).is_relative_to(installed.folder)


def test_every_module_can_be_imported_beside_the_users_own(installed: Installed, app: Path) -> None:
    program = """
import importlib, pkgutil, sys, lastseen
names = [each.name for each in pkgutil.walk_packages(lastseen.__path__, "lastseen.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert {"lastseen.engine.session", "lastseen.projections.live_view", "lastseen.http.application"} <= set(names)
assert not {"engine", "projections"} & set(sys.modules)
import engine, projections
print(engine.OWN, projections.OWN)
"""
    assert run(installed.python, "-c", program, cwd=app) == "my engine my projections\n"


def test_the_first_example_of_readme_runs_beside_the_users_own(installed: Installed, app: Path) -> None:
    example = first_example()
    assert "lastseen.open_engine(" in example
    lines = [
        "from engine import OWN as FIRST",
        "from projections import OWN as SECOND",
        example,
        "print(FIRST, SECOND)",
    ]
    (app / "program.py").write_text("\n".join(lines), encoding="utf-8")
    sentence, own = run(installed.python, "program.py", cwd=app).splitlines()
    assert sentence.endswith(".")
    assert own == "my engine my projections"
    assert (app / "sessions.db").exists()


def test_the_command_line_works_beside_the_users_own(installed: Installed, app: Path) -> None:
    run(installed.python, "-c", first_example(), cwd=app)
    log = ("--log", "sqlite:///sessions.db")
    for command in (["ls", "--wide"], ["explain", "discord:guild1:chan2:user3"]):
        reported = run(installed.program, *command, *log, cwd=app, PYTHONPATH=str(app))
        assert "discord:guild1:chan2:user3" in reported


def test_the_demonstrations_recording_is_there(installed: Installed, app: Path) -> None:
    says = "from lastseen.replay.recording import SLICE, read_chat; print(sum(1 for _ in read_chat(SLICE)))"
    assert run(installed.python, "-c", says, cwd=app) == "40317\n"


def test_a_service_starts_and_answers_beside_the_users_own(installed: Installed, app: Path) -> None:
    with subprocess.Popen(
        [installed.program, "dev", "--port", "0", "--ephemeral"], cwd=app, text=True,
        env=clean_environment(PYTHONPATH=str(app)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as service:  # fmt: skip
        try:
            assert service.stdout is not None
            address, said = None, []
            for line in service.stdout:  # ends with the service
                said.append(line)
                if (found := re.search(r"http://127\.0\.0\.1:\d+", line)) is not None:
                    address = found[0]
                    break
            assert address is not None, said
            with urllib.request.urlopen(f"{address}/livez", timeout=FIRST_RESULT_S) as answer:
                assert answer.status == 200
            created = urllib.request.Request(
                f"{address}/v1/sessions", json.dumps({"key": "a"}).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(created, timeout=FIRST_RESULT_S) as answer:
                assert json.load(answer)["key"] == "a"
            service.send_signal(signal.SIGTERM)
            service.stdout.read()
            assert service.wait(FIRST_RESULT_S) == 0
        finally:
            service.kill()
