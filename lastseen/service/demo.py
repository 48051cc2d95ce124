"""A demonstration: recorded chat, played through an engine as if it happened now, only faster.

It uses the engine as a gateway would: who says something is there, who leaves logs out, who falls silent idles out. The
idle limit is the usual 30 minutes, made shorter by the same factor as the chat is faster.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LastseenError, Refused
from lastseen.engine.session import Policy
from lastseen.replay.recording import SLICE, ChatEvent, read_chat

IDLE_MS = 30 * 60_000
"""In the recording's own time."""
LEAST_IDLE_MS = 1_000
_logger = logging.getLogger("lastseen.demo")


def demonstration(speed: float, recording: Path = SLICE) -> Callable[[Engine], AbstractContextManager[None]]:
    """Something that plays a recording through an engine, so many times as fast as it was, while it is entered."""

    @contextmanager
    def playing(engine: Engine) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(
            target=_play, args=(engine, recording, speed, ended), name="lastseen-demo", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    return playing


def _play(engine: Engine, recording: Path, speed: float, ended: threading.Event) -> None:
    policy = Policy(idle_ttl_ms=idle_ms(speed))
    try:
        for chat, wait_s in paced(read_chat(recording), speed):
            if wait_s > 0 and ended.wait(wait_s):
                return
            if ended.is_set():
                return
            with suppress(Refused):  # it ended in between: the next line opens another
                _act(engine, chat, policy)
    except LastseenError as error:
        _logger.warning("the demonstration ends: %s", error)
    else:
        _logger.info("the recording has ended: its last sessions idle out; start again to see more")


def idle_ms(speed: float) -> int:
    """The idle limit of the sessions in a demonstration at such a speed."""
    return max(round(IDLE_MS / speed), LEAST_IDLE_MS)


def paced(
    recording: Iterator[ChatEvent], speed: float, steady_s: Callable[[], float] = time.monotonic
) -> Iterator[tuple[ChatEvent, float]]:
    """Each line, and how many seconds to wait for its time. Silence is cut short once every session has idled out."""
    longest_s = idle_ms(speed) / 1000 * 1.2
    began_s = steady_s()
    played_s = 0.0
    """Where the demonstration is, in seconds of its own."""
    before_ms = None
    for chat in recording:
        if before_ms is not None:
            played_s += min((chat.at_ms - before_ms) / 1000 / speed, longest_s)
        before_ms = chat.at_ms
        yield chat, began_s + played_s - steady_s()


def _act(engine: Engine, chat: ChatEvent, policy: Policy) -> None:
    live = engine.get(chat.key)
    if chat.action == "leave":
        if live is not None:
            engine.close(chat.key, session_id=live.session_id, reason="logout")
    elif live is None:
        engine.open(chat.key, attributes={"owner": chat.key.rpartition(":")[2]}, policy=policy)
    else:
        engine.touch(chat.key)
