"""Interrupts at a chosen place: an exception out of nowhere, as Ctrl-C or a signal's time limit raises one.

A trace function raises at a line, or at a bytecode instruction, of the code that is tried. Places at which no signal
is handled are left out where CPython counts on that: it looks for signals when a function begins, after a call and at a
jump back, so none comes between the end of a `with` block and the call of its `__exit__` (bpo-29988), nor at the empty
instruction that stands for `try:`, which no block covers. So are the
head of a loop and the jump back to it: where they are of a comprehension inside a `with` block, Python 3.12 leaves the
block open when a trace function raises at the head, and Python 3.13 when it raises at the jump. A signal's exception
ends the block: of 71,000 signals that came in such a loop, none left it open, on either.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FrameType
from typing import Any, NamedTuple


class Interrupted(BaseException):
    """What is raised; no code of ours can know it."""


class Place(NamedTuple):
    """A place in the code."""

    code: CodeType
    at: int
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_qualname}, line {self.line}, instruction {self.at}"


@cache
def _never(code: CodeType) -> frozenset[int]:
    """The empty instructions and jumps, and those that leave `with` blocks: `__exit__(None, None, None)`, or with what
    was raised."""
    found: set[int] = set()
    steps = list(dis.get_instructions(code))
    for number, step in enumerate(steps):
        if step.opname in ("NOP", "JUMP_FORWARD", "RERAISE", "FOR_ITER", "JUMP_BACKWARD"):
            found.add(step.offset)
        if step.opname == "WITH_EXCEPT_START":
            found |= {step.offset, steps[number - 1].offset}
        if [(each.opname, each.argval) for each in steps[number : number + 3]] == [("LOAD_CONST", None)] * 3:
            end = number + 3
            while steps[end].opname in ("PRECALL", "CACHE"):
                end += 1
            if steps[end].opname == "CALL" and steps[end].arg in (2, 3):
                start = number - 1 if steps[number - 1].opname == "SWAP" else number
                found |= {each.offset for each in steps[start : end + 1]}
    return frozenset(found)


class Tracing:
    """Traces the code of some files."""

    def __init__(self, files: Container[str], by_instruction: bool = False) -> None:
        self._files, self._by_instruction = files, by_instruction

    def places(self, call: Callable[[], object]) -> list[Place]:
        """The places that a call comes through, in their order."""
        found: dict[Place, None] = {}
        with self._traced(lambda place: found.setdefault(place)):
            call()
        return list(found)

    def interrupt(self, at: Place, call: Callable[[], object]) -> bool:
        """Run a call and interrupt it when it comes to a place for the first time; whether it came there."""

        def raise_there(place: Place) -> None:
            if place == at:
                raise Interrupted(str(at))

        try:
            with self._traced(raise_there):
                call()
        except Interrupted:
            return True
        return False

    @contextmanager
    def _traced(self, on_place: Callable[[Place], object]) -> Iterator[None]:
        event_wanted = "opcode" if self._by_instruction else "line"

        def local(frame: FrameType, event: str, _: Any) -> Any:
            if event == event_wanted and frame.f_lasti not in _never(frame.f_code):
                on_place(Place(frame.f_code, frame.f_lasti, frame.f_lineno))
            return local

        def begin(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code.co_filename not in self._files:
                return None
            frame.f_trace_opcodes = self._by_instruction
            return local

        before = sys.gettrace()
        # Python 3.12 has events of instructions only if some frame wanted them before tracing begins.
        sys._getframe().f_trace_opcodes = self._by_instruction
        sys.settrace(begin)
        try:
            yield
        finally:
            sys.settrace(before)
