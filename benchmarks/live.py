"""A: live operations that do not wait for a disk: the engine, caches in the process, and redis on the same mix."""

from __future__ import annotations

import os
import statistics
from itertools import islice
from pathlib import Path

from benchmarks.live_child import BATCH, Plan
from benchmarks.live_group import Entrant, Found, measured
from benchmarks.measure import Row, Size, at_most, pairs, percentiles, rate, ratio
from benchmarks.mix import Mix, Operation, of_chat
from benchmarks.peers.kinds import KIND, KINDS, Kind
from lastseen.replay.recording import SLICE, read_chat

MIX, TOUCHES, TIMED, BATCHES, CHAT = "single mix", "single touches", "timed mix", f"batch of {BATCH}", "single chat"
SAID = {MIX: "the mix, one by one", TOUCHES: "touches, one by one", BATCHES: f"the mix, by {BATCH}"}
ENGINES = [kind for kind in KINDS if kind.name.startswith("engine")]
REDIS, TTL, FLOOR = "redis, redis-py", "cachetools TTLCache", "OrderedDict"
COMPARED: list[tuple[str, str, float | None]] = [
    (MIX, REDIS, 12), (TOUCHES, REDIS, 12), (BATCHES, REDIS, 2), (MIX, TTL, 0.4), (TOUCHES, TTL, 0.4),
    (MIX, FLOOR, None), (TOUCHES, FLOOR, None),
]  # fmt: skip
"""Which block beside whom, and the least that the ratio is to be."""
CPU = [(MIX, FLOOR), (TOUCHES, FLOOR), (TOUCHES, TTL)]
"""Where CPU time is compared as well: it is what the guard looks at, since a busy machine changes it least."""
CHAT_SESSIONS = 1_000
MANY_ROUNDS = 3
"""With a million sessions: filling takes longest by far."""
NOTES = """
- *The mix* is 90% touches, 5% creates, 3% reads, 1% suspends and resumes, 1% closes, drawn by Zipf's law (0.99) from so
  many sessions, the same for all and before the clock starts. `max_sessions` is that number, so nearly each create ends
  the least recently used session; the idle limit is 30 minutes. *Real chat* is the recording in the repository (or
  `LASTSEEN_CHAT_FILE`) with 1,000 sessions at most: who writes is touched, or created where no session lives.
- Each subject has a process of its own, and they take turns. All of them are filled, and frozen out of the garbage
  collector's sight, before the first round.
- The engine's touches are called with `wait="none"`: checked against the view, encoded and handed to the log, while
  the engine's threads write, fold, prune and flush. *Until all is done* counts until the last of them is in the log, on
  the disk where it has one, and folded. Creates, suspends, resumes and closes have no such way: each is answered with
  its verdict, on SQLite after a flush of the disk, which is most of what the mix takes there.
- *CPU time* is that of the subject's process with all its threads, until all is done. Beside the engine's rate it says
  how much goes on behind the callers; a machine that is busy with other things changes it least, so CI guards it.
- Percentiles are of every single call of rounds of their own, in which each is timed; that costs 0.1 µs a call.

| subject | what it leaves out, or does otherwise |
|---|---|
""" + "\n".join(f"| {kind.name} | {kind.leaves_out} |" for kind in KINDS)


def plan_of(sessions: int, rounds: int, operations: int, blocks: tuple[str, ...]) -> Plan:
    """Blocks of the mix on so many sessions; one round more, which warms up."""
    mix = Mix(sessions)
    drawn: list[dict[str, list[Operation]]] = [{} for _ in range(rounds + 1)]
    for block in blocks:  # as they are done: all rounds of a block before the next block
        for each in drawn:
            each[block] = mix.touches(operations) if block == TOUCHES else mix.operations(operations)
    return Plan(sessions, sessions, drawn)


def plan_of_chat(rounds: int, most_operations: int) -> Plan:
    """A recording, cut into rounds."""
    recording = Path(os.environ.get("LASTSEEN_CHAT_FILE") or SLICE)
    operations = of_chat(islice(read_chat(recording), most_operations * (rounds + 1)), CHAT_SESSIONS)
    each = len(operations) // (rounds + 1)
    cut = [operations[start * each : (start + 1) * each] for start in range(rounds + 1)]
    return Plan(0, CHAT_SESSIONS, [{CHAT: part} for part in cut])


def run(folder: Path, size: Size) -> list[Row]:
    """All rows of section A."""
    operations = 2_000 if size.is_quick else 10_000
    found = beside(
        plan_of(size.middle, size.repetitions, operations, (MIX, TOUCHES, TIMED, BATCHES)), folder / "middle"
    )
    rows = [*found.missing, *_compared(found), *_figures(found, size.middle)]
    if not size.is_quick:
        chat = beside(plan_of_chat(size.repetitions, operations), folder / "chat")
        rows += [_rate(kind, chat.rates[CHAT], "real chat, one by one", CHAT_SESSIONS) for kind in _present(chat, CHAT)]
    rounds = min(size.repetitions, MANY_ROUNDS)
    plans = {
        f"{sessions:,}": plan_of(sessions, rounds, operations, (MIX, TOUCHES, BATCHES))
        for sessions in (size.few, size.many)
    }
    for kind in ENGINES[:1] if size.is_quick else [*ENGINES, KIND[TTL], KIND[FLOOR]]:
        rows += _few_and_many(kind, folder / f"{kind.maker}", plans)
    return rows


def beside(plan: Plan, folder: Path) -> Found:
    """Every kind of subject, put through the same."""
    return measured({kind.name: Entrant(kind, plan) for kind in KINDS}, folder)


def _compared(found: Found) -> list[Row]:
    """The engine against those that it is to be compared with, and against the floor."""
    rows = []
    for engine in ENGINES:
        for block, peer, at_least in COMPARED:
            if peer in found.rates[block] and engine.name in found.rates[block]:
                name = f"{SAID[block]}: {engine.name} / {peer}"
                rows.append(ratio(name, found.rates[block], engine.name, peer, at_least))
        rows += [_cpu(found, block, engine, peer) for block, peer in CPU if peer in found.cpu_us[block]]
    return rows


def _cpu(found: Found, block: str, engine: Kind, peer: str) -> Row:
    """What an operation costs the cores, threads in the background included, in units of what it costs another."""
    spent = found.cpu_us[block]
    costs = pairs(spent, engine.name, peer)
    ours, theirs = (statistics.median(spent[name]) for name in (engine.name, peer))
    return Row(
        f"{SAID[block]}: CPU time of {engine.name} / of {peer}", statistics.median(costs), "×",
        spread=(min(costs), max(costs)), note=f"{ours:.3g} µs against {theirs:.3g} µs",
        samples={name: spent[name] for name in (engine.name, peer)},
    )  # fmt: skip


def _present(found: Found, block: str) -> list[Kind]:
    return [kind for kind in KINDS if kind.name in found.rates.get(block, ())]


def _figures(found: Found, sessions: int) -> list[Row]:
    """What each subject does in a second, and the percentiles of its calls."""
    rows = []
    for block, said in SAID.items():
        for kind in _present(found, block):
            row = _rate(kind, found.rates[block], said, sessions)
            if block == MIX:
                row.percentiles = percentiles(found.samples[kind.name])
            rows.append(row)
            if kind in ENGINES:
                done = _rate(kind, found.settled[block], f"{said}, until all is done", sessions)
                done.plot = ""
                rows.append(done)
    return rows


def _rate(kind: Kind, rates: dict[str, list[float]], said: str, sessions: int) -> Row:
    row = rate(f"{said}: {kind.name}", rates[kind.name])
    row.subject, row.durability, row.sessions = kind.name, kind.durability, sessions
    row.samples = {kind.name: rates[kind.name]}
    row.plot = f"{said}, {sessions:,} sessions"
    return row


def _few_and_many(kind: Kind, folder: Path, plans: dict[str, Plan]) -> list[Row]:
    """What the number of sessions costs: the same subject with few and with many, in turn."""
    few, many = plans
    found = measured({name: Entrant(kind, plan) for name, plan in plans.items()}, folder)
    if found.missing:
        return []  # said to be missing already
    rows = []
    for block, rates in found.rates.items():
        if not rates:
            continue  # it has no batches
        name = f"{SAID[block]}: {kind.name}: cost at {many} sessions / at {few}"
        costs = pairs(rates, few, many)  # rates upside down
        row = at_most(name, costs, "×", 1.5) if kind in ENGINES else Row(
            name, statistics.median(costs), "×", spread=(min(costs), max(costs))
        )  # fmt: skip
        row.subject, row.sessions, row.samples = kind.name, plans[many].sessions, rates
        row.note = f"{statistics.median(rates[many]):,.0f}/s against {statistics.median(rates[few]):,.0f}/s"
        row.plot = "" if block == BATCHES else f"cost at {many} sessions in units of that at {few}, {SAID[block]}"
        rows.append(row)
        if kind in ENGINES:
            rows.append(_cpu_of_many(found, block, kind, few, many))
    return rows


def _cpu_of_many(found: Found, block: str, kind: Kind, few: str, many: str) -> Row:
    """The same by what it costs the cores."""
    costs = pairs(found.cpu_us[block], many, few)
    name = f"{SAID[block]}: {kind.name}: CPU time at {many} sessions / at {few}"
    return Row(name, statistics.median(costs), "×", spread=(min(costs), max(costs)), samples=found.cpu_us[block])
