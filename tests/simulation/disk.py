"""A node's disk: what of its snapshot and history is left after a crash, and whether there is room for more.

The files are real, in memory where the machine has such a folder, and SQLite's own; only what a power loss, a bad
sector or a full disk leaves of them is made here. A write-ahead log that was not synced may end at any byte.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

PARTS = ("", "-wal")
ROOM = 1_000_000


class Disk:
    """The folder of one node."""

    def __init__(self, folder: Path, draw: Random) -> None:
        folder.mkdir()
        self._draw = draw
        self.snapshot = folder / "sessions.snapshot"
        self.history = folder / "sessions.history"

    def image(self) -> dict[Path, bytes]:
        """The bytes of all files as they are now."""
        found = {}
        for file in (self.snapshot, self.history):
            for part in PARTS:
                place = file.with_name(file.name + part)
                if place.exists():
                    found[place] = place.read_bytes()
        return found

    def restore(self, image: dict[Path, bytes]) -> None:
        """Put back what the crash has left."""
        for file in (self.snapshot, self.history):
            for part in (*PARTS, "-shm"):
                file.with_name(file.name + part).unlink(missing_ok=True)
        for place, content in image.items():
            place.write_bytes(content)

    def lose_unsynced(self, image: dict[Path, bytes]) -> None:
        """The power goes: of each write-ahead log only a beginning is left, or nothing."""
        for place, content in list(image.items()):
            if place.name.endswith("-wal"):
                image[place] = content[: self._draw.choice([0, self._draw.randrange(len(content) + 1)])]

    def tear(self, image: dict[Path, bytes]) -> None:
        """A sector of the snapshot is not what was written, or the file is cut."""
        places = [place for place in image if place.name.startswith(self.snapshot.name) and image[place]]
        if not places:
            return
        place = self._draw.choice(places)
        content = bytearray(image[place])
        at = self._draw.randrange(len(content))
        match self._draw.randrange(3):
            case 0:
                at -= at % 512
                content[at : at + 512] = bytes(len(content[at : at + 512]))
            case 1:
                content[at] ^= 1 << self._draw.randrange(8)
            case 2:
                del content[at:]
        image[place] = bytes(content)

    def forget(self, image: dict[Path, bytes]) -> None:
        """The snapshot was deleted, or the history too."""
        for place in [*image]:
            if place.name.startswith(self.snapshot.name) or self._draw.random() < 0.5:
                del image[place]


def fill(*connections: Any) -> None:
    """No page more fits on the disk."""
    for connection in connections:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()


def free(*connections: Any) -> None:
    """There is room again."""
    for connection in connections:
        connection.execute(f"PRAGMA max_page_count = {ROOM}").fetchone()
