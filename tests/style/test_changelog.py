"""CHANGELOG.md names each change once: what a merge kept twice is found."""

from __future__ import annotations

import re

from sources import ROOT

FIRST_WORDS = 6


def repeated(text: str) -> list[str]:
    """Entries of one version that begin with the same words as another."""
    found = []
    for version in re.split(r"^## ", text, flags=re.MULTILINE):
        entries = [" ".join(each.split()[:FIRST_WORDS]) for each in re.findall(r"^- (.*)", version, re.MULTILINE)]
        found += [entry for entry in entries if entries.count(entry) > 1]
    return found


def test_no_change_is_named_twice() -> None:
    assert repeated((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == []


def test_an_entry_that_a_merge_kept_twice_is_found() -> None:
    once = "- A Kafka log reads batches in all codecs.\n"
    assert repeated(f"## 2\n\n{once}## 1\n\n{once}") == []
    assert len(repeated(f"## 2\n\n{once}- Other.\n- A Kafka log reads batches in four.\n")) == 2
