"""One seed for everything: what the engine would draw from the operating system comes from the history's generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace

from lastseen.engine import codec, identifiers


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Ids are drawn from `seed` within the block, and the codec remembers nothing of another history."""
    real, remembered = identifiers.os, codec._remembered
    identifiers.os = SimpleNamespace(urandom=Random(seed).randbytes)  # type: ignore[attr-defined]
    identifiers._random.forget()
    try:
        yield
    finally:
        identifiers.os = real  # type: ignore[attr-defined]
        identifiers._random.forget()
        codec._remembered = remembered


@contextmanager
def process(remembered: dict[bytes, object]) -> Iterator[None]:
    """What one process remembers of its own events is unknown to the others."""
    before, codec._remembered = codec._remembered, remembered  # type: ignore[assignment]
    try:
        yield
    finally:
        codec._remembered = before
