"""Listings and histories within times: what they leave out, and what they must not."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
from stage import KEY, MIN, T0, Stage

from lastseen import Engine, ManualClock, policy
from lastseen.engine.errors import InvalidSetting

TIMES = (None, T0 - 1, T0, T0 + 1, T0 + 2 * MIN, T0 + 5 * MIN, T0 + 9 * MIN, T0 + 99 * MIN)


def test_live_sessions_are_listed_by_their_last_use(engine: Engine, clock: ManualClock) -> None:
    for count in range(4):
        engine.open(f"k{count}")
        clock.advance(MIN)
    engine.touch("k0")
    used = {session.key: session.last_active_at_ms for session in engine.list().sessions}
    for since_ms, until_ms in product(TIMES, TIMES):
        wanted = [
            key for key, at_ms in used.items()
            if (since_ms is None or at_ms >= since_ms) and (until_ms is None or at_ms < until_ms)
        ]  # fmt: skip
        found: list[str] = []
        cursor = None
        while not found or cursor is not None:
            page = engine.list(since_ms=since_ms, until_ms=until_ms, limit=2, cursor=cursor)
            found += [session.key for session in page.sessions]
            cursor = page.cursor
            if not page.sessions:
                break
        assert found == wanted


def test_records_and_lives_of_a_time(engine: Engine, clock: ManualClock) -> None:
    for owner in ("ana", "bo", "ana"):
        engine.open(KEY, attributes={"owner": owner})
        clock.advance(MIN)
        engine.touch(KEY)
        clock.advance(MIN)
        engine.close(KEY)
        clock.advance(MIN)
    engine.open(KEY, attributes={"owner": "bo"})
    records, lives = engine.history(KEY), engine.session_spans(KEY)
    for since_ms, until_ms in product(TIMES, TIMES):
        assert engine.history(KEY, since_ms=since_ms, until_ms=until_ms) == [
            entry for entry in records
            if (since_ms is None or entry.at_ms >= since_ms) and (until_ms is None or entry.at_ms < until_ms)
        ]  # fmt: skip
        for owner in ("ana", "bo", "cy"):
            assert engine.session_spans(KEY, since_ms=since_ms, until_ms=until_ms, owner=owner) == [
                life for life in lives
                if life.owner == owner
                and (since_ms is None or life.ended_at_ms is None or life.ended_at_ms >= since_ms)
                and (until_ms is None or life.began_at_ms < until_ms)
            ]  # fmt: skip
    assert [entry.offset for entry in engine.history(KEY, after_offset=4, since_ms=T0, limit=2)] == [5, 6]


def test_a_session_that_is_due_had_ended_before_a_later_time(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY, policy=policy(idle_ttl="1m"))
    stage.clock.advance(5 * MIN)  # no record has ended it
    assert engine.session_spans(KEY, since_ms=T0 + 2 * MIN) == []
    assert len(engine.session_spans(KEY, since_ms=T0)) == 1


@pytest.mark.parametrize("at_ms", [1.5, "now", True, 2**63])
def test_what_is_no_time_is_refused(engine: Engine, at_ms: object) -> None:
    for read in (engine.list, engine.ended_sessions, partial(engine.history, KEY), partial(engine.session_spans, KEY)):
        for name in ("since_ms", "until_ms"):
            with pytest.raises(InvalidSetting, match="is no time"):
                read(**{name: at_ms})  # type: ignore[operator]
