"""Plain English and the field's own terms: words that make a reader stop are found, in names and in text."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from sources import PRODUCT, ROOT, Source, python_files, text_files

WORDS = {
    r"nobody|somebody|anybody|everybody|whoever": "the caller, the owner, the follower, the subscriber: who it is",
    r"told": "receives, learns, reports, is flagged, prints: what happens",
    r"at hand|there is at hand": "available",
    r"ma(?:ke|kes|de|king) (?:it |them |that )?good": "reads the gap from the log; repairs",
    r"lets? go of|letting go of": "releases, drops, frees",
    r"heed\w*": "honour, respect, obey",
    r"(?:at a )?glance\w*": "look, sample, read",
    r"stretch(?:es|ing|ed)?": "a run of records, a range, a period",
    r"gives? up what": "fail the requests that are still open",
    r"c[ao]mes? of": "the outcome, the result",
    r"lest": "so that … not",
    r"amid": "during, in the middle of",
    r"for ever": "permanently, without limit",
    r"mend(?:s|ed|ing)?": "repair, fix",
    r"upkeep": "background tasks",
    r"doors?": "the entry point, the interface, the worker threads",
    r"outlet": "the fact publisher",
    r"park(?:s|ed|ing)?": "suspend",
    r"witness\w*": "on record",
    r"distrust\w*": "mark as foreign",
    r"unwaited": "fire and forget",
    r"likeness": "comparison",
    r"anew": "again; rebuilt, recreated",
    r"under way": "in progress, in flight",
    r"for good": "permanently",
    r"out of reach": "unavailable, unreachable",
    r"(?:for )?want of": "lack of",
    r"h[au]ngs? up": "closes the connection",
    r"it is over when": "the alert resolves when",
    r"tidings|betimes|thereof|whence|whither|hitherto": "the plain word",
}
"""What is not written (words of any case, wherever a line breaks) → what is."""

NAMES = {
    "asking": "requests", "distrust": "mark_foreign", "door": "WorkerThreads, or the name of the interface",
    "glance": "sample", "heed": "the verb for what it does", "holdings": "owned_partitions", "hurry": "request_flush",
    "intake": "buffer", "keeping": "maintenance", "letter": "OutboxEntry", "letters": "entries",
    "likeness": "comparison", "moments": "points_in_time", "nobody": "the caller that is meant",
    "notice": "OutboundRecord", "notices": "records", "observed": "introspection", "outlet": "fact_publisher",
    "parked": "suspended", "somebody": "the caller that is meant", "stretch": "record_run",
    "stretches": "runs", "told": "published", "unwaited": "fire_and_forget", "upkeep": "background",
    "whoever": "the caller that is meant", "witness": "on_record", "witnesses": "on_record",
}  # fmt: skip
"""Words that no file, class, function, argument or variable of the product has in its name → what is said instead."""

EXEMPT = {
    ("lastseen/exchange/*", "parked"): "`parked_ms` is a column of exported files: a name there is the format",
    ("benchmarks/servers.py", "nobody"): "the name of a Unix user",
    ("CHANGELOG.md", "nobody"): "what a caller was called in the access log",
    ("CHANGELOG.md", "parked"): "a former name, and a column of exported files",
    ("docs/reference/operations.md", "under way"): "`lastseen_http_requests_under_way` is a metric's name",
    ("infra/grafana/dashboards/engines.json", "under way"): "the same metric",
    ("lastseen/http/routes/metrics.py", "under way"): "the same metric",
}
"""(path, word) → why it is the right word there."""

_WORDS = {
    re.compile(rf"(?<![a-z])(?:{words})(?![a-z])".replace(" ", r"\s+(?:#:?\s*)?"), re.IGNORECASE): instead
    for words, instead in WORDS.items()
}
_PROSE = ("docs/*.md", "benchmarks/*.md", "infra/*.md", "infra/*.yml", "infra/*.yaml", "infra/*.json", "examples/*")
_PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "NOTICE", "Makefile", "docker-compose.yml")


def is_exempt(path: str, word: str) -> bool:
    """Whether a word is right in this file, for a reason that the table gives."""
    return any(fnmatch(path, pattern) and word == exempt for pattern, exempt in EXEMPT)


def private_words(source: Source) -> Iterator[str]:
    """Words of a vocabulary of our own, in text and in names alike."""
    text = source.text.replace("_", " ")
    for pattern, instead in _WORDS.items():
        for found in pattern.finditer(text):
            word = " ".join(found[0].lower().split())
            if not is_exempt(source.path, word):
                line = text.count("\n", 0, found.start()) + 1
                yield f"{source.path}:{line} says {word!r}; write instead: {instead}"


def names_in(source: Source) -> Iterator[tuple[int, str]]:
    """Every name that a file defines or uses, and those of its folders, with the line."""
    yield from ((1, part) for part in source.path.removesuffix(".py").split("/"))
    for node in ast.walk(source.tree()):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.Name():
                yield node.lineno, node.id
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Attribute():
                yield node.lineno, node.attr


def words_of(name: str) -> set[str]:
    """The words that a name is made of: `told_s` and `ToldS` have two."""
    return {
        word.lower() for part in re.split(r"[_\W]", name) for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part)
    }


def private_names(source: Source) -> Iterator[str]:
    """Names with a word in them that STYLE's glossary replaces."""
    for line, name in sorted(set(names_in(source))):
        for word in sorted(words_of(name) & NAMES.keys()):
            if not is_exempt(source.path, word):
                yield f"{source.path}:{line} {name} has {word!r} in its name; say instead: {NAMES[word]}"


Check = Callable[[Source], Iterator[str]]


def with_text() -> list[Source]:
    """The product's code, its pages, and what stands beside them."""
    return [
        source
        for source in text_files()
        if (source.path.endswith(".py") and source.is_in(*PRODUCT, "benchmarks", "infra"))
        or source.path in _PAGES
        or any(fnmatch(source.path, pattern) for pattern in _PROSE)
    ]


def with_names() -> list[Source]:
    """The product's code."""
    return python_files(*PRODUCT)


CLEARED_IN_TESTS = re.compile(
    r"(?<![a-z])(?:nobody|somebody|anybody|everybody|whoever|told|untold|upkeep|mend(?:s|ed|ing)?|doors?|outlet|likeness"
    r"|unwaited|heed\w*|glance\w*|distrust\w*|let go of|at hand|lest|amid)(?![a-z])",
    re.IGNORECASE,
)
"""Words that no test has in its name, its text or its messages."""


def private_words_in_tests(source: Source) -> Iterator[str]:
    """Words of a vocabulary of our own in a test."""
    text = source.text.replace("_", " ")
    for found in CLEARED_IN_TESTS.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield f"{source.path}:{line} says {found[0].lower()!r}: name the caller, the follower, the owner, what happens"


def of_tests() -> list[Source]:
    """The tests' code, without this file, which lists the words."""
    return [source for source in python_files("tests") if source.path != "tests/style/test_words.py"]


RULES = [(private_words, with_text), (private_names, with_names), (private_words_in_tests, of_tests)]


@pytest.mark.parametrize(("check", "sources"), RULES)
def test_the_words_are_plain(check: Check, sources: Callable[[], list[Source]]) -> None:
    checked = sources()
    assert checked
    faults = [fault for source in checked for fault in check(source)]
    assert not faults, "\n".join(faults)


def test_every_exemption_is_still_needed() -> None:
    named = {(source.path, word) for source in with_names() for _, name in names_in(source) for word in words_of(name)}
    for pattern, word in EXEMPT:
        used = any(fnmatch(path, pattern) and word == each for path, each in named) or any(
            fnmatch(source.path, pattern) and word in " ".join(source.text.replace("_", " ").lower().split())
            for source in with_text()
        )
        assert used, f"{word!r} is not in {pattern} any more"


OFFENCES = [
    (private_words, "engine/session.py", '"""Nobody waits for it."""'),
    (private_words, "engine/session.py", "# The owner is told at once."),
    (private_words, "engine/session.py", "# The owner is\n# told at once."),
    (private_words, "engine/session.py", "# whatever is at\n    # hand"),
    (private_words, "lastseen/cli/program.py", 'raise Error(f"{name}: mend the file")'),
    (private_words, "lastseen/cli/program.py", "is_told = True"),
    (private_words, "README.md", "It lets go of them."),
    (private_words, "docs/reliability.md", "what came of it"),
    (private_words, "docs/reliability.md", "a long stretch of the log"),
    (private_words, "docs/how-to/limits.md", "It makes them good."),
    (private_words, "infra/kubernetes/service.yaml", "# whoever asks"),
    (private_words, "engine/session.py", '"""The log is folded anew."""'),
    (private_words, "lastseen/http/server.py", "# A request under way."),
    (private_words, "lastseen/emitter/lanes.py", "self._under_way = 0"),
    (private_words, "docs/runbooks/LastseenDown.md", "An engine has stopped for good."),
    (private_words, "docs/runbooks/LastseenDown.md", "It is over when the lag is small."),
    (private_words, "docs/runbooks/LastseenDown.md", "The log is out of\nreach."),
    (private_words, "infra/prometheus/rules.yml", "Sessions end for want of room"),
    (private_words, "engine/session.py", "# The broker hangs up."),
    (private_words, "engine/session.py", "# Park the session."),
    (private_words_in_tests, "tests/specs/test_touched.py", "def test_nobody_is_touched(): ..."),
    (private_words_in_tests, "tests/kafka/facts.py", "told = []"),
    (private_words_in_tests, "tests/engine/test_turns.py", "# whoever waits"),
    (private_names, "engine/session.py", "def told(): ..."),
    (private_names, "engine/session.py", "class ToldFacts: ..."),
    (private_names, "engine/session.py", "x.heed_signal"),
    (private_names, "engine/session.py", "def f(nobody): ..."),
    (private_names, "engine/session.py", "_letters = 1"),
    (private_names, "lastseen/embedded/upkeep.py", ""),
]


@pytest.mark.parametrize(("check", "path", "text"), OFFENCES)
def test_an_offender_is_found(check: Check, path: str, text: str) -> None:
    assert len(list(check(Source(path, text)))) == 1


INNOCENTS = [
    (private_words, "engine/session.py", '"""Retold, molest, indoors, amidst, commend, untold."""'),
    (private_words, "engine/session.py", "# It comes often, and takes what it is given, with one hand."),
    (private_words, "README.md", "The caller receives the outcome; the follower repairs the state."),
    (private_names, "engine/session.py", "class Letterbox: ...\ndef retold(noticed): ..."),
    (private_names, "engine/session.py", '"""Is told."""'),
]


@pytest.mark.parametrize(("check", "path", "text"), INNOCENTS)
def test_an_innocent_is_left_alone(check: Check, path: str, text: str) -> None:
    assert list(check(Source(path, text))) == []


def test_an_exemption_is_for_its_file_and_word_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXEMPT, ("lastseen/replay/*", "told"), "the data's own word")
    assert list(private_words(Source("lastseen/replay/recording.py", "told"))) == []
    assert list(private_words(Source("lastseen/replay/recording.py", "nobody"))) != []
    assert list(private_words(Source("lastseen/bulk/pages.py", "told"))) != []


def test_the_pages_and_the_code_are_read() -> None:
    read = {source.path for source in with_text()}
    assert {"README.md", "ARCHITECTURE.md", "engine/lifecycle.py", "benchmarks/guard.py"} <= read
    assert any(path.startswith("docs/decisions/") for path in read)
    assert not any(Path(ROOT / path).is_dir() for path in read)
