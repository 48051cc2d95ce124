"""What MkDocs has to know of this repository: which files outside of `docs` belong to the site, and its pictures.

Links are written for readers of the repository: relative, to the files as they stand. Those that lead out of `docs` are
rewritten to the copy on the site. A link to a file that neither is there nor has a copy fails the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "how-benchmarks-run.md",
    "infra/docker/README.md": "how-to/docker.md",
    "infra/kubernetes/README.md": "how-to/kubernetes.md",
}
"""Pages outside of `docs` → where they are on the site."""
HOME = {"README.md": "index.md"}
"""Pages whose place on the site is taken by another page."""
FOLDERS = {"docs/decisions": "decisions/README.md", "infra/kubernetes": "how-to/kubernetes.md"}
"""Folders that are linked to → the page that stands for each."""
SEARCH_WEIGHTS = {
    "quick-start/": 12.0,
    "concepts/": 4.0,
    "how-to/compat-": 1.0,
    "how-to/": 4.0,
    "reference/": 1.0,
    "troubleshooting.md": 1.0,
    "runbooks/": 1.0,
    "index.md": 1.0,
}
"""Beginnings of pages' paths → how much the search favours them: what a user does before what one looks up."""
BACKGROUND_WEIGHT = 0.1
"""All other pages: decisions, benchmarks and mutants mention everything, and answer no user's question."""
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_NAME_AS_HEADING = re.compile(r"(<h1[^>]*>)((?:[A-Z][a-z]+){3,})(?=<)")
_PICTURE = re.compile(r'<img alt="([^"]*)" src="([^"]*pictures/[\w-]+\.svg)"[^>]*>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside of `docs`."""
    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Weigh the page for the search; rewrite the links that lead to files outside of `docs`, or from them into it."""
    place = page.file.src_uri
    weights = (weight for path, weight in SEARCH_WEIGHTS.items() if place.startswith(path))
    page.meta["search"] = {"boost": next(weights, BACKGROUND_WEIGHT)}
    source = next((path for path, copy in PAGES.items() if copy == place), f"docs/{place}")

    def rewritten(link: re.Match[str]) -> str:
        target = link[2]
        if ":" in target or target.startswith("/"):
            return link[0]
        path = normpath(join(dirname(source), target))
        copy = _place(path, config, files)
        return link[0] if copy is None else f"{link[1]}{relpath(copy, dirname(place) or '.')}{link[3]}"

    return _LINK.sub(rewritten, markdown)


def _place(path: str, config: MkDocsConfig, files: Files) -> str | None:
    """Where a file of the repository is on the site; a file that no page shows is copied into the site as it is."""
    known = PAGES.get(path) or HOME.get(path) or FOLDERS.get(path)
    if known is not None or path.startswith("docs/"):
        return known or path.removeprefix("docs/")
    if not (ROOT / path).is_file():
        return None
    copy = f"files/{path}"
    if path.endswith(".md"):
        raise ValueError(f"{path} is linked to, and is no page of the site: give it a place in PAGES")
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, abs_src_path=str(ROOT / path)))
    return copy


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Put pictures into the page itself, so that they take its colours; let the names of alerts break between words."""

    def drawn(picture: re.Match[str]) -> str:
        name = picture[2].rpartition("/")[2]
        text = (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")
        named = text.replace("<svg ", f'<svg role="img" aria-label="{picture[1]}" ', 1).strip()
        return f'<div class="picture" tabindex="0" data-search-exclude>{named}</div>'

    def breakable(heading: re.Match[str]) -> str:
        return heading[1] + re.sub(r"(?<=[a-z])(?=[A-Z])", "<wbr>", heading[2])

    return _NAME_AS_HEADING.sub(breakable, _PICTURE.sub(drawn, html))
