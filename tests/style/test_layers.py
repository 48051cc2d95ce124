"""The layers: `lastseen` ► `projections` ► `engine`, the rules free of I/O and clocks, each library behind one door."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from fnmatch import fnmatch

import pytest
from sources import PRODUCT, Source, python_files

FORBIDDEN_LAYERS = {"engine": ("projections", "lastseen"), "projections": ("lastseen",)}

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
    "engine/session_engine.py": {"concurrent.futures", "threading"},
    "engine/hold.py": {"threading"},
    "engine/unwaited.py": {"concurrent.futures", "threading"},
}

ONLY_DOOR = {"eventsourcing": "engine/log/sql*.py", "kafka": "engine/log/kafka*.py"}
TERMINAL = ("typer", "rich")


class Import(ast.NodeVisitor):
    """Collects what a module imports: (line, dotted name, whether at module level), and the names it goes by here."""

    def __init__(self, path: str) -> None:
        self.package = path.removesuffix(".py").split("/")[:-1]
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


def upward_imports(source: Source) -> Iterator[str]:
    """Imports from a layer above."""
    for line, name, _ in imports(source).found:
        if is_within(name, *FORBIDDEN_LAYERS.get(source.path.partition("/")[0], ())):
            yield f"{source.path}:{line} imports {name}, which stands above it"


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
        yield f"{source.path}:{line} uses {name}: the rules are told the time, and draw nothing"


def side_doors(source: Source) -> Iterator[str]:
    """Libraries imported elsewhere than by the one adapter that may."""
    for line, name, _ in imports(source).found:
        for package, door in ONLY_DOOR.items():
            if is_within(name, package) and not fnmatch(source.path, door):
                yield f"{source.path}:{line} imports {name}: only {door} may"


def terminal_at_load(source: Source) -> Iterator[str]:
    """The terminal's libraries, loaded with a module that is not the command line's."""
    for line, name, at_load in imports(source).found:
        if at_load and is_within(name, *TERMINAL) and not source.is_in("lastseen/cli"):
            yield f"{source.path}:{line} imports {name} at module level: only lastseen/cli may"


Check = Callable[[Source], Iterator[str]]


@pytest.mark.parametrize("check", [upward_imports, io_in_rules, clocks_in_rules, side_doors, terminal_at_load])
def test_the_product_keeps_its_layers(check: Check) -> None:
    sources = python_files(*PRODUCT)
    assert sources
    faults = [fault for source in sources for fault in check(source)]
    assert not faults, "\n".join(faults)


OFFENCES = [
    (upward_imports, "engine/session.py", "from projections.partition import Partition"),
    (upward_imports, "engine/log/memory.py", "def late():\n    import lastseen"),
    (upward_imports, "engine/log/memory.py", "from ...lastseen import app"),
    (upward_imports, "projections/follower.py", "import lastseen.config as config"),
    (upward_imports, "projections/follower.py", "import importlib\nimportlib.import_module('lastseen.app')"),
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
    (side_doors, "engine/log/memory.py", "import eventsourcing.sqlite"),
    (side_doors, "projections/snapshot.py", "from eventsourcing.sqlite import SQLiteDatastore"),
    (side_doors, "engine/log/sqlite.py", "def late():\n    from kafka import KafkaProducer"),
    (terminal_at_load, "lastseen/app.py", "from rich.table import Table"),
    (terminal_at_load, "lastseen/__init__.py", "try:\n    import typer\nexcept ImportError:\n    typer = None"),
]


@pytest.mark.parametrize(("check", "path", "text"), OFFENCES)
def test_an_offender_is_found(check: Check, path: str, text: str) -> None:
    assert len(list(check(Source(path, text)))) == 1


INNOCENTS = [
    (upward_imports, "lastseen/app.py", "from projections import follower\nimport engine"),
    (upward_imports, "projections/follower.py", "from engine import lastseen_at"),
    (io_in_rules, "engine/clock.py", "import threading"),
    (io_in_rules, "engine/identifiers.py", "import os"),
    (io_in_rules, "engine/log/sqlite.py", "import sqlite3, os"),
    (io_in_rules, "projections/snapshot.py", "import sqlite3"),
    (clocks_in_rules, "engine/clock.py", "import time\nnow = time.time_ns()"),
    (clocks_in_rules, "engine/session.py", "from datetime import datetime\nat = datetime.fromisoformat('')"),
    (side_doors, "engine/log/sqlite.py", "from eventsourcing.sqlite import SQLiteDatastore"),
    (side_doors, "engine/log/kafka_batches.py", "import kafka"),
    (terminal_at_load, "lastseen/cli/tables.py", "from rich.table import Table"),
    (terminal_at_load, "lastseen/app.py", "def late():\n    import typer"),
]


@pytest.mark.parametrize(("check", "path", "text"), INNOCENTS)
def test_an_innocent_is_left_alone(check: Check, path: str, text: str) -> None:
    assert list(check(Source(path, text))) == []
