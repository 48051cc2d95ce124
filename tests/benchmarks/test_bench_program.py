"""`python -m benchmarks`: what it measures, what it keeps, what it writes, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks.__main__ as program
from benchmarks import guard, report
from benchmarks.guard import Bound
from benchmarks.measure import Row, Size
from benchmarks.sections import Section

pytestmark = pytest.mark.thorough

Run = Callable[..., int]
BOUND = Bound("A", "ours / floor", at_least=0.5)


@pytest.fixture
def benchmark_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the program with two sections whose figures are given, one for each time that they are measured."""
    (tmp_path / "docs").mkdir()

    def run(*arguments: str, a: list[float], e: float = 1.0) -> int:
        left = list(a)

        def measure(section: Section, folder: Path, size: Size) -> list[Row]:
            assert folder.is_dir()
            value = left.pop(0) if section.letter == "A" else e
            return [Row("ours / floor", value, "×", "≥ 10", False, section=section.letter)]

        monkeypatch.setattr(program, "SECTIONS", (Section("A", "one", ()), Section("E", "another", ())))
        monkeypatch.setattr(program, "measure", measure)
        monkeypatch.setattr(program, "RESULTS", tmp_path / "results")
        monkeypatch.setattr(program, "PAGE", tmp_path / "docs" / "benchmarks.md")
        monkeypatch.setattr(guard, "bounds", lambda: [BOUND])
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--folder", str(tmp_path / "var"), *arguments])
        status = program.main()
        assert left == [], "it was to be measured more often"
        assert list((tmp_path / "var").glob("*")) == [], "what is measured on is removed"
        return status

    return run


def test_quick_ends_well_while_the_guarded_ratios_hold(benchmark_run: Run, tmp_path: Path) -> None:
    assert benchmark_run("--quick", a=[0.5]) == 0
    assert (tmp_path / "results" / "quick.json").exists()
    assert not (tmp_path / "docs" / "benchmarks.md").exists()


def test_quick_fails_on_a_loss_that_is_measured_twice(benchmark_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark_run("--quick", a=[0.1, 0.2]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "section A: ours / floor: it is to be at least 0.5, and it was 0.1 and, measured again, 0.2" in said


def test_quick_forgives_what_is_not_so_the_second_time(benchmark_run: Run) -> None:
    assert benchmark_run("--quick", a=[0.1, 0.6]) == 0


def test_a_figure_that_falls_short_is_said_on_the_page_and_is_no_failure(benchmark_run: Run, tmp_path: Path) -> None:
    assert benchmark_run(a=[0.1]) == 0
    page = (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")
    assert "- A: ours / floor: 0.1 ×, to be ≥ 10" in page


def test_one_section_is_measured_anew_and_the_others_stay(benchmark_run: Run, tmp_path: Path) -> None:
    assert benchmark_run(a=[0.1], e=2.0) == 0
    before = report.Results(tmp_path / "results" / "latest.json")
    assert benchmark_run("--only", "A", a=[0.3]) == 0
    after = report.Results(tmp_path / "results" / "latest.json")
    assert [(row.section, row.value) for row in after.rows] == [("A", 0.3), ("E", 2.0)]
    assert after.runs["E"] == before.runs["E"]
    assert "- E: ours / floor: 2 ×" in (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")


def test_the_page_is_written_again_without_measuring(benchmark_run: Run, tmp_path: Path) -> None:
    assert benchmark_run(a=[0.1]) == 0
    page = (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")
    (tmp_path / "docs" / "benchmarks.md").unlink()
    assert benchmark_run("--page", a=[]) == 0
    assert (tmp_path / "docs" / "benchmarks.md").read_text("utf-8") == page
