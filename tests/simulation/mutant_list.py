"""Plausible bugs, each one small change of one source file. The text that is replaced stands there exactly once."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One bug."""

    name: str
    module: str
    old: str
    new: str
    kills: int | str
    """The invariant that must notice, or the tests."""


SESSION, LIFECYCLE, PARTITION = "lastseen.engine.session", "lastseen.engine.lifecycle", "lastseen.projections.partition"
SNAPSHOT, PUBLISHER, PRUNER = (
    "lastseen.projections.snapshot",
    "lastseen.projections.publisher",
    "lastseen.projections.pruner",
)
FOLLOWER, DEADLINES, LOOP = (
    "lastseen.projections.follower",
    "lastseen.projections.deadlines",
    "lastseen.engine.session_engine",
)
TAIL = "lastseen.projections.facts_tail"
FOLD_TESTS = "tests/properties/test_fold.py"
TAIL_TESTS, PUBLISHER_TESTS = "tests/properties/test_facts_tail.py", "tests/properties/test_publisher.py"
OWN_TOUCH_TESTS = "tests/properties/test_own_touches.py"
TOUCH_TESTS, OWN_TESTS = "tests/properties/test_plain_touch.py", "tests/properties/test_own_events.py"

# fmt: off
MUTANTS = (
    # ── time ──
    Mutant("a session ends a millisecond early", PARTITION,
           "if due_ms is not None and at_ms >= due_ms:", "if due_ms is not None and at_ms >= due_ms - 1:", 5),
    Mutant("`>` for `>=` at the deadline", PARTITION,
           "if due_ms is not None and at_ms >= due_ms:", "if due_ms is not None and at_ms > due_ms:", 6),
    Mutant("a read shows a session at its deadline", SESSION,
           "return due is not None and at_ms >= due", "return due is not None and at_ms > due", 6),
    Mutant("the wall clock in the fold", PARTITION,
           "at_ms = sent_at_ms if imports else timestamp_ms",
           "at_ms = sent_at_ms if imports else __import__('time').time_ns() // 1_000_000", 13),
    Mutant("the producer's clock in the fold", PARTITION,
           "at_ms = sent_at_ms if imports else timestamp_ms", "at_ms = sent_at_ms", 1),
    Mutant("a jumping clock is believed", LIFECYCLE,
           "return -MAX_AHEAD_MS <= at_ms - sent_at_ms <= MAX_BEHIND_MS",
           "return at_ms - sent_at_ms <= MAX_BEHIND_MS", 16),
    Mutant("activity moves back with the log's clock", LIFECYCLE, "if at_ms > last_active_at_ms:", "if at_ms:", 5),
    Mutant("activity with attributes moves back with the log's clock", LIFECYCLE,
           "if at_ms > session.last_active_at_ms:", "if at_ms:", FOLD_TESTS),
    Mutant("touch precision is forgotten in the deadline", SESSION,
           "self.last_active_at_ms + policy.idle_ttl_ms + policy.touch_precision_ms",
           "self.last_active_at_ms + policy.idle_ttl_ms", 5),
    Mutant("time spent suspended ages a session", LIFECYCLE,
           "session.suspended_ms += max(at_ms - suspended_at_ms, 0)", "session.suspended_ms += 0", 5),
    # ── verdicts ──
    Mutant("a hold is ignored", SESSION, "if self.leases:", "if self.leases and policy.max_age_ms is not None:", 10),
    Mutant("a lapsed lease protects, a live one does not", LIFECYCLE,
           "lambda session, event, at_ms, ids: any(until_ms > at_ms for until_ms in _leases(session).values()),",
           "lambda session, event, at_ms, ids: any(until_ms <= at_ms for until_ms in _leases(session).values()),", 10),
    Mutant("a suspended session is evicted", LIFECYCLE,
           '"expired (capacity, memory)", ENDED, Verdict.SUSPENDED,',
           '"expired (capacity, memory)", ENDED, ENDED,', 10),
    Mutant("a suspended session keeps its leases", LIFECYCLE,
           "session.suspended_at_ms = at_ms\n    session.leases = None", "session.suspended_at_ms = at_ms", 14),
    Mutant("a stale id is accepted", LIFECYCLE,
           "if session.session_id != named:\n        return Verdict.STALE_SESSION",
           "if False:\n        return Verdict.ENDED", 1),
    Mutant("an id may be used again once its session has ended", PARTITION,
           "return session_id in self.by_id or session_id in self.endings", "return session_id in self.by_id", 11),
    Mutant("a second session begins under a key", LIFECYCLE,
           "return Verdict.EXISTS if session is not None else _guarded(rule, None, event, at_ms, ids)",
           "return _guarded(rule, None, event, at_ms, ids)", 8),
    Mutant("if_version is ignored", LIFECYCLE,
           "if data.if_version is not None and data.if_version != session.version:", "if False:", 1),
    Mutant("a seventeenth holder", LIFECYCLE, ">= MAX_HOLDERS", "> MAX_HOLDERS", 1),
    Mutant("an ended session stays under its key", PARTITION,
           "if self.active.pop(session.key) is None and", "if self.active.get(session.key) is None and", 7),
    Mutant("an event under another record key is taken", "lastseen.engine.codec",
           "return plain if plain[0].subject == key else Verdict.MALFORMED", "return plain", 12),
    Mutant("a record of a transaction takes effect", PARTITION,
           "decode(key, value) if mark is None else", "decode(key, value) if mark is not Mark.CONTROL else", 12),
    Mutant("a record in the wrong partition takes effect", PARTITION,
           "return partitions > 1 and partition_of(key, partitions) != self.number", "return False", 12),
    Mutant("a log may be opened for import later", PARTITION,
           "if offset != 0 or data.partition != self.number or", "if data.partition != self.number or", 1),
    Mutant("max_hold is ignored", LIFECYCLE,
           "lease_ms = min(lease_ms, session.policy.max_hold_ms)", "lease_ms = max(lease_ms, 1)", 14),
    # ── order and deadlines ──
    Mutant("a touch does not move a session in the LRU order", PARTITION,
           "self.active.move_to_end(session.key)", "session.key", 9),
    Mutant("a plain touch does not move its session in the LRU order", PARTITION,
           "            part.move_to_end(key)\n            return", "            return", 9),
    Mutant("a plain touch revives a session that is due", LIFECYCLE,
           "at_ms < session.last_active_at_ms + policy.idle_ttl_ms)",
           "at_ms <= session.last_active_at_ms + policy.idle_ttl_ms)", 6),
    Mutant("a plain touch of another session is taken for one of this", LIFECYCLE,
           "if session.session_id != session_id or not is_far_from_due(session, at_ms):",
           "if not is_far_from_due(session, at_ms):", 7),
    Mutant("a shortened deadline is not filed", DEADLINES,
           "elif session.wake_ms is None or due_ms < session.wake_ms:", "elif session.wake_ms is None:", 17),
    Mutant("new limits are not filed", PARTITION,
           "                self.deadlines.file(session, at_ms)\n            return verdict, session, settled, ending",
           "                pass\n            return verdict, session, settled, ending", 17),
    Mutant("one session too many is kept", PRUNER,
           "len(plan.due) - self._max_sessions", "len(plan.due) - self._max_sessions - 1", 9),
    Mutant("the pruner plans to end held sessions", SESSION,
           "return self.leases is not None and any(", "return False and any(", 9),
    Mutant("a session that is released is still spared by the pruner", PARTITION,
           "            self.set_aside.refile(session)", "            pass", "tests/properties/test_eviction_order.py"),
    Mutant("a pruner keeps quiet until its clock is back where it was", PRUNER,
           "if 0 <= now_ms - at_ms < RETRY_MS}", "if now_ms - at_ms < RETRY_MS}", 17),
    Mutant("the wheel looks at a session one bucket too late", DEADLINES,
           "start_ms = due_ms & -width_ms", "start_ms = (due_ms & -width_ms) + width_ms", 17),
    # ── snapshot ──
    Mutant("deadlines are forgotten on restore", PARTITION,
           "self.deadlines.file(session, session.last_active_at_ms)", "session.key", 17),
    Mutant("leases are forgotten on restore", SNAPSHOT, "                row.leases,", "                None,", 4),
    Mutant("time spent suspended is forgotten on restore", SNAPSHOT,
           "                row.suspended_ms,", "                0,", 4),
    Mutant("the LRU order is forgotten on restore", PARTITION,
           "in_lru_order = sorted(sessions, key=last_active_offset)",
           "in_lru_order = list(sessions)", 4),
    Mutant("endings are forgotten on restore", SNAPSHOT,
           "partition.endings = Endings(endings, stored.endings_total)",
           "partition.endings = Endings((), stored.endings_total)", 4),
    Mutant("the digest is forgotten on restore", PARTITION,
           "self.checkpoint, self.digest = checkpoint, digest", "self.checkpoint = checkpoint", 3),
    Mutant("what a full disk refused is not written later", SNAPSHOT,
           "self._changed, self._gone, self._ended = taken.changed, taken.gone, taken.endings", "pass", 4),
    Mutant("the history gives an end to earlier sessions too", "lastseen.projections.history",
           "WHERE key = ? AND began_offset = ?\"", "WHERE key = ? AND began_offset <= ?\"", 2),
    # ── facts ──
    Mutant("a fact shows the session as it is later", "lastseen.projections.facts",
           "copy = None if session is None else session.__copy__()", "copy = session", 14),
    Mutant("the outbox is forgotten on restore", SNAPSHOT,
           "self._outbox.restore(partition.number, stored.outbox_floor, stored.published or 0, entries)",
           "self._outbox.restore(partition.number, stored.outbox_floor, stored.published or 0, [])", 14),
    Mutant("a new owner begins after the last fact", PUBLISHER,
           "return self._outbox.published[number] if place is None else place",
           "return self._outbox.published[number] if place is None else place + 1", PUBLISHER_TESTS),
    Mutant("a new owner believes whatever says that it is a fact", TAIL,
           "return same_place and entry.facts[self.id.k] == (self.record.key, self.record.value)",
           "return True", 14),
    Mutant("a new owner believes a fact without a look at its record", TAIL,
           "            if offset >= checkpoint:\n",
           "            if not effects:\n                return TailFound(offset, None, [])\n"
           "            if offset >= checkpoint:\n", 14),
    Mutant("where no fact is believed, all before the outbox counts as published", PUBLISHER,
           "return self._outbox.published[number] if place", "return self._outbox.floors[number] if place", 14),
    Mutant("a follower drops what a stranger says is published", PUBLISHER,
           "            place = self._tail.look(number).place\n",
           "            place = max((c.id.offset for c in self._tail._claims(number)), default=None)\n", 14),
    Mutant("overwritten states are not repaired", PUBLISHER, "        self._repair_states(number)\n", "", 14),
    Mutant("an owner that is behind writes old states over newer ones", PUBLISHER,
           "if found.ahead is not None and number not in self._awaited:", "if False:", TAIL_TESTS),
    Mutant("a new owner waits for whatever strangers forge", PUBLISHER,
           "if found.ahead is not None and number not in self._awaited:", "if found.ahead is not None:", TAIL_TESTS),
    Mutant("facts count as published although the brokers did not answer", PUBLISHER,
           "                    self._next.pop(number, None)\n                    raise",
           "                    self._next[number] = self._view.partitions[number].checkpoint\n"
           "                    raise", 14),
    # ── the loop and the log ──
    Mutant("acknowledged before it is committed", LOOP,
           "            self._log.append(messages)\n        else:",
           "            self._log.append_soon(messages)\n        else:", 1),
    Mutant("a void record is answered as if it had taken effect", LOOP,
           "if verdict is Verdict.APPLIED:\n                return answer.session",
           "if verdict is not Verdict.CLOCK_SKEW:\n                return answer.session", 19),
    Mutant("decided again and again although only the clocks disagree", LOOP,
           "if pinned or is_same or verdict is Verdict.CLOCK_SKEW:", "if pinned or verdict is Verdict.CLOCK_SKEW:", 19),
    Mutant("a record in the place of a lost one goes unnoticed", LOOP,
           "    if answer.verdict is None:\n        answer.fail_as_lost()",
           "    if answer.verdict is None:\n        return Verdict.ALREADY", 18),
    Mutant("suspended sessions are not shown", "lastseen.projections.live_view",
           "if session is None or session.is_due(self.reading_ms(partition.number, now_ms)):",
           "if session is None or session.suspended_at_ms or session.is_due(now_ms):",
           15),
    Mutant("a gap is stepped over", FOLLOWER,
           "if record.offset != partition.checkpoint:", "if record.offset < partition.checkpoint:", 18),
    Mutant("a log that got shorter goes unnoticed", FOLLOWER, "if end_offset < delivered[number]:", "if False:", 18),
    Mutant("a snapshot that is ahead of the log is believed", SNAPSHOT,
           "if row.checkpoint > end_offset:", "if row.checkpoint > end_offset + 1_000_000:", 18),
    # ── shortcuts ──
    Mutant("a plain touch may hide control characters", "lastseen.engine.plain_touch",
           "if not (raw.id + raw.source + raw.subject).isprintable() or", "if", TOUCH_TESTS),
    Mutant("an own expiry is remembered with another reason", "lastseen.engine.own_events",
           "data.reason = reason", "data.reason = 'idle'", OWN_TESTS),
    Mutant("an own touch does not move its session in the LRU order", PARTITION,
           "            part.move_to_end(key)\n            own.pop", "            own.pop", 9),
    Mutant("a jumping clock is believed in an own touch", PARTITION,
           "                or not lifecycle.is_fresh(sent_at_ms, at_ms)\n", "", OWN_TOUCH_TESTS),
    Mutant("an own touch takes effect in a stranger's transaction", PARTITION,
           "                or mark is not None\n", "", OWN_TOUCH_TESTS),
    Mutant("an own touch takes effect under another record key", PARTITION,
           "                or key != named\n", "", OWN_TOUCH_TESTS),
    Mutant("an own touch in an import counts at the log's time", PARTITION,
           "if type(first) is not OwnTouch or self.importing:", "if type(first) is not OwnTouch:", OWN_TOUCH_TESTS),
    Mutant("an own touch of another source is counted as the first one's", PARTITION,
           "                or by != source\n", "", OWN_TOUCH_TESTS),
    Mutant("an own touch is not written to the snapshot", SNAPSHOT,
           "        for session in run.sessions:\n            changed[session.born_offset] = session\n", "", 4),
    Mutant("subscribers see an own touch as it is later", "lastseen.projections.facts",
           "return Effect(offset, at_ms, _TOUCHED, None, None, session.__copy__())",
           "return Effect(offset, at_ms, _TOUCHED, None, None, session)", 14),
    Mutant("settling forgets which session it was", LIFECYCLE,
           "was_settled = settled is not None and settled.session_id == named",
           "was_settled = False and named", FOLD_TESTS),
)
# fmt: on

FAST = (
    "a session ends a millisecond early", "`>` for `>=` at the deadline", "the wall clock in the fold",
    "a hold is ignored", "a stale id is accepted", "an id may be used again once its session has ended",
    "deadlines are forgotten on restore", "the digest is forgotten on restore",
    "the outbox is forgotten on restore", "acknowledged before it is committed", "a gap is stepped over",
    "a void record is answered as if it had taken effect",
)  # fmt: skip
"""Those that `make test` tries."""
