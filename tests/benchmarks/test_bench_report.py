"""Results that are kept section by section, the page written from them, and plots that are the same each time."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, plots, report
from benchmarks.measure import QUICK, Row, Size, missing
from benchmarks.sections import SECTIONS, Section, measure
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
RUN: dict[str, Any] = {"at": "2026-11-21T10:00:00+00:00", "seconds": 12.0, "machine": machine.described(), "notes": ""}


def kept(folder: Path) -> report.Results:
    """Results with a section of each kind of row."""
    results = report.Results(folder / "results" / "latest.json")
    rows = [
        Row("ours / floor", 0.51234567, "×", "≥ 0.7", False, (0.4, 0.6), "5/s against 10/s", {"ours": [5.0]}, "A"),
        Row(
            "touches: engine", 1234.5, "/s", section="A", subject="engine", durability="nothing", plot="touches",
            percentiles={"p50": 1.5, "p99": 20.0, "p99.9": 300.0},
        ),
        Row("touches: peer | cache", 2_500.0, "/s", section="A", subject="peer", plot="touches"),
        missing("redis", "not on the path"),
    ]  # fmt: skip
    rows[-1].section = "A"
    results.put("A", rows, RUN)
    results.put("E", [Row("memory", 400.0, "bytes", "≤ 450 bytes", True, section="E")], RUN)
    return results


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    results = kept(tmp_path)
    results.save()
    again = report.Results(results.path)
    assert [row.name for row in again.rows] == [row.name for row in results.rows]
    assert again.rows[0].value == 0.512346
    assert again.rows[0].spread == (0.4, 0.6)
    assert again.rows[1].percentiles == results.rows[1].percentiles
    assert again.runs == results.runs


def test_a_section_that_is_measured_again_takes_the_place_of_its_own_rows_only(tmp_path: Path) -> None:
    results = kept(tmp_path)
    results.put("A", [Row("new", 1.0, "×", section="A")], {**RUN, "at": "2026-11-22T10:00:00+00:00"})
    assert [(row.section, row.name) for row in results.rows] == [("A", "new"), ("E", "memory")]
    assert results.runs["A"]["at"] == "2026-11-22T10:00:00+00:00"
    assert results.runs["E"]["at"] == RUN["at"]
    assert list(results.runs) == ["A", "E"]


def test_results_of_another_form_are_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "latest.json").write_text(json.dumps({"at": "2025", "rows": [{"name": "x"}]}), "utf-8")
    assert report.Results(tmp_path / "latest.json").rows == []


def test_the_page_says_what_falls_short_what_is_missing_and_on_what_it_was_measured(tmp_path: Path) -> None:
    page = report.page(kept(tmp_path), tmp_path)
    assert "Of 2 figures with a target, 1 reach it." in page
    assert "- A: ours / floor: 0.512 ×, to be ≥ 0.7" in page
    assert "Missing when it was measured: redis." in page
    assert "| ours / floor | 0.512 × | 0.4 … 0.6 | ≥ 0.7 | **no** |" in page
    assert "| missing: redis | missing |" in page
    assert "not on the path" in page
    assert "| touches: engine | 1.5 | 20 | 300 |" in page
    assert "peer / cache" in page, "a bar in a cell would end it"
    assert page.count("Measured 2026-11-21T10:00:00+00:00 in 12 s on ") == 2
    assert f"Python {RUN['machine']['python']}" in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_only_plots_that_are_there_are_linked(tmp_path: Path) -> None:
    results = kept(tmp_path)
    assert "![" not in report.page(results, tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "a-touches.svg").write_text("<svg/>", "utf-8")
    assert "![touches](benchmarks/a-touches.svg)" in report.page(results, tmp_path)


def test_names_of_plots_are_fit_for_files() -> None:
    assert plots.slug("A", "the mix, one by one: 100,000 sessions") == "a-the-mix-one-by-one-100-000-sessions"


def test_the_same_figures_draw_the_same_plot(tmp_path: Path) -> None:
    """In the environment of the benchmarks, which has matplotlib."""
    results = kept(tmp_path)
    results.save()
    drawing = (
        "import sys; from pathlib import Path; from benchmarks import plots, report;"
        "results = report.Results(Path(sys.argv[1]));"
        "print(*plots.draw('A', results.rows, Path(sys.argv[2])))"
    )
    drawn = []
    for name in ("one", "two"):
        python = str(ROOT / ".venv-bench" / "bin" / "python")
        command = [python, "-c", drawing, str(results.path), str(tmp_path / name)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.stdout.split() == [str(tmp_path / name / "a-touches.svg")]
        drawn.append((tmp_path / name / "a-touches.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert b"peer" in drawn[0], "text stays text"
    assert len(drawn[0]) < 30_000


def test_without_matplotlib_nothing_else_fails(tmp_path: Path) -> None:
    if find_spec("matplotlib") is None:
        with pytest.raises(ImportError):
            plots.draw("A", kept(tmp_path).rows, tmp_path)
    assert plots.draw("E", [Row("a row in no plot", 1.0, "s")], tmp_path) == []


def test_every_section_is_named_once_and_its_modules_are_there() -> None:
    assert [section.letter for section in SECTIONS] == list("ABCDEFGH")
    modules = [module for section in SECTIONS for module in section.modules]
    assert len(modules) == len(set(modules))
    assert [name for name in modules if not (ROOT / "benchmarks" / f"{name}.py").exists()] == []


def test_a_section_marks_its_rows_and_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarks.machine

    def run(folder: Path, size: Size) -> list[Row]:
        assert folder.is_dir()
        return [Row(size.name, 1.0, "×")]

    monkeypatch.setattr(benchmarks.machine, "run", run, raising=False)
    rows = measure(Section("B", "one", ("machine", "no_such_module")), tmp_path, QUICK)
    assert [(row.section, row.name) for row in rows] == [("B", "quick"), ("B", "missing: benchmarks.no_such_module")]
    assert rows[0].at <= rows[1].at
    assert "not installed" in rows[1].missing
