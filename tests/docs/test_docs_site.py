"""The documentation site builds strictly, every link leads somewhere, and it needs neither a server nor a network."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.docs.built_site import Site
from tests.docs.pages import DOCS, ROOT, pages
from tests.patience import PATIENCE_S
from tests.service.browser import choose

MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"
BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")
NO_NETWORK = ("--host-resolver-rules=MAP * ~NOTFOUND",)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site, built anew."""
    assert MKDOCS.is_file(), "the builder of the site is not there: make docs-setup"
    folder = tmp_path_factory.mktemp("site")
    done = build(folder, ROOT / "mkdocs.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return Site(folder)


def build(folder: Path, configuration: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MKDOCS, "build", "--strict", "--config-file", configuration, "--site-dir", folder],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip


def test_every_page_is_on_the_site(site: Site) -> None:
    built = {path.relative_to(site.folder).as_posix() for path in site.pages}
    written = {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in pages()}
    assert {name.replace("README.html", "index.html") for name in written} <= built
    assert {"architecture.html", "changelog.html", "how-to/docker.html", "how-to/kubernetes.html"} <= built


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    assert site.faults() == []


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="gone.html">x</a>', "page.html links to gone.html, which is not there"),
        ('<a href="#gone">x</a>', "page.html links to #gone, and there is no such place on that page"),
        ('<a href="../outside.html">x</a>', "page.html links to ../outside.html, which is not there"),
        ('<script src="https://cdn.example.org/x.js"></script>', "page.html loads https://cdn.example.org/x.js"),
        ('<img src="//cdn.example.org/x.png">', "page.html loads //cdn.example.org/x.png"),
    ],
)
def test_a_fault_is_found(html: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "outside.html").write_text("", encoding="utf-8")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page.html").write_text(html, encoding="utf-8")
    assert Site(tmp_path / "site").faults() == [fault]


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[gone](#gone)\n", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    validation = re.search(r"^validation:\n(?:  .*\n)+", settings, re.MULTILINE)
    assert validation is not None
    (tmp_path / "mkdocs.yml").write_text(f"site_name: one\nstrict: true\n{validation[0]}", encoding="utf-8")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert "#gone" in done.stderr + done.stdout


def test_stylesheets_load_nothing_from_elsewhere(site: Site) -> None:
    sheets = list(site.folder.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        addresses = re.findall(r"url\(\s*[\"']?([^\"')]+)", sheet.read_text(encoding="utf-8"))
        assert [each for each in addresses if not each.startswith(("data:", "#"))] == [], sheet.name


@pytest.mark.parametrize(
    ("words", "page"),
    [("background jobs", "how-to/background-jobs.html"), ("LogMismatch", "troubleshooting.html")],
)
def test_search_works_from_the_disk_without_a_network(site: Site, words: str, page: str, tmp_path: Path) -> None:
    found = results(site, words, tmp_path)
    assert any(each.endswith(page) for each in found), found


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("backup", "how-to/back-up.html"),
        ("kafka", "quick-start/kafka.html"),
        ("django", "questions.html"),
        ("license", "questions.html"),
    ],
)
def test_search_puts_first_what_users_do(site: Site, words: str, page: str, tmp_path: Path) -> None:
    found = results(site, words, tmp_path)
    assert found[0].endswith(page), found


def test_search_puts_decisions_and_benchmarks_last(site: Site, tmp_path: Path) -> None:
    found = results(site, "install", tmp_path)
    background = [re.search(r"/(decisions|benchmarks|how-benchmarks-run|architecture)\b", each) for each in found]
    assert len(found) > 5
    assert [each is not None for each in background] == sorted(each is not None for each in background), found


def test_copying_a_block_leaves_out_prompts_and_output(site: Site, tmp_path: Path) -> None:
    page = site.folder / "quick-start" / "embedded.html"
    copied = """<script>
      const block = [...document.querySelectorAll("code")].find(code => code.innerText.includes("turn 1"));
      block.setAttribute("data-md-copying", "");
      document.title = "copied: " + block.innerText.trim();
    </script></body>"""
    (site.folder / "quick-start" / "copied.html").write_text(
        page.read_text(encoding="utf-8").replace("</body>", copied), encoding="utf-8"
    )
    shown = dom(f"file://{site.folder}/quick-start/copied.html", tmp_path)
    assert "<title>copied: python bot.py</title>" in shown


def results(site: Site, words: str, profile: Path) -> list[str]:
    """The pages that the site's search shows, best first."""
    shown = dom(f"file://{site.folder}/index.html?q={quote(words)}", profile)
    return re.findall(r'<a href="([^"#?]*)[^"]*" class="md-search-result__link"', shown)


def dom(address: str, profile: Path) -> str:
    """A page as a browser has it once its scripts have run."""
    return subprocess.run(
        [choose(), *BROWSER, *NO_NETWORK, f"--user-data-dir={profile}", "--virtual-time-budget=60000", "--dump-dom",
         address],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    ).stdout  # fmt: skip


def test_pictures_of_terminals_show_what_the_commands_write(tmp_path: Path) -> None:
    captures = runpy.run_path(str(DOCS / "theme" / "captures.py"))["captures"](tmp_path)
    for name, picture in captures.items():
        file = DOCS / "pictures" / f"{name}.svg"
        assert file.read_text(encoding="utf-8") == picture, "run: .venv/bin/python docs/theme/captures.py"


def test_every_picture_is_shown(site: Site) -> None:
    shown = "".join(path.read_text(encoding="utf-8") for path in pages())
    for picture in (DOCS / "pictures").iterdir():
        assert f"pictures/{picture.name})" in shown, f"{picture.name} is on no page"
    drawn = (site.folder / "concepts" / "deadlines.html").read_text(encoding="utf-8")
    assert '<svg role="img" aria-label="' in drawn
    assert "pictures/deadlines.svg" not in drawn, "it stands in the page, and takes its colours"
