"""A service that uses sessions all the time through an engine without duties, and notes how long it ever waited."""

from __future__ import annotations

import itertools
from multiprocessing.connection import Connection
from typing import NamedTuple

import lastseen
from lastseen.engine.errors import LastseenError
from tests.patience import paced_s

KEPT = [f"kept-{number}" for number in range(24)]
"""Keys whose sessions are touched on and on, and must not end."""
KEPT_POLICY = lastseen.policy(idle_ttl="9s")
LASTING_POLICY = lastseen.policy(idle_ttl="1d")
"""What they live by when the caller stops."""
STOP = "stop"
FLEETING_POLICY = lastseen.policy(idle_ttl="1s")
PACE_S = 0.02


class Used(NamedTuple):
    """What a caller has seen so far."""

    acknowledged: int
    largest_gap_s: float
    """The longest from one acknowledgement to the next, since it was asked last."""
    session_ids: dict[str, str]
    """The sessions of the keys that are kept."""
    failures: list[str]


def use(url: str, pipe: Connection) -> None:
    """Use sessions until the parent process is gone, or kills this one."""
    with lastseen.open_engine(url, facts=False, prune=False) as engine:
        session_ids = {key: engine.open(key, policy=KEPT_POLICY).session_id for key in KEPT}
        acknowledged, gap_s, last_s = len(KEPT), 0.0, paced_s()
        failures: list[str] = []
        pipe.send("open")
        try:
            for number in itertools.count():
                key = KEPT[number % len(KEPT)]
                try:
                    engine.touch(key, session_id=session_ids[key])
                    engine.open(f"fleeting-{number}", policy=FLEETING_POLICY)
                except LastseenError as error:
                    failures.append(f"{key}: {error!r}")
                now_s = paced_s()
                gap_s, last_s, acknowledged = max(gap_s, now_s - last_s), now_s, acknowledged + 2
                if pipe.poll(PACE_S):
                    is_over = pipe.recv() == STOP
                    for key in KEPT if is_over else ():
                        engine.touch(key, session_id=session_ids[key], policy=LASTING_POLICY)
                    pipe.send(Used(acknowledged, gap_s, session_ids, failures))
                    gap_s = 0.0
                    if is_over:
                        return
        except (EOFError, BrokenPipeError):
            return
