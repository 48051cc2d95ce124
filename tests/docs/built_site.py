"""The documentation site as it is built: its pages, where their links lead, and what they load."""

from __future__ import annotations

from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
"""Attributes whose address a browser fetches without a click."""


class Page(HTMLParser):
    """One page: the anchors in it, and the addresses that it links to or loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in what a tag says."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif (tag, name) in LOADED:
                self.loaded.append(value)
            elif tag == "a" and name == "href":
                self.links.append(value)


class Site:
    """A folder of pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @cached_property
    def pages(self) -> dict[Path, Page]:
        """Every page by its path; not the one for addresses that do not exist, which no reader of files sees."""
        return {path: Page(path) for path in sorted(self.folder.rglob("*.html")) if path.name != "404.html"}

    def faults(self) -> list[str]:
        """Links that lead nowhere, and what would be fetched from elsewhere."""
        return [fault for page in self.pages.values() for fault in self._faults_of(page)]

    def _faults_of(self, page: Page) -> list[str]:
        where = page.path.relative_to(self.folder).as_posix()
        found = [f"{where} loads {each}" for each in page.loaded if urlsplit(each).scheme or each.startswith("//")]
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = page.path if not parts.path else (page.path.parent / unquote(parts.path)).resolve()
            if not target.is_file() or not target.is_relative_to(self.folder):
                found.append(f"{where} links to {link}, which is not there")
            elif parts.fragment and target in self.pages and not self._has(target, parts.fragment):
                found.append(f"{where} links to {link}, and there is no such place on that page")
        return found

    def _has(self, target: Path, fragment: str) -> bool:
        return unquote(fragment) in self.pages[target].anchors
