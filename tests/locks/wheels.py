"""Which wheels a lock allows, and whether there is one for a Python on a machine."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

NEWEST_GLIBC_MINOR = 28
"""Of Debian 10 and RHEL 8: whatever is supported has at least this."""
_BEFORE_PEP_600 = {
    17: {"x86_64": "manylinux2014", "aarch64": "manylinux2014"},
    12: {"x86_64": "manylinux2010"},
    5: {"x86_64": "manylinux1"},
}
_pin = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+?))?\s*(?:\\|$)")
_hash = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class Target(NamedTuple):
    """A CPython on a machine with Linux."""

    python: str
    machine: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.machine}"

    def tags(self) -> frozenset[Tag]:
        """The tags of wheels that install there."""
        version = tuple(map(int, self.python.split(".")[:2]))
        platforms = []
        for minor in range(NEWEST_GLIBC_MINOR, 4, -1):
            platforms.append(f"manylinux_2_{minor}_{self.machine}")
            if old := _BEFORE_PEP_600.get(minor, {}).get(self.machine):
                platforms.append(f"{old}_{self.machine}")
        platforms.append(f"linux_{self.machine}")
        interpreter = f"cp{version[0]}{version[1]}"
        return frozenset(cpython_tags(version, platforms=platforms)) | frozenset(
            compatible_tags(version, interpreter, platforms)
        )

    def is_meant_by(self, marker: str | None) -> bool:
        """Whether a requirement with this marker is one there."""
        if marker is None:
            return True
        minor = ".".join(self.python.split(".")[:2])
        environment = {
            "implementation_name": "cpython", "implementation_version": self.python, "os_name": "posix",
            "platform_machine": self.machine, "platform_python_implementation": "CPython", "platform_release": "",
            "platform_system": "Linux", "platform_version": "", "python_full_version": self.python,
            "python_version": minor, "sys_platform": "linux", "extra": "",
        }  # fmt: skip
        return Marker(marker).evaluate(environment)


def parse_pins(lock: str) -> dict[str, frozenset[str]]:
    """The requirements of a lock, `name==version ; marker`, each with the hashes that it allows."""
    pins = {}
    for entry in re.split(r"\n(?=\S)", lock):
        found = _pin.match(entry)
        if found:
            text = f"{found['name']}=={found['version']}" + (f" ; {found['marker']}" if found["marker"] else "")
            pins[text] = frozenset(_hash.findall(entry))
    return pins


def wheels_missing(pins: Mapping[str, frozenset[str]], listing: str, targets: Iterable[Target]) -> Iterator[str]:
    """The requirements that have no wheel with a hash of theirs for one of the targets.

    `listing` is the index's files for the requirements, as a `pylock.toml` (PEP 751).
    """
    listed = {
        f"{each['name']}=={each['version']}": each.get("wheels", []) for each in tomllib.loads(listing)["packages"]
    }
    tags = {target: target.tags() for target in targets}
    for pin, hashes in pins.items():
        requirement, _, marker = pin.partition(" ; ")
        allowed = [_tags_of(wheel) for wheel in listed.get(requirement, []) if wheel["hashes"]["sha256"] in hashes]
        for target, there in tags.items():
            if target.is_meant_by(marker or None) and not any(wheel & there for wheel in allowed):
                yield f"{requirement}: no wheel with a hash of the lock's for {target}"


def _tags_of(wheel: Mapping[str, Any]) -> frozenset[Tag]:
    name = wheel.get("name") or unquote(urlsplit(wheel["url"]).path.rpartition("/")[2])
    return parse_wheel_filename(name)[3]
