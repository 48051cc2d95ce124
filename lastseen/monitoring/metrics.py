"""An engine's figures for Prometheus, read when they are asked for: nothing is kept in step meanwhile.

Names and units follow Prometheus' conventions. A label takes one of few values, known beforehand: never a session, a
key, an owner or a partition. All values of a label are there from the first moment, so that a rate is right from the
first event. The exception is `source`, which producers make up: `projections.sources` bounds it. Counts of created,
ended and void come from the log: every instance that folds all of it says the same, and a sum over instances would
count them several times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lastseen.embedded.engine import Engine
from lastseen.embedded.histogram import Durations
from lastseen.engine import events
from lastseen.engine.errors import LastseenError
from lastseen.engine.verdicts import Verdict
from lastseen.projections import sources
from lastseen.projections.sources import SourceReport
from lastseen.projections.statistics import EXPIRY_LAG_BOUNDS_MS
from lastseen.version import __version__

OTHER = "other"
"""The label's value for what has none of its own, such as reasons that callers made up."""
END_REASONS = (
    "idle", "max_age", "suspend_ttl", "capacity", "memory", "deleted", "reset", "logout", "revoked", "rotated",
    "replaced",
)  # fmt: skip
DUTIES = ("follow", "flush", "archive", "memory", "prune", "publish", "group", "load")
BESIDE = ("facts", "state")
GUARDS = ("held",)
CAUSES = ("capacity", "memory")
APPEND_ERRORS = ("LogUnavailable", "OutcomeUnknown", "LogMismatch")
EVENTS = tuple(events.NAMES.values())
VOID_REASONS = tuple(verdict.label for verdict in Verdict if verdict is not Verdict.APPLIED)


class EngineCollector(Collector):
    """Collects one engine's figures. Takes the view's lock for a moment; never asks a broker."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """All figures as they are now."""
        report = self._engine.statistics()
        now_ms = self._engine.now_ms()
        yield InfoMetricFamily("lastseen_build", "The version of lastseen", {"version": __version__})
        yield from _sessions(report, now_ms)
        yield from _sources(self._engine.sources())
        yield from _expiries(report, self._engine.expiry_lags())
        yield from _pruner(report["pruner"])
        yield from _bodies(report["bodies"])
        yield from self._appends()
        yield from self._follower()
        yield from self._snapshot()
        yield from self._standing()

    def _appends(self) -> Iterator[Metric]:
        log = self._engine.meters.log
        yield counter("appended_events", "Events of this instance that the log has acknowledged", log.appended)
        yield counters("append_failures", "Appends that failed", "error", log.failures, APPEND_ERRORS)
        yield histogram(
            "append_duration_seconds", "Duration of appends that a caller waited for, each of one or more events",
            log.durations,
        )  # fmt: skip

    def _follower(self) -> Iterator[Metric]:
        try:
            lags = self._engine.lags()
            records = float(sum(lag.records for lag in lags))
            seconds = max((lag.ms for lag in lags), default=0) / 1000
        except LastseenError:
            records, seconds = nan, nan
        skew_ms = self._engine.meters.watch.skew_ms
        yield gauge("follower_lag_records", "Records in the log that are not folded yet", records)
        yield gauge("follower_lag_seconds", "How long the oldest of them has waited", seconds)
        yield gauge(
            "log_clock_skew_seconds", "Difference between the log's clock and this machine's, as far as it is certain",
            nan if skew_ms is None else skew_ms / 1000,
        )  # fmt: skip

    def _snapshot(self) -> Iterator[Metric]:
        state = self._engine.snapshot_state()
        yield gauge("snapshot_age_seconds", "How long the snapshot has lagged behind", state.age_ms / 1000)
        yield gauge("snapshot_size_bytes", "Size of the snapshot on disk", state.size_bytes)
        yield gauge("snapshot_unsaved_sessions", "Sessions that have changed since the last flush", state.unsaved)
        flushes = self._engine.meters.flushes
        yield histogram("snapshot_flush_duration_seconds", "Duration of flushes of the snapshot", flushes)

    def _standing(self) -> Iterator[Metric]:
        failing = dict.fromkeys(self._engine.health(), 1)
        yield gauges("background_failing", "1 while this background task fails", "task", failing, DUTIES)
        failed = self._engine.duty_health.counts
        yield counters("background_failures", "Failed attempts of each background task", "task", failed, DUTIES)
        strangers = self._engine.strangers()
        yield counters(
            "strange_records", "Records of strangers seen in the topics of facts and states, of partitions owned here",
            "topic", strangers, BESIDE,
        )  # fmt: skip
        yield gauge("engine_usable", "0 once the engine has stopped permanently", int(self._engine.obstacle() is None))
        expected, _, standby, broken = self._engine.partitions()
        held = self._engine.held()
        partitions = {
            "held": len(held), "owned": len(self._engine.owned()), "standby": len(standby & held),
            "loading": len((expected | standby) - held),
        }  # fmt: skip
        yield gauges("partitions", "Partitions served, owned, kept ready for others, and loaded here", "share",
                     partitions, ())  # fmt: skip
        unreadable = {str(number): int(number in broken) for number in sorted(expected | broken.keys())}
        yield gauges("partition_failed", "1 for each partition that cannot be read", "partition", unreadable, ())
        yield gauge("memory_used_ratio", "Resident memory over its limit", self._engine.memory_share())


def _sessions(report: Mapping[str, Any], now_ms: int) -> Iterator[Metric]:
    yield gauges("sessions", "Live sessions", "status", report["live_by_status"], ())
    yield counter("sessions_created", "Sessions that began", report["created"])
    yield counters("sessions_ended", "Sessions that ended", "reason", report["ended"], END_REASONS)
    yield counters("records_applied", "Records that took effect", "event", report["applied"], EVENTS)
    yield counters("records_void", "Records that had no effect", "reason", report["void"], VOID_REASONS)
    for name in ("oldest", "newest"):
        created_at_ms = report[f"{name}_created_at_ms"]
        age_s = nan if created_at_ms is None else (now_ms - created_at_ms) / 1000
        yield gauge(f"{name}_session_age_seconds", f"Age of the {name} live session; NaN where none lives", age_s)


def _sources(report: Sequence[SourceReport]) -> Iterator[Metric]:
    records = {each.source: each.records for each in report}
    yield counters("source_records", "Records that this instance has folded", "source", records, records)
    void = CounterMetricFamily(
        "lastseen_source_records_void", "Of these, those that had no effect", labels=["source", "reason"]
    )
    for each in report:
        # For each source only the reasons that there are: all of them would be a thousand series.
        known = dict.fromkeys(VOID_REASONS if each.source == sources.OTHER else (), 0)
        for reason, count in (known | dict(each.void)).items():
            void.add_metric([each.source, reason], count)
    yield void


def _expiries(report: Mapping[str, Any], classes: Iterable[int]) -> Iterator[Metric]:
    buckets, count = [], 0
    for bound_ms, expired in zip(EXPIRY_LAG_BOUNDS_MS, classes, strict=False):
        count += expired
        buckets.append((str(bound_ms / 1000), count))
    yield HistogramMetricFamily(
        "lastseen_expiry_lag_seconds", "Delay of expiries after their deadlines",
        buckets=[*buckets, ("+Inf", report["expiries"])], sum_value=report["expiry_lag_ms_total"] / 1000,
    )  # fmt: skip


def _pruner(report: Mapping[str, Any]) -> Iterator[Metric]:
    yield counter("pruner_runs", "Passes of this instance's pruner", report["runs"])
    yield counter("pruner_announced", "Expiries that this pruner announced", report["announced"])
    yield counters(
        "pruner_skipped", "Sessions that a pass found guarded when it was their turn, each once until it is used",
        "guard", report["spared"], GUARDS,
    )  # fmt: skip


def _bodies(report: Mapping[str, Any]) -> Iterator[Metric]:
    yield gauge("body_cache_bytes", "Memory for attributes and messages", report["bytes"])
    yield counter("body_cache_hits", "Bodies that were found in memory", report["hits"])
    yield counter("body_cache_misses", "Bodies that were read from the snapshot", report["misses"])
    yield counters("body_cache_evictions", "Bodies that were evicted from memory", "cause", report["evictions"], CAUSES)


def counter(name: str, says: str, value: float) -> Metric:
    """A counter without labels; Prometheus sees `lastseen_<name>_total`."""
    return CounterMetricFamily(f"lastseen_{name}", says, value=value)


def counters(name: str, says: str, label: str, values: Mapping[str, float], known: Iterable[str]) -> Metric:
    """A counter by a label that takes the values `known`, and `other` for the rest."""
    family = CounterMetricFamily(f"lastseen_{name}", says, labels=[label])
    bounded = dict.fromkeys((*known, OTHER), 0.0)
    for value, count in values.items():
        bounded[value if value in bounded else OTHER] += count
    for value, count in bounded.items():
        family.add_metric([value], count)
    return family


def gauge(name: str, says: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(f"lastseen_{name}", says, value=value)


def gauges(name: str, says: str, label: str, values: Mapping[str, float], known: Iterable[str]) -> Metric:
    """A gauge by a label; those of `known` that have no value are 0."""
    family = GaugeMetricFamily(f"lastseen_{name}", says, labels=[label])
    for value, number in (dict.fromkeys(known, 0) | dict(values)).items():
        family.add_metric([value], number)
    return family


def histogram(name: str, says: str, durations: Durations) -> Metric:
    """A histogram without labels."""
    return HistogramMetricFamily(
        f"lastseen_{name}", says, buckets=durations.buckets(), sum_value=durations.total_ns / 1e9
    )
