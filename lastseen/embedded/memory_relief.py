"""Relief: what is done when memory is short. Bodies leave it first; then, if that is asked for, sessions end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from lastseen.embedded.memory_pressure import PRESSURE_THRESHOLD, MemoryPressure, trim_heap
from lastseen.projections.bodies import Bodies

GROWN_BY = 0.01
"""By how much of the limit the process grows, after sessions ended for memory, before more do."""
_STEPS = 32
_SMALLEST_STEP_BYTES = 1024 * 1024


class MemoryRelief:
    """Looks at how short memory is, and makes room."""

    def __init__(self, pressure: MemoryPressure, bodies: Bodies, lock: AbstractContextManager[Any]) -> None:
        """`lock` is the view's."""
        self.pressure = pressure
        self._bodies, self._lock = bodies, lock
        self._relieved_at_share = 0.0

    def step_bytes(self, max_body_bytes: int) -> int:
        """After how many bytes of new bodies there is a flush and a look, though it is not time yet.

        Between the share above which memory is freed and the limit lies a fifth of the limit: six such steps.
        """
        limit_bytes = self.pressure.limit_bytes or max_body_bytes
        return max(min(limit_bytes // _STEPS, max_body_bytes // 2), _SMALLEST_STEP_BYTES)

    def shed(self) -> bool:
        """Let bodies leave memory if it is short; whether it is. What is not flushed yet stays."""
        if self.pressure.share() <= PRESSURE_THRESHOLD:
            return False
        with self._lock:
            self._bodies.shrink(self._bodies.whole_bytes // 2, "memory")
        trim_heap()
        return True

    def make_room(self, end_some: Callable[[], object] | None) -> None:
        """Let bodies leave memory if it is short; then, if that is no help, end some sessions. Raises what that does.

        What ended sessions took serves those that come: the process itself rarely shrinks for it, and if more ended for
        as long as it does not, all would. So it has to grow before more do.
        """
        if not self.shed():
            self._relieved_at_share = 0.0
        elif end_some is not None and self.pressure.share() > max(
            PRESSURE_THRESHOLD, self._relieved_at_share + GROWN_BY
        ):
            end_some()
            self._relieved_at_share = self.pressure.share()
