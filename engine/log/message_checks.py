"""What every log checks of a batch before it takes any of it, so that a bad message affects its sender only."""

from __future__ import annotations

from collections.abc import Sequence

from lastseen.engine.errors import InvalidInput, shown
from lastseen.engine.log.port import Message


def checked_size(messages: Sequence[Message], partitions: int) -> int:
    """The bytes that the messages' values hold.

    Raises `InvalidInput` where a message is for a partition that a log of so many has not, where its key cannot be
    stored as UTF-8, or where its value is not bytes.
    """
    size = 0
    for partition, key, value in messages:
        if not 0 <= partition < partitions:
            raise InvalidInput(
                f"a message is for partition {partition}, and the log has {partitions}, numbered from 0: choose one"
            )
        if not key.isascii():
            try:
                key.encode()
            except UnicodeEncodeError:
                raise InvalidInput(
                    f"the key {shown(key)} cannot be stored as UTF-8: remove unpaired surrogates"
                ) from None
        if not isinstance(value, bytes):
            raise InvalidInput(f"the value under the key {shown(key)} is a {type(value).__name__}: give bytes")
        size += len(value)
    return size
