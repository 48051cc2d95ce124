"""The duties of an engine on a log that several machines share: expiries to announce, facts to publish.

On any other log the engine owns every partition, and publishes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from lastseen.embedded.folding import fold_in_turns, raise_passing
from lastseen.embedded.settings import Settings
from lastseen.engine.errors import LastseenError, LogError, OwnerState
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.port import Log, Position
from lastseen.engine.log.shared_log import Duties, FactPublisher, Held, MemberSettings, Owner, SharedLog
from lastseen.projections.follower import PARTITION_ERRORS, Follower
from lastseen.projections.live_view import LiveView
from lastseen.projections.outbox import Outbox
from lastseen.projections.publisher import Publisher

WAIT_S = 0.2
"""How long the follower waits for records at a time."""
_logger = logging.getLogger("lastseen")


class EngineDuties:
    """The duties of one engine, divided with the others on its log."""

    def __init__(self, log: Log, settings: Settings, view: LiveView, outbox: Outbox | None, health: DutyHealth) -> None:
        self._log = log if isinstance(log, SharedLog) else None
        self._settings = settings
        self._view = view
        self._outbox = outbox
        self._health = health
        self._all = frozenset(range(log.partitions))
        self._holds_some = settings.view == "owned" and self._log is not None
        self._membership: Duties | None = None
        self._fact_publisher: FactPublisher | None = None
        self._publisher: Publisher | None = None
        self._publishing = threading.Lock()
        self._left_with: frozenset[int] | None = None
        """What was owned when the group was left; `None` before."""
        self._is_closed = False
        self._ends: list[int] = []

    def prepare(self) -> None:
        """Open the topics beside the log, before the log is folded. Raises `LogError`."""
        if self._log is not None and self._outbox is not None:
            self._fact_publisher = self._log.open_fact_publisher()
            self._publisher = Publisher(
                self._log, self._view, self._outbox, self._fact_publisher, self._published_by_us
            )
            self.skip_published(self._view.present)

    def skip_published(self, numbers: Iterable[int]) -> None:
        """Spare the outbox what is published already, of records that these partitions have still to fold."""
        if self._publisher is not None:
            try:
                self._publisher.skip_published(numbers)
            except LogError as error:
                _logger.warning("what is published already is not known yet, and is kept meanwhile: %s", error)

    def begin(self, changed: Callable[[], None]) -> None:
        """Take on duties; the engine has caught up with the log. `changed` is called when they change.

        Raises `LogError`.
        """
        if self._log is None:
            return
        settings = self._settings
        if settings.prune or settings.view == "owned" or self._publisher is not None:
            member = MemberSettings(
                settings.group, settings.member, settings.address, settings.standbys, self._holds_some
            )
            self._membership = self._log.join(member, self._held, changed, self._health)

    def _held(self) -> Held:
        failed = self._view.failures.keys()
        return Held(self._view.present, self._view.served - failed)

    def owned(self) -> frozenset[int]:
        """The partitions that are ours to prune and to publish."""
        if self._log is None:
            return self._all
        duties = self._membership
        return frozenset() if duties is None or self._left_with is not None else duties.owned()

    @property
    def is_leaving(self) -> bool:
        """Whether the group was left: from then on this engine takes up, drops, follows and publishes nothing more."""
        return self._left_with is not None

    def expected(self) -> frozenset[int]:
        """The partitions that this engine is to answer for: all, or with `view="owned"` those that it owns."""
        return self.to_hold() - self.kept_for_others() if self._holds_some else self._all

    def performed(self) -> frozenset[int]:
        """The partitions for which this engine performs the owner's duties: those that it owns and answers for."""
        return (self.owned() & self._view.served) - self._view.failures.keys()

    def _published_by_us(self) -> frozenset[int]:
        """The partitions whose facts are ours to publish: those that we own, once they are here."""
        return self.owned() & self._view.present

    def announced_by_us(self) -> frozenset[int]:
        """The partitions for which this engine may announce expiries: those that it owns, or all, if it takes no
        part in the group and its caller prunes."""
        ours = self._all if self._log is None or self._membership is None else self.owned()
        return ours - self._view.failures.keys()

    def to_hold(self) -> frozenset[int]:
        """The partitions that an engine which does not hold all is to hold: its own, and those that it keeps ready."""
        return frozenset() if self._membership is None else self._membership.to_hold()

    def kept_for_others(self) -> frozenset[int]:
        """Those of them that another engine owns."""
        return frozenset() if self._membership is None else self._membership.kept_for_others()

    def owner_of(self, partition: int) -> str | None:
        """The address of a partition's owner, if it gave one. Raises `LogUnavailable`."""
        if self._membership is None:
            return self._settings.address
        return self._membership.owner_of(partition)

    @property
    def waits(self) -> bool:
        """Whether the log signals that there is something to read."""
        return self._log is not None

    def follow(self, follower: Follower, goes_on: Callable[[], bool], *, waits: bool = True) -> None:
        """Fold what others have written to the partitions served here, while `goes_on`; where the log signals that,
        wait for it briefly. A partition that cannot be read at the moment keeps no other waiting. Raises `LogError`."""
        if self._log is None:
            raise_passing(fold_in_turns(follower, follower.open_ends(), goes_on=goes_on))
            follower.check()
            return
        present, failures = self._view.served, self._view.failures
        folded = [partition.checkpoint for partition in self._view.partitions]
        # How far partitions go that are not held here, or have failed, is unknown.
        ends = self._ends if failures or len(present) < len(folded) else folded
        try:
            known = self._log.await_growth(ends, WAIT_S if waits else 0)
        except PARTITION_ERRORS:
            # Reading on fails every partition: from then on no state is shown that may be of a log that is gone.
            for number in present:
                with suppress(*PARTITION_ERRORS):
                    follower.catch_up(Position(number, folded[number]))
            raise
        self._ends = known
        grown = {number: known[number] for number in present - failures.keys() if known[number] > folded[number]}
        raise_passing(fold_in_turns(follower, grown, goes_on=goes_on))
        follower.check()

    def known_owner(self, partition: int) -> Owner:
        """The same as far as it is known, without asking."""
        return Owner(OwnerState.UNKNOWN) if self._membership is None else self._membership.known_owner(partition)

    def strangers(self) -> dict[str, int]:
        """How many records of strangers this engine has seen in the topics beside the log, as their owner."""
        return {} if self._publisher is None else dict(self._publisher.strangers)

    @property
    def publishes(self) -> bool:
        """Whether this engine publishes facts."""
        return self._publisher is not None

    def publish(self) -> int:
        """Publish what took effect; returns how many facts. Raises `LogError`."""
        with self._publishing:
            return 0 if self._publisher is None or self.is_leaving else self._publisher.run()

    def leave(self) -> None:
        """Leave the group, without waiting: other engines take the duties over. May be called again."""
        if self._left_with is None:
            self._left_with = self.owned()
            if self._membership is not None:
                self._membership.leave()

    def close(self) -> None:
        """Leave the group, and publish the last facts. May be called again."""
        self.leave()
        if self._is_closed:
            return
        self._is_closed = True
        if self._membership is not None:
            self._membership.close()
        try:
            self._publish_rest()
        except LastseenError as error:
            _logger.warning("the last facts were not published; the next owner publishes them: %s", error)
        if self._fact_publisher is not None:
            self._fact_publisher.close()

    def _publish_rest(self) -> None:
        """Publish what this engine's last records did; the next owner, if there is one, may publish it too."""
        with self._publishing:
            if self._publisher is not None and self._left_with:
                self._publisher.publish_rest(self._left_with)
