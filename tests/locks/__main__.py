"""`make locks-check`: every lock holds for every Python that is supported, on x86-64 and arm64.

python -m tests.locks var/lock/bin/uv

Of each lock it sees, for each Python and machine, that it names all that its packages need, that each of them has a
wheel there, and that the lock has that wheel's hash; and that the lock is what `make lock` would make of its input. The
package index is asked, nothing is downloaded but what it says of its packages.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.locks.wheels import Target, parse_pins, wheels_missing

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11.0", "3.11.4", "3.12.0", "3.13.0", "3.14.0")
"""The first of each minor version, and 3.11.4: some packages need a back-port below it."""
TARGETS = tuple(Target(python, machine) for python in PYTHONS for machine in ("x86_64", "aarch64"))
INPUTS = {
    "requirements.lock": ("requirements.in",),
    "requirements-demo.lock": ("pyproject.toml", "--extra", "client", "--extra", "service", "requirements-demo.in"),
    "requirements-dev.lock": ("requirements-dev.in",),
    "requirements-bench.lock": ("requirements-bench.in",),
    "requirements-docs.lock": ("requirements-docs.in",),
    "requirements-uv.lock": ("requirements-uv.in",),
    "benchmarks/unpacked.lock": ("benchmarks/unpacked.in",),
    "tests/http/generated/openapi-python-client.lock": ("tests/http/generated/openapi-python-client.in",),
    "tests/real_gateway/environment.lock": ("tests/real_gateway/environment.in",),
}
"""What `make lock` makes each lock of."""
_UNIVERSAL = ("--quiet", "--universal", "--python-version", "3.11", "--only-binary", ":all:")
_ANSWERS_WITHIN_S = 300


def faults(uv: Path, lock: str, folder: Path) -> Iterator[str]:
    """What is wrong with a lock."""
    try:
        yield from _stale(uv, lock, folder)
        for target in TARGETS:
            yield from _incomplete(uv, lock, target, folder)
        listing = folder / "pylock.toml"
        _run(uv, "pip", "compile", *_UNIVERSAL, "--no-deps", "--format", "pylock.toml", lock, "-o", str(listing))
        yield from wheels_missing(parse_pins((ROOT / lock).read_text("utf-8")), listing.read_text("utf-8"), TARGETS)
    except subprocess.CalledProcessError as failure:
        yield f"uv failed: {failure.stderr.strip()}"


def _stale(uv: Path, lock: str, folder: Path) -> Iterator[str]:
    made = folder / Path(lock).name
    text = (ROOT / lock).read_text("utf-8")
    made.write_text(text, "utf-8")
    _run(uv, "pip", "compile", *_UNIVERSAL, "--generate-hashes", "--no-header", *INPUTS[lock], "-o", str(made))
    now, then = parse_pins(made.read_text("utf-8")).keys(), parse_pins(text).keys()
    for pin in sorted(now ^ then):
        yield f"{pin} is {'missing' if pin in now else 'too much'}: run make lock"


def _incomplete(uv: Path, lock: str, target: Target, folder: Path) -> Iterator[str]:
    """Resolve the lock as an installation with `--require-hashes` would: what it needs and does not name is refused."""
    try:
        _run(
            uv, "pip", "install", "--quiet", "--dry-run", "--require-hashes", "--only-binary", ":all:",
            "--python-version", target.python, "--python-platform", f"{target.machine}-manylinux_2_28",
            "--target", str(folder / "nothing"), "-r", lock,
        )  # fmt: skip
    except subprocess.CalledProcessError as failure:
        silent = f"uv ended with {failure.returncode} and gave no reason: run the check again"
        yield f"{target}: {failure.stderr.strip() or silent}"


def _run(uv: Path, *arguments: str) -> None:
    subprocess.run(
        [uv.absolute(), *arguments], cwd=ROOT, check=True, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S
    )


def main(arguments: list[str]) -> int:
    """Check all locks with the `uv` that is named; prints what is wrong."""
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    found = []
    for lock in INPUTS:
        with tempfile.TemporaryDirectory() as folder:
            found += [f"{lock}: {fault}" for fault in faults(Path(arguments[0]), lock, Path(folder))]
    for fault in found:
        sys.stderr.write(f"lastseen: {fault}\n")
    if not found:
        sys.stdout.write(f"lastseen: {len(INPUTS)} locks hold for {', '.join(map(str, TARGETS))}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
