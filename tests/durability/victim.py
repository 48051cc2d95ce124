"""The process that is killed: it runs an engine, uses it from several threads, and says what was acknowledged.

Each acknowledged command is one line on the pipe, written by one `write`, so a line is there whole or not at all:
`<partition> <offset of the session's last activity> <session id> <version>` for what leaves a session, and
`ended <session id>` for what ends one.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any

import lastseen
from lastseen.engine.errors import LastseenError
from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.log import SqliteLog

THREADS = 4
KEYS = 12
SETTINGS: dict[str, Any] = {"idle_ttl": "60s", "max_sessions": 8, "snapshot_interval": 20, "max_body_bytes": 2_000}


class PrematureLog(SqliteLog):
    """A broken log: it acknowledges an append when it is written, and commits it with the next."""

    def _commit(self, batch: Sequence[Any]) -> None:
        with self._datastore.writing:
            connection = self._datastore.writer().raw
            if connection.in_transaction:
                connection.execute("COMMIT")
        super()._commit(batch)

    def _finish(self, connection: sqlite3.Connection) -> None:
        """Leave the transaction open."""

    def end_offsets(self) -> list[int]:
        """What was written, committed or not: the tail has it."""
        ends = super().end_offsets()
        for partition in range(self.partitions):
            kept: list[Record] = self._tail._records[partition]
            if kept:
                ends[partition] = max(ends[partition], kept[-1].offset + 1)
        return ends


def open_premature_log() -> None:
    """From here on, `open_engine` opens the broken log."""
    import lastseen.embedded.opening

    def open_broken(url: str, clock: Any, **_: Any) -> SqliteLog:
        return PrematureLog(url.removeprefix("sqlite:///"), clock, genesis=True)

    lastseen.embedded.opening.open_log = open_broken


def live(url: str, pipe: int, seed: int, *, is_broken: bool) -> None:
    """Use an engine until this process is killed."""
    if is_broken:
        open_premature_log()
    engine = lastseen.open_engine(url, **SETTINGS)
    os.write(pipe, b"open\n")
    threads = [
        threading.Thread(target=_use, args=(engine, pipe, random.Random(seed * 1_000 + number)))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _use(engine: lastseen.Engine, pipe: int, chance: random.Random) -> None:
    while True:
        key = f"key:{chance.randrange(KEYS)}"
        try:
            acknowledged = _act(engine, key, chance)
        except LastseenError:
            continue  # refused: nothing was acknowledged
        os.write(pipe, f"{acknowledged}\n".encode())


def _act(engine: lastseen.Engine, key: str, chance: random.Random) -> str:
    action = chance.random()
    if action < 0.08:
        session = engine.open(key)
        engine.close(key, session_id=session.session_id, reason="logout")
        return f"ended {session.session_id}"
    if action < 0.2:
        view = engine.open(key, attributes={"owner": f"owner{chance.randrange(3)}"})
    elif action < 0.28:
        view = engine.rotate(key)
    elif action < 0.36:
        view = engine.suspend(key)
    elif action < 0.46:
        view = engine.resume(key)
    elif action < 0.6:
        engine.open(key)
        view = engine.update(key, {"count": chance.randrange(100), f"name{chance.randrange(5)}": "x" * 50})
    elif action < 0.7:
        results = engine.touch_many([f"key:{number}" for number in range(KEYS)])
        views = [result for result in results if isinstance(result, lastseen.SessionView)]
        if not views:
            return "nothing"
        view = views[-1]
    else:
        engine.open(key)
        touched = engine.touch(key, message={"text": "x" * chance.randrange(200)})
        assert touched is not None
        view = touched
    return f"{view.partition} {view.position.offset} {view.session_id} {view.version}"
