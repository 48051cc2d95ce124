"""One mutant, tried in a process of its own: `python -m tests.simulation.mutated "<name>"`. Prints what noticed it.

The source is changed on its way into the interpreter; no file is written.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[2]
MOST_HISTORIES = 400
FIRST_SEED = 1


class Patched(importlib.machinery.SourceFileLoader):
    """Loads a module from changed source."""

    old = new = ""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the loader's
        """The code of the changed source; never the cached code of the real one."""
        source = self.get_data(self.path).decode()
        if source.count(self.old) != 1:
            raise ImportError(f"{self.path} has the text to be replaced {source.count(self.old)} times: {self.old!r}")
        return compile(source.replace(self.old, self.new), self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that is to be changed."""

    def __init__(self, module: str, old: str, new: str) -> None:
        self._module = module
        self._patch = {"old": old, "new": new}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec, with a loader that changes it."""
        if fullname != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = type("Mutated", (Patched,), self._patch)(fullname, spec.origin)
        return spec


def by_simulation(invariant: int) -> str | None:
    """The first history in which the invariant does not hold; `None` if it holds in all."""
    from tests.simulation.run import run

    others: set[int] = set()
    for seed in range(FIRST_SEED, FIRST_SEED + MOST_HISTORIES):
        found = {violation.invariant for violation in run(seed).violations}
        others |= found
        if invariant in found:
            also = sorted(others - {invariant, 0})
            return f"seed {seed}: invariant {invariant}" + (f" (also {', '.join(map(str, also))})" if also else "")
    return None


def by_tests(file: str) -> str | None:
    """The first test of a file that fails; `None` if none does."""
    import pytest

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main([str(ROOT / file), "-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=no"])
    if code == 0:
        return None
    failed = [line for line in said.getvalue().splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].removeprefix("FAILED ") if failed else f"pytest ended with {code}"


def main(name: str) -> int:
    """Try one mutant; 0 if something noticed it."""
    from tests.simulation.mutant_list import MUTANTS

    mutant = next(each for each in MUTANTS if each.name == name)
    sys.meta_path.insert(0, Finder(mutant.module, mutant.old, mutant.new))
    found = by_simulation(mutant.kills) if isinstance(mutant.kills, int) else by_tests(mutant.kills)
    sys.stdout.write(f"{found or 'survived'}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
