"""Damaged files: bytes that are other ones, zeros, or missing, at any place of the log, the snapshot or the history.

Any damage must have one of four outcomes: nothing, since those bytes are not needed; a start or a read that
says what it found and folds anew; a typed error that says what to do; or, where an engine cannot see it by itself, a
difference that `verify` or `rebuild` finds. `python -m tests.durability.corruption --damages 5000 --seed 7`.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lastseen
from lastseen.embedded.audit import rebuild, verify
from lastseen.engine.errors import LastseenError
from tests.fuzz.interfaces import spoil_in_place

T0 = 1_700_000_000_000
KEYS = 24
LOG = "log.db"
FILES = tuple(LOG + suffix for suffix in ("", "-wal", ".snapshot", ".snapshot-wal", ".history", ".history-wal"))
SAME, SAID, REFUSED, FOUND = "nothing of it shows", "folded anew, and said", "a typed error", "found by verify"
NEXT_STEP = re.compile(
    r"restore|delete|give |try again|see that|see what|check that|free some|find out|use a newer|close the engine",
    re.IGNORECASE,
)


class Broken(AssertionError):
    """Damage that ended in an error of another kind, or in a wrong read that no check finds."""


class Sound:
    """A log with all that lies beside it, as a kill and as a shutdown leave it, and what an engine tells of it."""

    def __init__(self, folder: Path) -> None:
        """Make it in a folder."""
        self.killed, self.shut = folder / "killed", folder / "shut"
        self.killed.mkdir(parents=True)
        clock = lastseen.ManualClock(T0)
        url = f"sqlite:///{self.killed / LOG}"
        with lastseen.open_engine(url, clock=clock, background=False) as engine:
            self._live(engine, clock)
            engine.flush()
            self.now_ms = clock.now_ms()
            self.reported = reported_by(engine)
            shutil.copytree(self.killed, folder / "copy", ignore=shutil.ignore_patterns("*-shm"))
        self.killed.rename(self.shut)
        (folder / "copy").rename(self.killed)
        missing = [name for name in FILES if not self.home_of(name).joinpath(name).exists()]
        assert missing == [], missing

    @staticmethod
    def _live(engine: lastseen.Engine, clock: lastseen.ManualClock) -> None:
        brief = lastseen.policy(idle_ttl="5s")
        for number in range(KEYS):
            engine.open(f"key-{number}", attributes={"owner": f"owner-{number % 3}", "text": "a" * 40 * number})
            engine.open(f"brief-{number}", policy=brief)
        for turn in range(4):
            clock.advance(2_000)
            for number in range(KEYS):
                engine.touch(f"key-{number}", message={"turn": turn, "text": "b" * 30})
        for number in range(0, KEYS, 4):
            engine.close(f"key-{number}", reason="logout")
            engine.suspend(f"key-{number + 1}")
        engine.prune()

    def home_of(self, name: str) -> Path:
        """The folder in which there is something in a file: a shutdown leaves no write-ahead files behind."""
        return self.killed if name.endswith("-wal") else self.shut


def reported_by(engine: lastseen.Engine) -> dict[str, Any]:
    """All that an engine tells of live sessions and of the past. Raises `LastseenError`."""
    keys = [f"{kind}-{number}" for number in range(KEYS) for kind in ("key", "brief")]
    page = engine.list(sort="created", limit=1_000)
    return {
        "checkpoints": engine.checkpoints(),
        "records": engine._log.read(0, 0, 10_000),
        "live": [(each.as_dict(), [message[:] for message in engine.messages(each.key)]) for each in page.sessions],
        "history": {key: list(engine.history(key)) for key in keys},
        "lives": {key: list(engine.session_spans(key)) for key in keys},
        "why": {key: engine.explain(key).sentence for key in keys},
    }


def damage(sound: Sound, name: str, folder: Path, chance: random.Random) -> str:
    """Lay the files out in a folder, one of them damaged; what came of it. Raises `Broken`."""
    shutil.copytree(sound.home_of(name), folder)
    place = folder / name
    place.write_bytes(spoil_in_place(chance, place.read_bytes()))
    url = f"sqlite:///{folder / LOG}"
    clock = lastseen.ManualClock(sound.now_ms)
    try:
        with lastseen.open_engine(url, clock=clock, background=False) as engine:
            notes, reported = list(engine.notes), reported_by(engine)
    except LastseenError as error:
        if not NEXT_STEP.search(str(error)):
            raise Broken(f"{type(error).__name__} does not say what to do: {error}") from error
        return REFUSED
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    if reported == sound.reported:
        return SAID if notes else SAME
    if not is_found(url):
        unlike = [part for part in reported if reported[part] != sound.reported[part]]
        raise Broken(f"a wrong read, and no check finds it: {', '.join(unlike)}; {notes}")
    return FOUND


def is_found(url: str) -> bool:
    """Whether those who look after the files find something wrong with them."""
    try:
        return not all(check.ok for check in verify(url)) or bool(rebuild(url).differences)
    except LastseenError:
        return True


def damages(sound: Sound, name: str, folder: Path, seed: int, count: int) -> Counter[str]:
    """Damage one of the files so many times; how often what came of it. Raises `Broken`, which says which it was."""
    came: Counter[str] = Counter()
    for number in range(count):
        place = folder / f"{name}-{number}"
        try:
            came[damage(sound, name, place, random.Random(f"{seed}/{name}/{number}"))] += 1
        except Broken as broken:
            raise Broken(f"{name}: seed {seed}, damage {number}: {broken}") from broken
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return came


def main() -> int:
    """The command: damage every file, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.corruption", description=__doc__)
    parser.add_argument("--damages", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--file", choices=FILES, default=None)
    chosen = parser.parse_args()
    logging.getLogger("lastseen").setLevel(logging.ERROR)
    names = [chosen.file] if chosen.file else FILES
    with tempfile.TemporaryDirectory(prefix="lastseen-damaged-") as folder:
        sound = Sound(Path(folder) / "sound")
        for name in names:
            came = damages(sound, name, Path(folder), chosen.seed, chosen.damages // len(names))
            sys.stdout.write(f"{name}: {came.total()} times damaged, seed {chosen.seed}: {dict(came)}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
