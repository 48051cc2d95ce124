"""`projections.deadlines` against a scan of every session: all that is due, soonest first, none early, little work."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lastseen.engine import events, lifecycle
from lastseen.engine.session import Policy, Session
from lastseen.projections import deadlines
from lastseen.projections.deadlines import Deadlines

START_MS = 1_700_000_000_000
MIN = 60_000
DAY = 86_400_000
# On both sides of every bucket width, and at them.
SPANS = st.sampled_from(
    [1, 2, 900, 1023, 1024, 1025, 2047, 65_535, 65_536, 65_537, 200_000, 1 << 22, (1 << 22) + 1, 1 << 27, 90 * DAY]
) | st.integers(1, 5_000)
LIMITS = st.none() | SPANS


class Wheel:
    """A wheel, the sessions that are live, and a count of how many were looked at."""

    def __init__(self) -> None:
        self.live: list[Session] = []
        self.looks = 0
        self.deadlines = Deadlines(self._is_live)

    def _is_live(self, session: Session) -> bool:
        self.looks += 1
        return any(each is session for each in self.live)

    def admit(self, number: int, at_ms: int, policy: Policy) -> Session:
        data = events.CreatedData(session_id=f"session-{number:014d}", policy=policy)
        event = events.Created(id="e", source="/s", subject=f"key-{number}", time="2026-01-31T12:00:00Z", data=data)
        session = lifecycle.begin(event, at_ms, offset=number)
        self.live.append(session)
        self.deadlines.file(session, at_ms)
        return session

    def scan(self) -> list[tuple[int, int, str]]:
        """Every live session with a deadline, soonest first."""
        due = [(s.deadline_ms(), s.born_offset, s.session_id) for s in self.live]
        return sorted((at_ms, born, name) for at_ms, born, name in due if at_ms is not None)


class DeadlinesBesideAScan(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.wheel = Wheel()
        self.now_ms = START_MS
        self.born = 0

    def pick(self, data: st.DataObject) -> Session:
        return data.draw(st.sampled_from(self.wheel.live))

    @rule(idle=LIMITS, age=LIMITS, suspended=LIMITS, late=st.integers(0, 3_000))
    def begin(self, idle: int | None, age: int | None, suspended: int | None, late: int) -> None:
        """`late`: the log's clock is behind the one that looks at the wheel."""
        self.born += 1
        policy = Policy(idle_ttl_ms=idle, max_age_ms=age, suspend_ttl_ms=suspended)
        self.wheel.admit(self.born, self.now_ms - late, policy)

    @precondition(lambda self: self.wheel.live)
    @rule(data=st.data(), ahead=st.integers(-1_000, 70_000))
    def touch(self, data: st.DataObject, ahead: int) -> None:
        """The wheel does not learn of it."""
        session = self.pick(data)
        if session.suspended_at_ms is None:
            session.last_active_at_ms = max(session.last_active_at_ms, self.now_ms + ahead)

    @precondition(lambda self: self.wheel.live)
    @rule(data=st.data(), idle=LIMITS)
    def change_limits(self, data: st.DataObject, idle: int | None) -> None:
        session = self.pick(data)
        session.policy = Policy(idle_ttl_ms=idle, max_age_ms=session.policy.max_age_ms, suspend_ttl_ms=idle)
        self.wheel.deadlines.file(session, self.now_ms)

    @precondition(lambda self: self.wheel.live)
    @rule(data=st.data(), leases=st.dictionaries(st.sampled_from("ab"), SPANS, max_size=2))
    def hold_or_release(self, data: st.DataObject, leases: dict[str, int]) -> None:
        session = self.pick(data)
        session.leases = {holder: self.now_ms + span for holder, span in leases.items()} or None
        self.wheel.deadlines.file(session, self.now_ms)

    @precondition(lambda self: self.wheel.live)
    @rule(data=st.data())
    def suspend_or_resume(self, data: st.DataObject) -> None:
        session = self.pick(data)
        if session.suspended_at_ms is None:
            session.suspended_at_ms = self.now_ms
        else:
            session.suspended_ms += self.now_ms - session.suspended_at_ms
            session.suspended_at_ms = None
        self.wheel.deadlines.file(session, self.now_ms)

    @precondition(lambda self: self.wheel.live)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        session = self.pick(data)
        self.wheel.live = [each for each in self.wheel.live if each is not session]

    @rule(by_ms=SPANS | st.integers(-2_000, 0))
    def let_time_pass(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule()
    def wait_for_the_next(self) -> None:
        next_ms = self.wheel.deadlines.next_ms()
        if next_ms is not None:
            self.now_ms = max(self.now_ms, next_ms)

    @rule(limit=st.integers(1, 4) | st.just(1_000), then_end=st.booleans())
    def report(self, limit: int, then_end: bool) -> None:
        expected = [name for at_ms, _, name in self.wheel.scan() if at_ms <= self.now_ms][:limit]
        found = self.wheel.deadlines.due(self.now_ms, limit)
        assert [session.session_id for session in found] == expected
        if then_end:
            self.wheel.live = [s for s in self.wheel.live if s.session_id not in expected]

    @rule(limit=st.integers(1, 3))
    def open_some(self, limit: int) -> None:
        before = self.waiting()
        is_done = self.wheel.deadlines.open(self.now_ms, limit)
        assert before - self.waiting() == min(before, limit)
        assert is_done == (before <= limit)

    def waiting(self) -> int:
        """How much is in buckets whose time has come."""
        buckets = self.wheel.deadlines._buckets
        return sum(len(bucket) for start_ms, bucket in buckets.items() if start_ms <= self.now_ms)

    @rule()
    def sweep(self) -> None:
        """As many filings do, a little with each."""
        wheel = self.wheel.deadlines
        wheel._begin_sweep()
        while wheel._is_sweeping:
            wheel._sweep(3)
        for start_ms, bucket in wheel._buckets.items():
            assert all(each.wake_ms == start_ms and self.wheel._is_live(each) for each in bucket)
            assert len({id(each) for each in bucket}) == len(bucket)

    @rule(looks=st.integers(1, 5))
    def sweep_some(self, looks: int) -> None:
        if self.wheel.deadlines._is_sweeping:
            self.wheel.deadlines._sweep(looks)
        else:
            self.wheel.deadlines._begin_sweep()

    @rule()
    def list_all_due(self) -> None:
        wheel = self.wheel.deadlines
        wheel.open(self.now_ms)
        listed = {each.session_id for each in wheel.all_due(self.now_ms)}
        assert {name for at_ms, _, name in self.wheel.scan() if at_ms <= self.now_ms} <= listed

    @rule()
    def wakes_in_time(self) -> None:
        # No invariant: to ask is to put back what was reported, and `due` must do so by itself.
        scan = self.wheel.scan()
        next_ms = self.wheel.deadlines.next_ms()
        assert not scan or (next_ms is not None and next_ms <= scan[0][0])

    @invariant()
    def counts_what_it_keeps(self) -> None:
        wheel = self.wheel.deadlines
        in_buckets = sum(len(bucket) for bucket in wheel._buckets.values())
        assert len(wheel) == len(wheel._imminent) + len(wheel._reported) + in_buckets


TestDeadlinesBesideAScan = DeadlinesBesideAScan.TestCase
TestDeadlinesBesideAScan.settings = settings(max_examples=150, stateful_step_count=50)


def test_a_session_touched_at_the_last_moment_comes_after_one_that_was_not() -> None:
    wheel = Wheel()
    touched = wheel.admit(1, START_MS, Policy(idle_ttl_ms=2_000))
    untouched = wheel.admit(2, START_MS, Policy(idle_ttl_ms=2_300))
    assert wheel.deadlines.due(START_MS + 1_900, 9) == []
    touched.last_active_at_ms = START_MS + 1_900
    assert wheel.deadlines.due(START_MS + 4_000, 9) == [untouched, touched]


# ── work ──


def test_a_touch_costs_no_filing_and_a_sweep_looks_at_few() -> None:
    """300 sessions, each touched every 10 s for 3 hours, the wheel asked every second: a few looks an idle limit."""
    wheel = Wheel()
    sessions = [wheel.admit(n, START_MS + 37 * n, Policy(idle_ttl_ms=30 * MIN)) for n in range(300)]
    for second in range(3 * 3600):
        now_ms = START_MS + 12_000 + 1_000 * second
        assert wheel.deadlines.due(now_ms, 100) == []
        if second % 10 == 0:
            for session in sessions:
                session.last_active_at_ms = now_ms
            assert len(wheel.deadlines) == 300
    # Seven idle limits' worth: the deadline is looked at once near its end, and filed anew.
    assert wheel.looks <= 2 * 7 * 300
    assert wheel.looks >= 300


@pytest.mark.parametrize("ttl_ms", [30 * MIN, 4 * 60 * MIN, 90 * DAY])
def test_an_untouched_session_is_looked_at_a_few_times_and_reported_to_the_millisecond(ttl_ms: int) -> None:
    wheel = Wheel()
    session = wheel.admit(1, START_MS, Policy(idle_ttl_ms=ttl_ms))
    now_ms, steps = START_MS, 0
    while not wheel.deadlines.due(now_ms, 1):
        next_ms = wheel.deadlines.next_ms()
        assert next_ms is not None
        assert next_ms > now_ms, "a sleeper that sleeps until the next deadline must not spin"
        now_ms, steps = next_ms, steps + 1
    assert now_ms == session.deadline_ms()
    assert steps <= 2 * len(deadlines.WIDTHS_MS)


def test_months_of_deadlines_need_few_buckets() -> None:
    wheel = Wheel()
    for n in range(10_000):
        wheel.admit(n, START_MS, Policy(idle_ttl_ms=(n + 1) * 90 * DAY // 10_000))
    assert len(wheel.deadlines._buckets) <= 64 + 64 + 32 + 60


def test_nothing_due_costs_no_look() -> None:
    wheel = Wheel()
    for n in range(1_000):
        wheel.admit(n, START_MS, Policy(idle_ttl_ms=30 * MIN))
    for second in range(1_000):
        wheel.deadlines.due(START_MS + second, 10)
    assert wheel.looks == 0


def test_the_ended_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that are closed at once, with deadlines months off, leave memory long before."""
    monkeypatch.setattr(deadlines, "FEW_FILINGS", 100)
    wheel = Wheel()
    stays = wheel.admit(0, START_MS, Policy(idle_ttl_ms=90 * DAY))
    for n in range(1, 5_000):
        wheel.admit(n, START_MS + n, Policy(idle_ttl_ms=90 * DAY))
        wheel.live = [stays]
        # A quarter as many are filed while the others are swept: four with each new one.
        assert len(wheel.deadlines) <= 260
    assert wheel.deadlines.due(START_MS + 90 * DAY, 9) == [stays]
    assert wheel.looks <= 2 * 5_000


def test_a_reported_session_that_lives_on_is_still_next() -> None:
    wheel = Wheel()
    wheel.admit(1, START_MS, Policy(idle_ttl_ms=2_000))
    assert len(wheel.deadlines.due(START_MS + 2_000, 9)) == 1
    assert wheel.deadlines.next_ms() == START_MS + 2_000
    assert len(wheel.deadlines.due(START_MS + 2_000, 9)) == 1
    wheel.live = []
    assert wheel.deadlines.next_ms() is None
    assert len(wheel.deadlines) == 0


def test_a_session_filed_twice_under_one_time_is_reported_once() -> None:
    """Its limit was shortened after it was looked at far ahead, and lengthened again to what it was."""
    wheel = Wheel()
    session = wheel.admit(1, START_MS, Policy(idle_ttl_ms=30 * MIN))
    assert wheel.deadlines.due(START_MS + DAY, 9) == [session]
    for limit_min in (5, 30):
        session.policy = Policy(idle_ttl_ms=limit_min * MIN)
        wheel.deadlines.file(session, START_MS)

    assert wheel.deadlines.due(START_MS + DAY, 9) == [session]
    assert wheel.deadlines.due(START_MS + DAY, 9) == [session], "nor later"
