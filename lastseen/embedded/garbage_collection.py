"""Python's garbage collector, told that the process exists for the engine.

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
    """Take all that is in memory now out of the collector's sight, and have it look less often; for good."""
    gc.collect()
    gc.freeze()
    now = gc.get_threshold()
    if now[0]:  # whoever has switched it off has done more
        gc.set_threshold(*(max(pair) for pair in zip(now, THRESHOLDS, strict=True)))
