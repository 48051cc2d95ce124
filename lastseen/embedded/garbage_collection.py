"""Settings of Python's garbage collector for a process that exists for the engine.

An engine makes nothing that only the collector can free: sessions, records and views are in no reference cycle. What is
left for it is what libraries leave behind, and that can wait a little longer. (docs/decisions/0004-deadlines.md has the
measurements.)
"""

from __future__ import annotations

import gc

THRESHOLDS = (10_000, 20, 50)
"""New objects before a look at the youngest, looks at those before one at the middle ones, and so on. With the default
of 700 the youngest are looked at several times in each batch of touches, and all of them are still in use."""


def freeze_after_start() -> None:
    """Call `gc.freeze`, and raise the collector's thresholds; permanently."""
    gc.collect()
    gc.freeze()
    now = gc.get_threshold()
    if now[0]:  # a collector that is switched off stays off
        gc.set_threshold(*(max(pair) for pair in zip(now, THRESHOLDS, strict=True)))
