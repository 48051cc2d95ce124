"""The layers: `lastseen` ► `projections` ► `engine`, the rules free of I/O and clocks, each library imported in one
place."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatch

import pytest
from sources import PRODUCT, ROOT, Source, python_files, text_files

GENERIC_NAMES = ("engine", "projections")
"""Folders of the repository. Their packages are `lastseen.engine` and `lastseen.projections`: names as generic as these
belong to users."""

ROOMS = (
    ("engine", "version"),
    ("projections",),
    ("embedded",),
    ("aio", "api", "auth", "bulk", "configuration", "emitter", "monitoring", "replay"),
    ("client", "compat", "copying", "doctor", "http"),
    ("adapters", "exchange", "service"),
    ("cli",),
    ("docs",),
)
"""The rooms, from the ground up: each imports only from rooms on lower levels."""
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MOST_ENTRIES = 25
"""In `lastseen/`: as many entries as a newcomer reads quickly."""

FOLDS = tuple(f"projections/{name}.py" for name in ("partition", "deadlines", "live_view", "statistics"))
CLOCK, IDENTIFIERS = "engine/clock.py", "engine/identifiers.py"

# fmt: off
IO_MODULES = frozenset((
    "asyncio", "concurrent.futures", "ctypes", "fcntl", "fileinput", "ftplib", "glob", "http", "io", "mmap",
    "multiprocessing", "os", "pathlib", "queue", "sched", "select", "selectors", "shelve", "shutil", "signal",
    "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys.stdin", "sys.stdout", "tempfile",
    "threading", "urllib", "zipfile", "fastapi", "httpx", "psutil", "psycopg", "requests", "starlette", "uvicorn",
))
CLOCKS_AND_RANDOMNESS = frozenset((
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "time.process_time", "time.localtime", "time.gmtime", "time.sleep", "datetime.date.today", "datetime.datetime.now",
    "datetime.datetime.today", "datetime.datetime.utcnow", "os.getrandom", "os.urandom", "random", "secrets",
    "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7",
))
# fmt: on
IO_ALLOWED = {
    CLOCK: {"threading"},
    IDENTIFIERS: {"os", "threading"},
    "engine/session_engine.py": {"concurrent.futures"},
    "engine/turns.py": {"threading"},
    "engine/lease_renewer.py": {"threading"},
    "engine/fire_and_forget.py": {"concurrent.futures", "threading"},
}

ONLY_IMPORTER = {"eventsourcing": "engine/log/sqlite/*.py", "kafka": "engine/log/kafka/*.py"}
TERMINAL = ("typer", "rich")


class Import(ast.NodeVisitor):
    """Collects what a module imports: (line, dotted name, whether at module level), and the names it goes by here."""

    def __init__(self, path: str) -> None:
        self.package = module_name(path.rpartition("/")[0]).split(".")
        self.found: list[tuple[int, str, bool]] = []
        self.names: dict[str, str] = {}
        self._depth = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(node.lineno, alias.name)
            self.names[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self.package[: len(self.package) - node.level + 1] if node.level else []
        module = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            self._add(node.lineno, f"{module}.{alias.name}")
            self.names[alias.asname or alias.name] = f"{module}.{alias.name}"

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        first = node.args[0] if node.args else None
        if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
            self._add(node.lineno, str(first.value))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's own name

    def _add(self, line: int, name: str) -> None:
        self.found.append((line, name, self._depth == 0))


def module_name(path: str) -> str:
    """The dotted name of a file of the product."""
    dotted = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"lastseen.{dotted}" if dotted.partition(".")[0] in GENERIC_NAMES else dotted


def imports(source: Source) -> Import:
    """What a file imports."""
    visitor = Import(source.path)
    visitor.visit(source.tree())
    return visitor


def is_within(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or something in them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def is_pure(source: Source) -> bool:
    """Whether a file belongs to the rules, which neither do I/O nor read a clock."""
    return source.path in FOLDS or (source.is_in("engine") and not source.is_in("engine/log"))


def room_of(name: str) -> str:
    """The room of a module by its dotted name; empty for the package itself and for other packages."""
    parts = name.split(".")
    return parts[1] if parts[0] == "lastseen" and len(parts) > 1 and parts[1] in LEVELS else ""


def upward_imports(source: Source) -> Iterator[str]:
    """Imports from a room that is not on a lower level, the package itself among them."""
    here = room_of(module_name(source.path))
    for line, name, _ in imports(source).found if here else ():
        there = room_of(name)
        if there != here and is_within(name, "lastseen") and (not there or LEVELS[there] >= LEVELS[here]):
            yield f"{source.path}:{line} imports {name}, which does not stand below it"


def generic_imports(source: Source) -> Iterator[str]:
    """Imports by a name that belongs to users of the library."""
    for line, name, _ in imports(source).found:
        if is_within(name, *GENERIC_NAMES):
            yield f"{source.path}:{line} imports {name}: its name is lastseen.{name}"


def io_in_rules(source: Source) -> Iterator[str]:
    """I/O modules imported by the rules."""
    forbidden = IO_MODULES - IO_ALLOWED.get(source.path, set())
    for line, name, _ in imports(source).found if is_pure(source) else ():
        if is_within(name, *forbidden):
            yield f"{source.path}:{line} imports {name}: the rules do no I/O"
    for node in ast.walk(source.tree()) if is_pure(source) else ():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"open", "print", "input"}
        ):
            yield f"{source.path}:{node.lineno} calls {node.func.id}(): the rules do no I/O"


def clocks_in_rules(source: Source) -> Iterator[str]:
    """Clocks and randomness, called or handed on, in the rules."""
    if not is_pure(source) or source.path in {CLOCK, IDENTIFIERS}:
        return
    seen = imports(source)
    used = {(line, name) for line, name, _ in seen.found if is_within(name, *CLOCKS_AND_RANDOMNESS)}
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.Attribute):
            continue
        parts: list[str] = []
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            parts.append(root.attr)
            root = root.value
        if isinstance(root, ast.Name) and root.id in seen.names:
            name = ".".join([seen.names[root.id], *reversed(parts)])
            if is_within(name, *CLOCKS_AND_RANDOMNESS):
                used.add((node.lineno, name))
    for line, name in sorted(used):
        yield f"{source.path}:{line} uses {name}: the rules receive the time, and draw nothing"


def foreign_imports(source: Source) -> Iterator[str]:
    """Libraries imported elsewhere than by the one adapter that may."""
    for line, name, _ in imports(source).found:
        for package, importer in ONLY_IMPORTER.items():
            if is_within(name, package) and not fnmatch(source.path, importer):
                yield f"{source.path}:{line} imports {name}: only {importer} may"


def terminal_at_load(source: Source) -> Iterator[str]:
    """The terminal's libraries, loaded with a module that is not the command line's."""
    for line, name, at_load in imports(source).found:
        if at_load and is_within(name, *TERMINAL) and not source.is_in("lastseen/cli"):
            yield f"{source.path}:{line} imports {name} at module level: only lastseen/cli may"


Check = Callable[[Source], Iterator[str]]


@pytest.mark.parametrize(
    "check", [upward_imports, generic_imports, io_in_rules, clocks_in_rules, foreign_imports, terminal_at_load]
)
def test_the_product_keeps_its_layers(check: Check) -> None:
    sources = python_files(*PRODUCT)
    assert sources
    faults = [fault for source in sources for fault in check(source)]
    assert not faults, "\n".join(faults)


def test_nothing_imports_by_a_generic_name() -> None:
    faults = [fault for source in python_files() for fault in generic_imports(source)]
    assert not faults, "\n".join(faults)


def arrows(sources: Collection[Source]) -> dict[str, set[str]]:
    """Which modules each module imports, wherever in it the import stands."""
    known = {module_name(source.path) for source in sources}
    graph: dict[str, set[str]] = {}
    for source in sources:
        named = ((name if name in known else name.rpartition(".")[0]) for _, name, _ in imports(source).found)
        graph[module_name(source.path)] = {name for name in named if name in known} - {module_name(source.path)}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or not."""
    reachable: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            for module in graph[ahead.pop()] - seen:
                seen.add(module)
                ahead.append(module)
        reachable[start] = seen
    found = {frozenset(b for b in reachable[a] if a in reachable[b]) for a in graph if a in reachable[a]}
    return sorted(map(sorted, found))


@pytest.mark.parametrize("folders", [PRODUCT, ("benchmarks", "infra"), ("tests",)])
def test_no_import_goes_round_in_a_circle(folders: tuple[str, ...]) -> None:
    assert circles(arrows(python_files(*folders))) == []


def test_a_circle_is_found() -> None:
    sources = [
        Source("engine/a.py", "def late():\n    from lastseen.engine import b"),
        Source("engine/b.py", "from lastseen.engine.c import x"),
        Source("engine/c.py", "import lastseen.engine.a"),
        Source("engine/d.py", "from lastseen.engine import a"),
    ]
    assert circles(arrows(sources)) == [["lastseen.engine.a", "lastseen.engine.b", "lastseen.engine.c"]]


def test_every_room_is_on_a_level() -> None:
    rooms = {path.parent.name for path in (ROOT / "lastseen").glob("*/__init__.py")} | {"version"}
    assert rooms == set(LEVELS)


def test_the_hall_has_few_entries() -> None:
    entries = {source.path.split("/")[1] for source in text_files() if source.is_in("lastseen")}
    assert len(entries | set(GENERIC_NAMES)) <= MOST_ENTRIES


OFFENCES = [
    (upward_imports, "engine/session.py", "from lastseen.projections.partition import Partition"),
    (upward_imports, "engine/log/memory.py", "def late():\n    import lastseen"),
    (upward_imports, "engine/log/memory.py", "from ...embedded import engine"),
    (upward_imports, "projections/follower.py", "import lastseen.embedded.settings as settings"),
    (
        upward_imports,
        "projections/follower.py",
        "import importlib\nimportlib.import_module('lastseen.embedded.engine')",
    ),
    (upward_imports, "lastseen/api/responses.py", "from lastseen.client.client import Client"),
    (upward_imports, "lastseen/aio/engine.py", "from lastseen.emitter import emitter"),
    (generic_imports, "lastseen/embedded/engine.py", "from projections import follower"),
    (generic_imports, "tests/specs/test_x.py", "import engine.session"),
    (io_in_rules, "engine/codec.py", "import os"),
    (io_in_rules, "engine/codec.py", "from urllib.request import urlopen"),
    (io_in_rules, "engine/identifiers.py", "import sqlite3"),
    (io_in_rules, "engine/lifecycle.py", "import threading"),
    (io_in_rules, "engine/lifecycle.py", "text = open('rules').read()"),
    (io_in_rules, "projections/partition.py", "from pathlib import Path"),
    (clocks_in_rules, "engine/lifecycle.py", "import time\nnow = time.time()"),
    (clocks_in_rules, "engine/lifecycle.py", "from time import monotonic as tick"),
    (clocks_in_rules, "engine/session_engine.py", "import time as t\nclock = t.monotonic"),
    (clocks_in_rules, "projections/deadlines.py", "from datetime import datetime\nnow = datetime.now()"),
    (clocks_in_rules, "projections/deadlines.py", "import datetime as d\nnow = d.datetime.now(d.UTC)"),
    (clocks_in_rules, "projections/statistics.py", "import random"),
    (clocks_in_rules, "engine/codec.py", "import os\nid = os.urandom(16)"),
    (foreign_imports, "engine/log/memory.py", "import eventsourcing.sqlite"),
    (foreign_imports, "projections/snapshot.py", "from eventsourcing.sqlite import SQLiteDatastore"),
    (foreign_imports, "engine/log/sqlite/log.py", "def late():\n    from kafka import KafkaProducer"),
    (terminal_at_load, "lastseen/embedded/engine.py", "from rich.table import Table"),
    (terminal_at_load, "lastseen/__init__.py", "try:\n    import typer\nexcept ImportError:\n    typer = None"),
]


@pytest.mark.parametrize(("check", "path", "text"), OFFENCES)
def test_an_offender_is_found(check: Check, path: str, text: str) -> None:
    assert len(list(check(Source(path, text)))) == 1


INNOCENTS = [
    (
        upward_imports,
        "lastseen/embedded/engine.py",
        "from lastseen.projections import follower\nimport lastseen.engine",
    ),
    (upward_imports, "projections/follower.py", "from lastseen.engine import seen_at"),
    (io_in_rules, "engine/clock.py", "import threading"),
    (io_in_rules, "engine/identifiers.py", "import os"),
    (io_in_rules, "engine/log/sqlite/log.py", "import sqlite3, os"),
    (io_in_rules, "projections/snapshot.py", "import sqlite3"),
    (clocks_in_rules, "engine/clock.py", "import time\nnow = time.time_ns()"),
    (clocks_in_rules, "engine/session.py", "from datetime import datetime\nat = datetime.fromisoformat('')"),
    (foreign_imports, "engine/log/sqlite/log.py", "from eventsourcing.sqlite import SQLiteDatastore"),
    (foreign_imports, "engine/log/kafka/batching.py", "import kafka"),
    (terminal_at_load, "lastseen/cli/tables.py", "from rich.table import Table"),
    (terminal_at_load, "lastseen/embedded/engine.py", "def late():\n    import typer"),
]


@pytest.mark.parametrize(("check", "path", "text"), INNOCENTS)
def test_an_innocent_is_left_alone(check: Check, path: str, text: str) -> None:
    assert list(check(Source(path, text))) == []
