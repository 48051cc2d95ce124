"""Paging sees every session that lives throughout exactly once, and a page costs what it holds, whatever else lives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.engine.errors import InvalidSetting
from lastseen.engine.session import Session
from lastseen.projections import listing, live_view, session_walk, shards
from lastseen.projections.listing import Listing, Sort
from lastseen.projections.live_view import LiveView, Page
from lastseen.projections.prefix_index import PrefixIndex
from lastseen.projections.shards import Shards
from tests.properties.test_eviction_order import LONG_MS, STEPS, Crowd
from tests.properties.test_tenant_index import Counted, full, view_of

SORTS: list[Sort] = ["lru", "deadline", "created"]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few sessions take many steps, shards and runs."""
    for module, name, value in (
        (shards, "FEW", 3), (session_walk, "STEP", 3), (session_walk, "INDEXED_AT_A_TIME", 2), (listing, "RUN", 3),
        (live_view, "SHOWN_AT_A_TIME", 2),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


def say_something(crowd: Crowd, draw: random.Random) -> None:
    name = draw.choice(STEPS)
    if name == "time":
        crowd.now_ms += draw.choice([1, 500, 5_000])
        return
    data: dict[str, Any] = {}
    if name == "held":
        data = {"holder": "job", "lease_ms": LONG_MS}
    elif name == "closed":
        data = {"reason": "deleted"}
    crowd.say(name, draw.randrange(24), **data)


def live(crowd: Crowd, **wanted: Any) -> set[str]:
    """The naive answer: a scan of everything."""
    found = (each for part in crowd.partitions for each in part.by_id.values() if not each.is_due(crowd.now_ms))
    return {each.session_id for each in found if fits(each, **wanted)}


def fits(session: Session, prefix: str = "", status: str | None = None) -> bool:
    return session.key.startswith(prefix) and status in (None, session.status.value)


@given(
    seed=st.integers(0, 2**48), sort=st.sampled_from(SORTS), limit=st.integers(1, 5),
    status=st.sampled_from([None, "active", "suspended"]), prefix=st.sampled_from(["", "1", "2"]),
    registered=st.booleans(),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_what_lives_throughout_is_seen_exactly_once(
    seed: int, sort: Sort, limit: int, status: str | None, prefix: str, registered: bool
) -> None:
    draw = random.Random(seed)
    crowd = Crowd(draw.choice([1, 3]), most=10**6)
    for _ in range(draw.randrange(120)):
        say_something(crowd, draw)
    if registered:
        crowd.view.register(["1"])
    throughout, seen, cursor = live(crowd, prefix=prefix, status=status), Counter[str](), None
    first = [each.session_id for each in in_order(crowd, sort) if each.session_id in throughout]
    while True:
        page: Page = crowd.view.list(
            crowd.now_ms, sort=sort, status=status, prefix=prefix, limit=limit, cursor=cursor
        )  # fmt: skip
        again = crowd.view.list(crowd.now_ms, sort=sort, status=status, prefix=prefix, limit=limit, cursor=cursor)
        assert ids(again) == ids(page), "a page that is fetched again is the same"
        seen.update(ids(page))
        if (cursor := page.cursor) is None:
            break
        for _ in range(draw.randrange(9)):
            say_something(crowd, draw)
            throughout &= live(crowd, prefix=prefix, status=status)
    assert {each: seen[each] for each in throughout} == dict.fromkeys(throughout, 1)
    assert max(seen.values(), default=1) == 1, "nor is any other seen twice"
    assert [each for each in seen if each in throughout] == [each for each in first if each in throughout]


def ids(page: Page) -> list[str]:
    return [each.session_id for each in page.sessions]


def in_order(crowd: Crowd, sort: Sort) -> list[Session]:
    at, tie = listing._SORTED_BY[sort]
    rows = [((at(each), part.number, tie(each)), each) for part in crowd.partitions for each in part.by_id.values()]
    return [session for _, session in sorted(rows, key=lambda row: row[0])]


@given(seed=st.integers(0, 2**48), sort=st.sampled_from(SORTS))
@settings(max_examples=60, deadline=None)
def test_without_the_kept_order_nothing_is_missed_that_only_moves_later(seed: int, sort: Sort) -> None:
    """As after a restart. What was used since the first page may be seen again, at its new place."""
    draw = random.Random(seed)
    crowd = Crowd(2, most=10**6)
    for _ in range(100):
        say_something(crowd, draw)
    throughout, cursor = live(crowd), None
    seen: list[str] = []
    while True:
        page: Page = crowd.view.list(crowd.now_ms, sort=sort, limit=3, cursor=cursor)
        seen += ids(page)
        if (cursor := page.cursor) is None:
            break
        crowd.view._listings._kept.clear()
        crowd.say("touched", draw.randrange(24))
        crowd.say("closed", draw.randrange(24), reason="deleted")
        throughout &= live(crowd)
    assert throughout <= set(seen)


def test_a_cursor_of_another_listing_is_refused() -> None:
    view = view_of(full(9))
    cursor = view.list(0, limit=2).cursor
    assert view.list(0, limit=5, cursor=cursor).sessions, "the size of pages may change"
    for other in ({"sort": "created"}, {"prefix": "b:"}, {"status": "active"}, {"owner": "u1"}):
        with pytest.raises(InvalidSetting, match="another sort, status, prefix or owner"):
            view.list(0, cursor=cursor, **other)  # type: ignore[arg-type]


# ── work and memory ──


@pytest.mark.parametrize("sort", SORTS)
def test_a_page_after_the_first_looks_at_its_own_sessions(monkeypatch: pytest.MonkeyPatch, sort: Sort) -> None:
    """All of N sessions in pages of N / 16: each is looked at twice, not once a page."""
    monkeypatch.setattr(listing, "RUN", 64)
    looks = {}
    for count in (256, 1_024):
        looks[count] = 0
        view = view_of(full(count))
        for place_and_session in looks_at(view, monkeypatch, sort, count // 16):
            looks[count] += place_and_session
    assert looks[256] <= 256 * 2 + 17, "once to sort it, once to show it"
    assert looks[1_024] <= 4 * looks[256]


def looks_at(view: LiveView, monkeypatch: pytest.MonkeyPatch, sort: Sort, limit: int) -> Iterator[int]:
    """How many sessions each page is made from."""
    made, shown = [0], [0]
    after, add = Listing.after, Listing._add

    def counted(self: Listing, place: Any) -> Iterator[Any]:
        for row in after(self, place):
            shown[0] += 1
            yield row

    def counted_add(self: Listing, number: int, sessions: Any, sort: Sort) -> None:
        made[0] += len(sessions)
        add(self, number, sessions, sort)

    with monkeypatch.context() as patched:
        patched.setattr(Listing, "after", counted)
        patched.setattr(Listing, "_add", counted_add)
        cursor, pages = None, []
        while True:
            page = view.list(0, sort=sort, limit=limit, cursor=cursor)
            pages.append(made[0] + shown[0])
            made[0] = shown[0] = 0
            if (cursor := page.cursor) is None:
                break
    assert len(pages) == 16
    yield from pages


def test_kept_orders_are_bounded_and_do_not_keep_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(full(50))
    monkeypatch.setattr(listing, "MAX_LISTINGS", 4)
    cursors = [view.list(0, limit=2).cursor for _ in range(9)]
    assert len(view._listings) == 4
    assert ids(view.list(0, limit=2, cursor=cursors[0])) == ids(view.list(0, limit=2, cursor=cursors[-1]))
    monkeypatch.setattr(listing, "MAX_KEPT", 120)
    view.list(0, limit=2)
    assert len(view._listings) == 2
    view.forget_listings(listing.KEPT_MS - 1)
    assert len(view._listings) == 2
    view.forget_listings(listing.KEPT_MS)
    assert len(view._listings) == 0


def test_no_hold_of_the_lock_depends_on_how_many_live() -> None:
    """More sessions take the lock more often, not longer (256 shards are always looked at)."""
    times = {}
    for count in (1_000, 4_000):
        lock = Counted()
        view = view_of(full(count), lock)
        view.list(0, limit=10)
        view.count(0)
        view.unused_since(10**15)
        view.register([f"b:{number}" for number in range(count)])
        times[count] = lock.times
    assert times[4_000] >= 2.5 * times[1_000]


def test_registering_prefixes_costs_a_look_at_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one call or one at a time: no prefix is looked at again for each that follows."""
    looked_at = [0]

    class Length(str):
        __slots__ = ()

        def __len__(self) -> int:
            looked_at[0] += 1
            return super().__len__()

    for count in (200, 800):
        looked_at[0] = 0
        index = PrefixIndex()
        for number in range(count):
            index.register(Length(f"tenant{number:04d}:"))
        assert looked_at[0] <= 3 * count


# ── shards ──


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "get", "again"]), st.integers(0, 40)), max_size=200))
def test_shards_are_a_dictionary(steps: list[tuple[str, int]]) -> None:
    model: dict[str, Any] = {}
    sharded: Any = Shards()
    for step, number in steps:
        text = f"id-{number}"
        if step == "put":
            model[text] = sharded[text] = object()
        elif step == "drop":
            assert sharded.pop(text, None) is model.pop(text, None)
        elif step == "again":
            sharded = Shards(dict(sharded))
        assert sharded.get(text) is model.get(text)
        assert (text in sharded) == (text in model)
        assert len(sharded) == len(model)
        assert dict(sharded) == model
        assert {key for part in sharded.parts() for key in part} == model.keys()


def test_a_reader_sees_each_that_stays_once_while_others_come_and_go() -> None:
    view = view_of(full(60))
    partition = view.partitions[0]
    staying = dict(partition.by_id)
    walk, seen = view.walk.sessions(), Counter[str]()
    for _ in range(20):
        seen[next(walk)[1].session_id] += 1
    victim = next(each for each in partition.by_id.values() if each.session_id not in seen)
    partition._end(victim, "deleted", 0, 10_000)
    del staying[victim.session_id]
    seen.update(session.session_id for _, session in walk)
    assert {each: seen[each] for each in staying} == dict.fromkeys(staying, 1)
