"""An offset that the log marks as no record of its own right is void, whatever bytes stand there."""

from __future__ import annotations

import pytest

from lastseen.engine import codec
from lastseen.engine.log.port import Mark
from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from tests.specs.given import KEY, A, S, given

IDLE = Policy(idle_ttl_ms=10 * S)
MARKED = {
    Mark.CONTROL: Verdict.CONTROL, Mark.TRANSACTIONAL: Verdict.TRANSACTIONAL, Mark.UNREADABLE: Verdict.MALFORMED,
}  # fmt: skip


def a_good_event() -> bytes:
    record = given().created(A).touched().outcome.record
    assert record.value is not None
    assert not isinstance(codec.decode(KEY, record.value), Verdict)
    return record.value


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.parametrize("value", [None, b"", b"rubbish", a_good_event()])
def test_a_marked_offset_has_its_verdict_whatever_stands_there(
    mark: Mark, key: str | None, value: bytes | None
) -> None:
    history = given().created(A, policy=IDLE).when.recorded(value, key, mark).then(MARKED[mark]).nothing_changed()
    assert history.outcome.event is None
    assert history.outcome.at_ms == 0
    history.touched().then()


@pytest.mark.parametrize("mark", Mark)
def test_a_marked_offset_does_not_settle(mark: Mark) -> None:
    history = given().created(A, policy=IDLE).at(20 * S).when.recorded(a_good_event(), KEY, mark)
    history.then(MARKED[mark]).nothing_changed().is_live(A, 1)


@pytest.mark.parametrize("mark", Mark)
def test_a_marked_first_offset_begins_nothing(mark: Mark) -> None:
    history = given().recorded(given().created(A).outcome.record.value, KEY, mark)
    history.then(MARKED[mark]).is_gone()


def test_the_mark_is_part_of_the_digest() -> None:
    digests = {given().recorded(None, None, mark).partition.digest for mark in (None, Mark.CONTROL, Mark.TRANSACTIONAL)}
    assert len(digests) == 3
