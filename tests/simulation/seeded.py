"""One seed for everything: what the engine would draw from the operating system comes from the history's generator, and
real time has no part in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace

from lastseen.engine import codec, identifiers
from lastseen.projections import follower


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Ids are drawn from `seed` within the block, and the codec remembers nothing of another history."""
    real, remembered, held_s = identifiers.os, codec._remembered, follower.HELD_S
    follower.HELD_S = 0  # each look at the time ends a hold of the view's lock
    identifiers.os = SimpleNamespace(urandom=Random(seed).randbytes)  # type: ignore[attr-defined]
    identifiers._random.forget()
    try:
        yield
    finally:
        identifiers.os = real  # type: ignore[attr-defined]
        identifiers._random.forget()
        codec._remembered, follower.HELD_S = remembered, held_s


@contextmanager
def process(remembered: dict[bytes, object]) -> Iterator[None]:
    """What one process remembers of its own events is unknown to the others."""
    before, codec._remembered = codec._remembered, remembered  # type: ignore[assignment]
    try:
        yield
    finally:
        codec._remembered = before
