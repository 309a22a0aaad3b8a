"""What an edge agent does differently from any runtime. Pure but for the spool, which is handed in.

What is taken in, begun and ended is written to the spool; while the agent is cut off, only what its lease allows is begun;
after a restart it goes on with what the spool holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.messages import Assign, AssignGroup, HeartbeatSeen, Message, Registered
from headway_bus.records import AttemptEnd, Ended, ErrorInfo, RuntimeInfo
from headway_edge.bucket import Bucket
from headway_edge.delivery import Delivery, LinkSettings
from headway_edge.lease import SHORT_HEARTBEATS, Lease
from headway_edge.ledger import Ledger, StoredAttempt
from headway_runtime.core import Core
from headway_runtime.effects import Effect, Feed, Fetch, StartCommand, Tell, Upload
from headway_runtime.endings import ended
from headway_runtime.files import own_folder_name
from headway_runtime.refusals import Refusals
from headway_runtime.state import Attempt, Bounds, Phase
from headway_runtime.views import blobs_of, upload_of

ASSIGNED = "assigned"
"""The note of the last assign batch that was taken in, and of whose it was."""


FULL = "full"
"""What a heartbeat says, as 1.0, while the disk takes nothing; the controller gives this agent nothing new then."""


class EdgeCore(Core):
    """The books of one agent. ``identity``: the spool's, by which the controller knows it after a restart."""

    reporter: Delivery

    def __init__(
        self,
        info: RuntimeInfo,
        identity: bytes,
        refusals: Refusals,
        bounds: Bounds,
        ledger: Ledger,
        link: LinkSettings,
        bucket: Bucket,
        wall: Callable[[], float],
    ) -> None:
        delivery = Delivery(bounds.logs_bytes, bounds.message_bytes, ledger, link, bucket, wall)
        super().__init__(info, identity, refusals, bounds, delivery)
        self.lease = Lease()
        self.is_full = False
        """The spool's disk takes nothing: nothing new is taken in or begun."""

        self.interrupted = 0
        """Attempts that a restart broke off and that are not resumable."""

        self._ledger = ledger
        self._shelved: list[Attempt] = []
        self._resumed: list[Effect] = []
        self._registered_at: float | None = None
        """When the register message left that was answered last."""

        self._is_new = True
        """Nothing was held before, and the controller was told so once: it can only be that message that it answers."""

    # -------------------------------------------------------------------------------------- after a restart

    def restore(self, now: float) -> None:
        """Take in what the spool holds. Once, before anything else."""
        noted = self._ledger.noted(ASSIGNED)
        if noted:
            self.presence.resume(*msgspec.msgpack.decode(noted, type=tuple[bytes, int]))
        for report in self._ledger.reports():
            self.reporter.restore(report)
        for stored in self._ledger.attempts():
            self._restore(stored, now)

    def _restore(self, stored: StoredAttempt, now: float) -> None:
        self._is_new = False
        key, options = stored.key, stored.options
        if stored.starts and not options.resumable and stored.outcome is None:
            # It is gone with the processes that were ended. The controller learns of it by its absence.
            self.interrupted += 1
            self._ledger.remove_attempt(key)
            return
        attempt = self.attempts[key] = Attempt(key, stored.payload, self.specs.of(options, stored.gpus))
        attempt.starts = stored.starts
        self.reporter.took(key)
        if stored.outcome is not None and (upload := upload_of(key, stored.outcome)):
            attempt.phase, attempt.outcome = Phase.FED, stored.outcome
            self._resumed.append(upload)
        elif attempt.spec.refusal is not None:
            self._endings.finish(attempt, ended(attempt, AttemptEnd.FAILED, attempt.spec.refusal), None, now)
        elif blobs := blobs_of(attempt):
            attempt.phase = Phase.FETCHING
            self._resumed.append(Fetch(key, blobs))
        else:
            self.pool.ready.append(attempt)

    def on_start(self) -> list[Effect]:
        resumed, self._resumed = self._resumed, []
        return [*super().on_start(), *resumed]

    # -------------------------------------------------------------------------------------- messages

    def on_message(self, message: Message, frames: Sequence[Frame], now: float) -> list[Effect]:
        # One that left after now left before the machine was started anew: by another clock.
        if isinstance(message, HeartbeatSeen) and message.sent <= now:
            self.lease.heard(message.sent)
        return [*self._ask_if_unsure(now), *super().on_message(message, frames, now)]

    def on_registered(self, message: Registered, now: float) -> list[Effect]:
        asked = self._registered_at = self.presence.asked_since
        # That the controller answered says nothing of the lease: it may be an earlier register message that it has read. Only
        # the first of all has none before it; without that, an agent that is cut off before its first heartbeat begins nothing.
        if self._is_new and asked is not None:
            self.lease.heard(asked)
        self._is_new = False
        effects = super().on_registered(message, now)
        self._unshelve()
        return effects

    def _register(self, now: float) -> list[Effect]:
        self._is_new = self._is_new and self.presence.asked_since is None
        return super()._register(now)

    def on_assign(self, assign: Assign, frames: Sequence[Frame], now: float) -> list[Effect]:
        if self.is_full:
            return []  # never acknowledged: the controller says it again, or gives it to others
        effects = super().on_assign(assign, frames, now)
        self._ledger.note(ASSIGNED, msgspec.msgpack.encode(self.presence.assigned))
        return effects

    def _take_in(self, group: AssignGroup, frames: Sequence[Frame], effects: list[Effect], now: float) -> None:
        before = {key for task, number, _ in group.attempts if (key := (task, number)) in self.attempts}
        super()._take_in(group, frames, effects, now)
        for place, (task, number, _) in enumerate(group.attempts):
            attempt = self.attempts.get((task, number))
            if attempt is not None and attempt.key not in before:
                gpus = group.gpus[place] if place < len(group.gpus) else []
                self._ledger.add_attempt(StoredAttempt(attempt.key, group.options, attempt.payload, gpus))

    def on_child_ended(self, number: int, ended: Sequence[Ended], frames: Sequence[Frame], now: float) -> list[Effect]:
        return self._noting_outcomes(super().on_child_ended(number, ended, frames, now))

    def on_child_gone(self, number: int, cause: ErrorInfo, was_running: bool, now: float) -> list[Effect]:
        return self._noting_outcomes(super().on_child_gone(number, cause, was_running, now))

    def on_command_gone(self, key: AttemptKey, record: Ended, now: float) -> list[Effect]:
        return self._noting_outcomes(super().on_command_gone(key, record, now))

    def _noting_outcomes(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Upload) and (outcome := self.attempts[effect.key].outcome) is not None:
                self._ledger.note_outcome(effect.key, outcome)
        return effects

    # -------------------------------------------------------------------------------------- beginning

    def _may_begin_all(self) -> bool:
        """Whether the controller is there and has said what it no longer wants."""
        return self.is_registered and self.presence.asked_since is None

    def _dispatch(self, now: float) -> list[Effect]:
        if self.is_full:
            return []
        if not self._may_begin_all():
            self._shelve(now)
        effects = super()._dispatch(now)
        for effect in effects:
            if isinstance(effect, Feed):
                for attempt in effect.attempts:
                    self._ledger.note_start(attempt.key)
            elif isinstance(effect, StartCommand):
                self._ledger.note_start(effect.attempt.key)
        return effects

    def _shelve(self, now: float) -> None:
        """Put aside what may not be begun while cut off."""
        ready, heartbeat = self.pool.ready, self.presence.heartbeat
        if all(self.lease.may_begin(each.spec.options.offline, heartbeat, now) for each in ready):
            return
        for attempt in list(ready):
            if attempt.phase is Phase.READY and not self.lease.may_begin(attempt.spec.options.offline, heartbeat, now):
                attempt.phase = Phase.SHELVED
                self._shelved.append(attempt)
        kept = [each for each in ready if each.phase is Phase.READY]
        ready.clear()
        ready.extend(kept)

    def _unshelve(self) -> None:
        for attempt in reversed(self._shelved):
            if attempt.phase is Phase.SHELVED:
                attempt.phase = Phase.READY
                self.pool.ready.appendleft(attempt)
        self._shelved.clear()

    @property
    def shelved(self) -> int:
        """Attempts that wait for the link before they are begun."""
        return sum(attempt.phase is Phase.SHELVED for attempt in self._shelved)

    # -------------------------------------------------------------------------------------- reports and time

    def _ask_if_unsure(self, now: float) -> list[Effect]:
        """A link that seems to be up proves nothing: this process may have stood still, or all that comes may be late. If the
        controller has answered nothing for as long as a lease, what is here may be others' by now: the agent says what it
        holds, and begins nothing beyond its leases before that is answered."""
        if not self._may_begin_all():
            return []
        answered = [at for at in (self._registered_at, self.lease.since) if at is not None]
        if answered and now - max(answered) < SHORT_HEARTBEATS * self.presence.heartbeat:
            return []
        return self._register(now)

    def flush(self, now: float) -> list[Effect]:
        effects = [*self._ask_if_unsure(now), *super().flush(now)]
        if not self.is_registered:
            self.reporter.store(now)  # there is nobody to tell; the disk must have it all the same
        return effects

    def next_tick(self, now: float) -> float:
        wait = super().next_tick(now)
        if (at := self.reporter.next_store()) is not None:
            wait = min(wait, max(0.0, at - now))
        if self.is_registered and (pause := self.reporter.next_send(now)) is not None:
            wait = min(wait, max(0.005, pause))
        return wait

    def not_begun_after_all(self, effects: Sequence[Effect], now: float) -> list[Effect]:
        """The spool could not note these starts: they do not take place. Returns what of the effects remains."""
        remaining: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Feed):
                child = self.pool.children[effect.child]
                self.pool.give_back(child, [attempt.key for attempt in effect.attempts], now)
            elif isinstance(effect, StartCommand):
                attempt = effect.attempt
                del self._running[attempt.key]
                self._unannounced.remove(attempt)
                self.pool.free += attempt.spec.options.requirements.slots
                attempt.phase = Phase.READY
                self.pool.ready.appendleft(attempt)
            else:
                remaining.append(effect)
        return remaining

    def on_full(self, now: float) -> list[Effect]:
        """The spool's disk takes nothing: give back what is not begun, and all output that waits."""
        if self.is_full:
            return []
        # Said before anything is given back: the controller would give it to us again.
        beat = self._say_full(True, now)
        self.reporter.give_up_output()
        return [*beat, *self._return_unstarted(now)]

    def on_room(self, now: float) -> list[Effect]:
        """The disk takes writes again."""
        return self._say_full(False, now)

    def _say_full(self, is_full: bool, now: float) -> list[Effect]:
        """A heartbeat out of turn: seconds between them are many on an edge's link."""
        self.is_full = is_full
        presence, reporter = self.presence, self.reporter
        presence.load = {**presence.load, FULL: float(is_full)}
        if not self.is_registered:
            return []
        due = presence.next_heartbeat
        beat = presence.beat(now, reporter.held, reporter.digest, max(0.0, self.pool.free))
        presence.next_heartbeat = due
        return [Tell(beat, [])]

    def kept_folders(self) -> set[str]:
        """Names of the folders that resumable attempts will find again."""
        return {own_folder_name(key) for key, attempt in self.attempts.items() if attempt.spec.options.resumable}
