"""The check of the locks finds what is missing; that they hold is seen by `make locks-check`, which asks the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.locks.__main__ import INPUTS, TARGETS
from tests.locks.wheels import Target, parse_pins, wheels_missing

ROOT = Path(__file__).resolve().parents[2]
ANY, INTEL, ARM = "1" * 64, "2" * 64, "3" * 64
LOCK = f"""\
pure==1.0 ; python_full_version < '3.11.3' \\
    --hash=sha256:{ANY}
    # via quick
quick==2.1 \\
    --hash=sha256:{INTEL} \\
    --hash=sha256:{ARM}
"""
WHEELS = {
    "pure-1.0-py3-none-any.whl": ANY,
    "quick-2.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": INTEL,
    "quick-2.1-cp312-abi3-manylinux_2_28_aarch64.whl": ARM,
}


def listed(file: str, sha256: str) -> str:
    """A wheel, as `pylock.toml` has it."""
    return f'{{ url = "https://packages.example/p/{file}", hashes = {{ sha256 = "{sha256}" }} }},\n'


def package(name: str, version: str) -> str:
    """A package with its wheels, as `pylock.toml` has it."""
    wheels = "".join(listed(file, sha256) for file, sha256 in WHEELS.items() if file.startswith(name))
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [\n{wheels}]\n'


LISTING = package("pure", "1.0") + package("quick", "2.1")
BOTH = (Target("3.12.0", "x86_64"), Target("3.12.0", "aarch64"))


def test_a_lock_is_read() -> None:
    assert parse_pins(LOCK) == {
        "pure==1.0 ; python_full_version < '3.11.3'": {ANY},
        "quick==2.1": {INTEL, ARM},
    }


def test_a_lock_with_a_wheel_for_each_machine_holds() -> None:
    assert list(wheels_missing(parse_pins(LOCK), LISTING, BOTH)) == []


@pytest.mark.parametrize(
    ("lock", "listing", "target"),
    [
        (LOCK.replace(ARM, ANY), LISTING, "Python 3.12.0 on aarch64"),
        (LOCK, LISTING.replace("x86_64", "i686"), "Python 3.12.0 on x86_64"),
        (LOCK, LISTING.replace("manylinux_2_28_aarch64", "manylinux_2_35_aarch64"), "Python 3.12.0 on aarch64"),
        (LOCK, LISTING.replace("cp312-cp312", "cp313-cp313"), "Python 3.12.0 on x86_64"),
    ],
)
def test_a_missing_wheel_is_found(lock: str, listing: str, target: str) -> None:
    assert list(wheels_missing(parse_pins(lock), listing, BOTH)) == [
        f"quick==2.1: no wheel with a hash of the lock's for {target}"
    ]


def test_what_a_marker_leaves_out_needs_no_wheel() -> None:
    without = LISTING.replace("pure-1.0-py3", "pure-1.0-cp27")
    assert list(wheels_missing(parse_pins(LOCK), without, BOTH)) == []
    assert len(list(wheels_missing(parse_pins(LOCK), without, [Target("3.11.2", "x86_64")]))) == 2


def test_every_lock_is_checked_and_made() -> None:
    globs = ("*.lock", "benchmarks/*.lock", "tests/*/*.lock", "tests/*/*/*.lock")
    locks = {str(path.relative_to(ROOT)) for glob in globs for path in ROOT.glob(glob)}
    assert locks == set(INPUTS)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for lock, inputs in INPUTS.items():
        assert f"$(PIN) {' '.join(inputs)} --output-file {lock}\n" in makefile


def test_the_locks_hold_for_pythons_without_what_newer_ones_have() -> None:
    pins = parse_pins((ROOT / "requirements-bench.lock").read_text("utf-8"))
    oldest, newer = TARGETS[0], Target("3.11.3", "x86_64")
    needed = {pin.partition("==")[0]: pin.partition(" ; ")[2] or None for pin in pins}
    assert oldest.is_meant_by(needed["async-timeout"])
    assert not newer.is_meant_by(needed["async-timeout"])
