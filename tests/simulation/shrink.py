"""Shortening: the fewest steps of a history that still fail. Delta debugging, with a bound on the tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MOST_TRIES = 400


def shortest(steps: Sequence[int], still_fails: Callable[[Sequence[int]], bool], tries: int = MOST_TRIES) -> list[int]:
    """A part of `steps`, in their order, that fails and of which no single step can be left out.

    What is left out goes in ever smaller pieces; after `tries` runs, what is left then is the answer.
    """
    kept, size = list(steps), max(len(steps) // 2, 1)
    while kept:
        start, was = 0, len(kept)
        while start < len(kept):
            if tries == 0:
                return kept
            tries -= 1
            without = kept[:start] + kept[start + size :]
            if still_fails(without):
                kept = without
            else:
                start += size
        if size == 1 and len(kept) == was:
            return kept
        size = max(size // 2, 1)
    return kept
