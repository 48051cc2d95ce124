"""The house rules that a reader would otherwise have to remember: sizes, names, docstrings, waiting, what stays out."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from sources import PRODUCT, ROOT, Source, python_files, text_files

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70

EMPTY_WORDS = frozenset(["manager", "helper", "util", "utils", "base", "common", "data", "info"])
NAMED_BY_OTHERS = {
    ("lastseen/replay/data/*", "data"): "a folder of data, not of code",
    ("lastseen/compat/manager/*", "manager"): "the predecessor's name: a drop-in is found by it",
    (
        "lastseen/compat/manager/manager.py",
        "Manager",
    ): "the predecessor's class: its users change an import, and nothing else",
    ("engine/plain_touch.py", "Data"): "CloudEvents calls an event's payload its `data`",
    ("engine/events.py", "Data"): "CloudEvents calls an event's payload its `data`",
}
SELF_EXPLAINED = {
    ("engine/events.py", name): "the table of events in the design says what it means"
    for name in ("Created", "Touched", "Suspended", "Resumed", "Held", "Released", "Expired", "Closed")
}

_WAIT = re.compile(r"\bsleep\(")
_WAIT_EXPLAINED = re.compile(r"#.*\bwaits: \S")
_HOME = re.compile(r"(?<![\w.])(?:/home/\w|/Users/\w|/root/|[A-Z]:\\Users\\)")
_STANDARD_FOLDERS = frozenset(
    map(
        Path,
        ("/app", "/home", "/mnt", "/opt", "/root", "/src", "/srv", "/tmp", "/usr", "/usr/src", "/var", "/workspace"),
    )
)
_INDEX_ADDRESS = re.compile(
    r"""(?:index[-_]url|find[-_]links|trusted[-_]host)["']?\s*[=:\s]\s*["']?(?:https?:|file:|/|[\w-]+\.\w)"""
    r"""|\bregistry["']?\s*[=:\s]\s*["']?https?:|"resolved":\s*"https?:|https?://[^\s"'<>]+/simple(?![\w-])"""
)


def long_files(source: Source) -> Iterator[str]:
    """Files that hold more than one concept, by their length."""
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES:
        yield f"{source.path}: {lines} lines, more than {MAX_FILE_LINES}; which two concepts are in it?"


def long_functions(source: Source) -> Iterator[str]:
    """Functions that do not fit a screen."""
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{source.path}:{node.lineno} {node.name}: {lines} lines, more than {MAX_FUNCTION_LINES}"


def empty_names(source: Source) -> Iterator[str]:
    """Module, package and class names with a word in them that says nothing."""
    named = [(part, re.split(r"[_\W]", part)) for part in source.path.removesuffix(".py").split("/")]
    named += [
        (node.name, re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", node.name))
        for node in ast.walk(source.tree())
        if isinstance(node, ast.ClassDef)
    ]
    for name, words in named:
        for word in words:
            exempt = any(fnmatch(source.path, path) and word == allowed for path, allowed in NAMED_BY_OTHERS)
            if word.lower() in EMPTY_WORDS and not exempt:
                yield f"{source.path}: {name} has {word!r} in its name, which says nothing"


def missing_module_docstring(source: Source) -> Iterator[str]:
    """Modules that do not say what they are. One without a line of code need not."""
    tree = source.tree()
    if tree.body and not ast.get_docstring(tree):
        yield f"{source.path}: no module docstring"


def missing_docstrings(source: Source) -> Iterator[str]:
    """Public functions and classes of a module that do not say what they are."""
    for node in source.tree().body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
            and (source.path, node.name) not in SELF_EXPLAINED
        ):
            yield f"{source.path}:{node.lineno} {node.name}: no docstring"


def unexplained_waits(source: Source) -> Iterator[str]:
    """Sleeps without a reason. Embedded scripts count: a child that sleeps holds its test up too."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if _WAIT.search(line) and not _WAIT_EXPLAINED.search(line):
            yield f"{source.path}:{number} sleeps; turn the clock instead, or say why not: `# waits: ...`"


def machine_paths(source: Source, root: Path = ROOT) -> Iterator[str]:
    """Places that exist on one machine only: people's home folders, and this clone's own."""
    own = [folder for folder in (root, root.parent) if len(folder.parts) > 1 and folder not in _STANDARD_FOLDERS]
    for number, line in enumerate(source.text.splitlines(), start=1):
        if _HOME.search(line) or any(re.search(rf"(?<![\w.]){re.escape(str(each))}(?![\w-])", line) for each in own):
            yield f"{source.path}:{number} names a folder of one machine: {line.strip()[:80]}"


def index_addresses(source: Source) -> Iterator[str]:
    """Addresses of package indexes: where packages come from is the machine's business."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if _INDEX_ADDRESS.search(line):
            yield f"{source.path}:{number} names a package index: {line.strip()[:80]}"


Check = Callable[[Source], Iterator[str]]


def in_product() -> list[Source]:
    """What is shipped."""
    return python_files(*PRODUCT)


def in_rules_and_views() -> list[Source]:
    """The two layers whose every public name is explained."""
    return python_files("engine", "projections")


def in_tests() -> list[Source]:
    """What runs under pytest."""
    return python_files("tests")


def everywhere() -> list[Source]:
    """Every text file, except this one, which has the offences below in it."""
    return [source for source in text_files() if source.path != Path(__file__).relative_to(ROOT).as_posix()]


HOUSE_RULES = [
    (long_files, in_product),
    (long_functions, in_product),
    (empty_names, in_product),
    (missing_module_docstring, python_files),
    (missing_docstrings, in_rules_and_views),
    (unexplained_waits, in_tests),
    (machine_paths, everywhere),
    (index_addresses, everywhere),
]


@pytest.mark.parametrize(("check", "sources"), HOUSE_RULES)
def test_the_house_rules_hold(check: Check, sources: Callable[[], list[Source]]) -> None:
    checked = sources()
    assert checked
    faults = [fault for source in checked for fault in check(source)]
    assert not faults, "\n".join(faults)


def function_of(lines: int) -> str:
    """A function of so many lines."""
    return "def long():\n" + "    pass\n" * (lines - 1)


NAP = "sleep"  # Put together only in the cases, so that this file is not its own offender.

OFFENCES = [
    (long_files, "engine/session.py", "x = 1\n" * 401),
    (long_functions, "engine/session.py", function_of(71)),
    (long_functions, "engine/session.py", "class Session:\n    async " + function_of(71).replace("\n", "\n    ")),
    (empty_names, "engine/log_utils.py", ""),
    (empty_names, "lastseen/common/keys.py", ""),
    (empty_names, "engine/session.py", "class SessionManager: ..."),
    (empty_names, "engine/session.py", "class HTTPInfo: ..."),
    (empty_names, "engine/session.py", "class SessionData: ..."),
    (empty_names, "engine/data/events.py", ""),
    (empty_names, "lastseen/replay/data/slice.py", "class BaseSlice: ..."),
    (missing_module_docstring, "engine/session.py", "x = 1\n"),
    (missing_docstrings, "engine/session.py", "def due(): ..."),
    (missing_docstrings, "engine/session.py", "class Session:\n    x = 1"),
    (missing_docstrings, "projections/follower.py", "async def follow(): ..."),
    (unexplained_waits, "tests/specs/test_touch.py", f"time.{NAP}(1)"),
    (unexplained_waits, "tests/specs/test_touch.py", f"time.{NAP}(1)  # a moment"),
    (unexplained_waits, "tests/durability/child.py", f'SCRIPT = "import time; time.{NAP}(1)"'),
    (machine_paths, "README.md", "see /home/ada/lastseen"),
    (machine_paths, "README.md", "see (/Users/ada)"),
    (machine_paths, "Makefile", "PYTHON=/root/.pyenv/bin/python"),
    (index_addresses, "Makefile", "pip install --index-url https://packages.example.org/simple"),
    (index_addresses, "requirements.lock", "--extra-index-url=http://localhost:8080"),
    (index_addresses, "requirements.lock", "--find-links /opt/wheels"),
    (index_addresses, "requirements.lock", "--trusted-host packages.example.org"),
    (index_addresses, "pyproject.toml", 'url = "https://packages.example.org/simple/"'),
    (index_addresses, "console/.npmrc", "registry=https://packages.example.org"),
    (index_addresses, "console/package-lock.json", '"resolved": "https://packages.example.org/a.tgz"'),
]


@pytest.mark.parametrize(("check", "path", "text"), OFFENCES)
def test_an_offender_is_found(check: Check, path: str, text: str) -> None:
    assert len(list(check(Source(path, text)))) == 1


INNOCENTS = [
    (long_files, "engine/session.py", "x = 1\n" * 400),
    (long_functions, "engine/session.py", function_of(70)),
    (empty_names, "engine/database.py", "class Baseline: ...\nclass Information: ..."),
    (empty_names, "engine/events.py", "class CreatedData: ..."),
    (empty_names, "lastseen/replay/data/slice.py", "class Slice: ..."),
    (missing_module_docstring, "engine/__init__.py", ""),
    (missing_docstrings, "engine/session.py", "def _inner(): ...\nclass Shown:\n    '''A session.'''"),
    (unexplained_waits, "tests/specs/test_touch.py", f"time.{NAP}(1)  # waits: the kernel's timer is under test"),
    (unexplained_waits, "tests/specs/test_touch.py", "clock.sleep_until(deadline_ms, wake, 10)"),
    (machine_paths, "README.md", "../shared/data, https://example.org/home/ada, /var/lib/lastseen"),
    (index_addresses, "Makefile", "--no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(UPGRADE)"),
    (index_addresses, "README.md", "https://example.org/simple-sessions"),
]


@pytest.mark.parametrize(("check", "path", "text"), INNOCENTS)
def test_an_innocent_is_left_alone(check: Check, path: str, text: str) -> None:
    assert list(check(Source(path, text))) == []


def test_a_clone_does_not_name_its_own_folder() -> None:
    root = Path("/elsewhere/clone")
    assert len(list(machine_paths(Source("Makefile", "cd /elsewhere/clone && make"), root))) == 1
    assert len(list(machine_paths(Source("Makefile", "ls /elsewhere/notes"), root))) == 1
    assert list(machine_paths(Source("Makefile", "ls /opt/wheels"), Path("/opt/clone"))) == []


def test_every_exemption_is_still_needed() -> None:
    classes = {
        (source.path, node.name): ast.get_docstring(node)
        for source in python_files("engine")
        for node in source.tree().body
        if isinstance(node, ast.ClassDef)
    }
    assert [name for name in SELF_EXPLAINED if classes.get(name, "gone") is not None] == []


def test_the_lock_is_made_from_what_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    assert [line for line in lines if not line.startswith("#")] == project["dependencies"] + sorted(extras)


@pytest.mark.parametrize("lock", [source.path for source in text_files() if source.path.endswith(".lock")])
def test_every_pin_has_a_hash(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", "\n" + (ROOT / lock).read_text(encoding="utf-8"))
    pins = [entry for entry in entries if entry.strip() and not entry.lstrip().startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", pin, re.DOTALL)] == []
