"""Disks of a test's own, small and real: mounted, filled, freed, and gone after the test.

A tmpfs, or ext4 on a file by way of a loop device. Each is mounted in a namespace of the one process that works on it,
where others than root may mount a tmpfs too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

KINDS = ("tmpfs", "ext4")
NOT_MOUNTED = 77
"""The exit code of a command that could not mount its disk."""


class NoMount(Exception):
    """Nothing can be mounted here; says what to do."""


def command_on(kind: str, place: Path, size_bytes: int, script: str, *arguments: str) -> list[str]:
    """The command that mounts a small disk at `place`, runs a Python script, and leaves nothing behind.

    The mount is in a namespace of that command's own: no other process sees it, and it is gone when the command ends,
    however it ends. Raises `NoMount`.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        raise NoMount("tests of full disks need `unshare` of util-linux, and it is not on the path")
    place.mkdir()
    if os.geteuid() != 0:
        # There a file system of a device is out of bounds.
        kind, user = "tmpfs", ["--user", "--map-root-user"]
    else:
        user = []
    own = [unshare, *user, "--mount", "--propagation", "private"]
    if kind == "tmpfs":
        mount = f'mount -t tmpfs -o size={size_bytes} none "$1"'
    else:
        image = place.with_suffix(".image")
        with image.open("wb") as file:
            file.truncate(size_bytes)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], capture_output=True, text=True, check=False)
        if made.returncode:
            raise NoMount(f"tests of full disks need mkfs.ext4, and it failed: {made.stderr.strip()}")
        mount = f'mount -o loop {image} "$1"'
    shell = f'{mount} || exit {NOT_MOUNTED}; shift; exec "$@"'
    return [*own, "/bin/sh", "-c", shell, "sh", str(place), sys.executable, "-c", script, *arguments]


def said_of(kind: str, errors: str) -> str:
    """What to do where a disk could not be mounted."""
    return (
        f"tests of full disks mount a small {kind}, and that is not allowed here: run them as root (in a container,"
        f" with --cap-add SYS_ADMIN), or allow namespaces of users. mount said: {errors.strip()}"
    )
