"""What the processes of one run of the tests share: whichever asks first starts it, and ends it once none uses it.

Three files in a folder of the run say how things stand: `mutex` is locked by a process that looks or changes something,
`users` is locked, together with others, by each process that uses it, and `address` is there as long as it runs.
"""

from __future__ import annotations

import fcntl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

ASKED_EVERY_S = 0.1


@contextmanager
def shared_by_run(run: Path, start: Callable[[Path], AbstractContextManager[str]]) -> Iterator[str]:
    """The address of what `start` starts in a folder of the run, in this process or in another of the same run.

    The process that started it ends it, and waits for the others first. One that comes after that starts another.
    """
    folder = run / "shared"
    folder.mkdir(exist_ok=True)
    with (folder / "users").open("a") as users, ExitStack() as started:
        with _alone(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            address = folder / "address"
            if not address.exists():
                place = tempfile.mkdtemp(prefix="started-", dir=folder)
                address.write_text(started.enter_context(start(Path(place))), encoding="utf-8")
                started.enter_context(_unused(folder, users))
            found = address.read_text(encoding="utf-8")
        yield found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "mutex").open("a") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        yield


@contextmanager
def _unused(folder: Path, users: IO[str]) -> Iterator[None]:
    """At the end, wait until no other process uses it."""
    yield
    never = threading.Event()
    while True:
        with _alone(folder), suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / "address").unlink()
            return
        never.wait(ASKED_EVERY_S)
