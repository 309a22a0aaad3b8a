"""The controller's mind: events and the time go in, effects come out. Pure.

A wake-up is a *turn*: any number of ``on_…`` calls, then ``finish``, which dispatches, gathers and gives out the effects.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from headway_bus.errors import StoreError
from headway_bus.ids import TaskId, text_of
from headway_bus.messages import (
    Await,
    Cancel,
    Changed,
    DrainRuntime,
    Heartbeat,
    Message,
    PeerChanged,
    Peers,
    Received,
    Register,
    Rejected,
    Report,
    RuntimeLeaving,
    Submit,
    TopicsChanged,
    Undeliverable,
)
from headway_bus.namespaces import SEPARATOR, Scope, may_see
from headway_bus.records import Code, Outcome, Status
from headway_bus.session import LAST_RETRY
from headway_controller.assignments import Assignments
from headway_controller.audience import Audience
from headway_controller.cancels import Cancels
from headway_controller.copies import Copies
from headway_controller.descriptions import Descriptions
from headway_controller.effects import Effect, Join, ReadOutcomes
from headway_controller.fleet import LATE, Fleet
from headway_controller.life import Life
from headway_controller.patience import Patience
from headway_controller.placement import Scheduler
from headway_controller.reports import Reports
from headway_controller.state import Assigned, ControllerState, Ended, Running, Task, Value
from headway_controller.store.protocol import DropTasks, EndTask, NewTasks, SaveState, StoredTask, UpdateTask
from headway_controller.turn import FollowUp, Turn
from headway_controller.unions import Unions
from headway_controller.usage import Quotas

PROBE_STATE = "probe"

STORE_RETRY = 1.0
"""Seconds after which ends that could not be stored are offered to the store again."""

STOP_REPEAT = 5.0
"""Seconds after which attempts that somebody waits to see stopped are stopped once more: that word is in no hand-over."""

RUNTIME_ROLES = frozenset({"runtime", "edge"})


class Controller:
    """All of the controller but its sockets, its threads and its clock."""

    def __init__(
        self,
        instance: bytes,
        scheduler: Scheduler,
        *,
        wall_offset: float = 0.0,
        heartbeat: float = 2.0,
        missed_heartbeats: float = 2.0,
        quotas: Quotas = Quotas(),  # noqa: B008  # immutable
        payload_limit: int = 1 << 30,
        file_limit: int = 64 << 30,
        seed: int = 0,
    ) -> None:
        self.state = ControllerState(instance)
        self.scheduler = scheduler
        self.turn = Turn()
        self.life = Life(self.state, self.turn, scheduler, wall_offset, seed)
        self.news = self.life.news
        self.assignments = Assignments(self.state, self.turn, scheduler, self.life)
        self.copies = Copies(self.state, self.turn, scheduler, self.life, self.assignments)
        self.reports = Reports(self.state, self.turn, scheduler, self.life, self.copies)
        self.fleet = Fleet(
            self.state,
            self.turn,
            scheduler,
            self.life,
            self.assignments,
            self.reports,
            self.copies,
            heartbeat,
            missed_heartbeats,
        )
        self.unions = Unions(self.state, self.turn, scheduler, self.life, self.assignments)
        self.audience = Audience(
            self.state, self.turn, scheduler, self.life, self.fleet, self.unions, quotas, payload_limit, file_limit
        )
        self.cancels = Cancels(self.state, self.turn, self.life, self.assignments, self.unions, self.audience.tenancy)
        self.descriptions = Descriptions(self.state, self.turn, self.news)
        self.patience = Patience(self.state, scheduler)
        self.heartbeat = heartbeat
        self._unstored = FollowUp()
        self._store_retry_at = 0.0
        self._stop_again_at = 0.0
        self._paused = False
        self._awaited: set[str] | None = None
        """Runtimes that have not yet said what they hold; empty text: the broker has not said who is there."""

    # ------------------------------------------------------------------------------------------- events

    def on_message(self, source: str, message: Message, frames: Sequence[bytes | memoryview], now: float) -> bool:
        """A message from a peer or (empty source) the broker. False if it is none of the core's."""
        match message:
            case Report():
                self.reports.on_report(source, message, frames, now)
            case Submit():
                self.audience.on_submit(source, message, frames, now)
            case Received():
                self.audience.on_received(source, message, now)
            case Heartbeat():
                self.fleet.on_heartbeat(source, message, now)
            case Register():
                self.fleet.on_register(source, message, now)
                self._on_present({source}, now)
            case Await():
                self.audience.on_await(source, message, now)
            case Cancel():
                self.cancels.cancel(source, message, now)
            case DrainRuntime():
                self.audience.on_drain(source, message, now)
            case RuntimeLeaving():
                self.reports.on_leaving(source)
                self.turn.note("info", "runtime leaves", runtime=source, reason=message.reason)
            case PeerChanged() | Peers() | TopicsChanged() | Undeliverable() | Rejected():
                self._on_broker(message, now)
            case _:
                return False
        return True

    def finish(self, now: float) -> list[Effect]:
        """The end of a wake-up: place what can be placed, and give out all that has gathered."""
        if self.state.cancels:
            self.cancels.check()
        self.unions.step(self.fleet.roster, now)
        if not self._paused:
            self.assignments.dispatch(now)
        self.assignments.ask_back(now, self._paused)
        self.news.finish()
        return self.turn.finish(self.patience.holds(self.turn.due, now))

    def finish_quietly(self, now: float) -> list[Effect] | None:
        """The same after heartbeats alone, which nearly always change nothing. None: they did, and ``finish`` is due."""
        if self.scheduler.fleet.dirty:
            return None
        self.assignments.ask_back(now, self._paused)  # a few runtimes at a time: where nothing happens, who else asks?
        return self.turn.finish(hold=True)

    def on_time(self, now: float) -> None:
        """Time has passed: timers, silence, repeats. Call several times per heartbeat and at ``next_time``."""
        self.fleet.on_time(now)
        self.news.on_time(now)
        self.copies.look(now)
        for task in self.life.on_time(now):
            self.assignments.take_back(task.runtime, [(task.id, task.attempt)])
        for runtime in self.state.runtimes.values():
            if runtime.outbox:
                self.assignments.resend(runtime, now)
        for client in self.state.clients.values():
            self.audience.resend(client, now)
        if self.state.cancels and now >= self._stop_again_at:
            self._stop_again_at = now + STOP_REPEAT
            self.cancels.stop_again()
        if self._owes_a_write() and now >= self._store_retry_at:
            self._offer_again(now)
        if self._awaited is not None and now >= self.life.recovery.until:
            if self.life.recovery.is_under_way:
                missing = sorted(filter(None, self._awaited))
                self.turn.note("warning", "runtimes have not come back; what they had runs again", runtimes=missing)
            self._on_present(set(self._awaited), now)

    def on_stood_still(self, now: float) -> None:
        """The process, or the broker, was suspended; see ``Fleet.on_stood_still``."""
        self.fleet.on_stood_still(now)

    def on_cut(self) -> None:
        """The connection to the broker is gone."""
        self.fleet.is_cut = True
        if self._awaited is not None:
            self.life.recovery.extend(math.inf)

    def on_back(self, now: float) -> None:
        """The broker has taken us in, for the first time or again: leases and the time to claim begin anew."""
        if self.fleet.is_cut:
            self.fleet.on_back(now)
        if self._awaited is not None:
            self.life.recovery.until = now + self.fleet.heartbeat * (self.fleet.missed + LATE) + LAST_RETRY

    def _on_present(self, names: set[str], now: float) -> None:
        """These have said what they hold. When all have who may, what nobody has can be given out."""
        if self._awaited is not None:
            self._awaited -= names
            if not self._awaited:
                self._awaited = None
                self.life.recovery.end(now)

    def next_time(self) -> float | None:
        """When ``on_time`` has something to do, if that is known."""
        times = [self._store_retry_at] if self._owes_a_write() else []
        times += [timer for timer in (self.life.next_time(), self.unions.next_time()) if timer is not None]
        return min(times, default=None)

    def pause(self, paused: bool) -> None:
        """Stop, or go on, giving work to runtimes; everything else goes on."""
        self._paused = paused

    @property
    def is_paused(self) -> bool:
        return self._paused

    def _on_broker(self, message: Message, now: float) -> None:
        match message:
            case PeerChanged(name, role, _, how, labels):
                if how == "up":
                    self.state.labels.pop(name, None)
                    if labels:
                        self.state.labels[name] = labels
                self._on_peer(name, role, how, now)
            case Peers(peers):
                # The list of all topics follows this message: what an earlier broker knew of them is void.
                self.state.topics.clear()
                self.state.has_scoped_topics = False
                self.state.labels = {peer.name: peer.labels for peer in peers if peer.labels}
                present = {peer.name for peer in peers}
                for name in [each for each in self.state.clients if each not in present]:
                    self.audience.on_gone(name)
                if self._awaited is not None:
                    runtimes = {peer.name for peer in peers if peer.role in RUNTIME_ROLES}
                    self._awaited |= {name for name in runtimes if name not in self.state.runtimes}
                    self._on_present({""}, now)
            case TopicsChanged(added, removed):
                self.state.topics.update(added)
                self.state.topics.difference_update(removed)
                self.state.has_scoped_topics = any(SEPARATOR in topic for topic in self.state.topics)
            case Undeliverable(target, kind, code, _):
                self.state.counters[f"undeliverable.{kind}"] += 1
                if code == Code.UNKNOWN_TARGET:
                    self.fleet.on_gone(target, now)
                    self.audience.on_gone(target)
                else:
                    self.fleet.on_refused(target, kind)
            case Rejected(code, text, _):
                # Of a message of ours: a defect, or an answer that is too large. Never answered, or the two of us would
                # go on refusing each other's refusals.
                self.state.counters[f"rejected.{code}"] += 1
                self.turn.note("error", "the broker refused a message", code=str(code), reason=text)

    def _on_peer(self, name: str, role: str, how: str, now: float) -> None:
        if role in RUNTIME_ROLES:
            if how == "bye":
                self.fleet.on_bye(name, now)
            elif how == "revoked":
                self.fleet.on_revoked(name, now)
            elif how == "gone":
                self.fleet.on_gone(name, now)
        else:
            # Gone, or here on a new connection: what was on its way to it is void, and it will say what it waits for.
            self.audience.on_gone(name)

    # ------------------------------------------------------------------------------------------- the store's answers

    def on_stored(self, ticket: int, error: StoreError | None, known: Sequence[TaskId], now: float) -> None:
        """A write is committed, or none of it is."""
        follow = self.turn.waiting.pop(ticket)
        if error is not None:
            self._on_store_failed(follow, error, now)
            return
        if self.audience.refusing:
            self.audience.refusing = ""
            self.turn.note("info", "the store takes writes again")
        if not self._unstored.is_empty():
            # A repeated report, or an answer, may be about an end that an earlier write was to store and did not.
            self._keep_back(follow)
        # Only a lone submission is held back for its end; acceptances of others must not travel in a way they did not ask for.
        together = follow.together and len(follow.accepted) == 1 and bool(follow.ended)
        for name, accepted in follow.accepted:
            self.audience.accept(name, accepted, together)
        for new in (task for tasks in follow.new for task in tasks if task.options.replaces):
            self.cancels.replace(new, now)
        if known:
            self._on_known(known, now)
        tasks = self.state.tasks
        # Not those that were taken back meanwhile, because their submission could not be stored.
        ended = [task for task in follow.ended if isinstance(task.state, Ended) and tasks.get(task.id) is task]
        self.unions.on_ended_stored(ended)
        self.audience.on_ended_stored(ended, now)
        if together:
            for name, _ in follow.accepted:
                self.audience.accept_alone(name)
        for (runtime, instance), batches in follow.settled.items():
            self.reports.settle(runtime, instance, batches)
        for name, reply in follow.replies:
            self.turn.send(name, reply)

    def _on_known(self, known: Sequence[TaskId], now: float) -> None:
        """Tasks that were taken for new had ended before: the store's end stands, this copy is taken back."""
        for task_id in known:
            task = self.state.tasks.get(task_id)
            if task is None:
                continue
            if isinstance(task.state, Running | Assigned):
                self.assignments.stop([task], "the task had ended before")
            self.life.discard([task], now)
            for name in task.watchers:
                self.turn.effects.append(ReadOutcomes(name, [task_id]))

    def _on_store_failed(self, follow: FollowUp, error: StoreError, now: float) -> None:
        if not self.audience.refusing:
            self.turn.note("error", "the store cannot write; submissions are refused", reason=str(error))
        self.audience.refusing = f"the store cannot write: {error}"
        self.state.counters["store.failures"] += 1
        kept = self._unstored
        entries = list(zip(follow.accepted, follow.new, follow.known, strict=True))
        for accepted, tasks, there in entries:
            if there and not tasks:
                # Stored long ago and only said once more: to refuse it now would not be true.
                kept.accepted.append(accepted)
                kept.new.append(tasks)
                kept.known.append(there)
        for (name, said), tasks, there in entries:
            if tasks or not there:
                self.audience.deny(name, said.request, tasks[0].id if tasks else None, Code.STORE)
                self._take_submission_back(name, tasks, now)
        # Ends and updates of tasks that were accepted before are kept, and so are their reports on the runtimes.
        # So are the parts of unions, which nobody but this controller submits.
        kept.operations += [
            each for each in follow.operations if not isinstance(each, NewTasks) or each.options.part is not None
        ]
        live = self.state.tasks
        kept.ended += [task for task in follow.ended if live.get(task.id) is task]
        # Nothing of what was taken back: it may be submitted once more, and must not then end by what was kept here.
        kept.operations = [
            each for each in kept.operations if not isinstance(each, EndTask | UpdateTask) or each.task in live
        ]
        self._keep_back(follow)
        self._store_retry_at = now + STORE_RETRY

    def _take_submission_back(self, name: str, tasks: Sequence[Task], now: float) -> None:
        begun = [task for task in tasks if isinstance(task.state, Assigned | Running)]
        self.assignments.stop(begun, "the submission could not be stored")
        self.life.discard(tasks, now)
        repeating = {name, *self._leave_unanswered({task.id for task in tasks})}
        for task in tasks:
            others = [each for each in task.watchers if each not in repeating]
            self.turn.effects += [ReadOutcomes(each, [task.id]) for each in others]

    def _leave_unanswered(self, gone: set[TaskId]) -> list[str]:
        """Who has submitted one of these as well is not told that it is accepted, and will submit it once more."""
        names = []
        for follow in (*self.turn.waiting.values(), self.turn.due, self._unstored):
            entries = list(zip(follow.accepted, follow.new, follow.known, strict=True))
            kept = [entry for entry in entries if gone.isdisjoint(entry[2])]
            names += [name for (name, _), _, there in entries if not gone.isdisjoint(there)]
            follow.accepted = [accepted for accepted, _, _ in kept]
            follow.new = [new for _, new, _ in kept]
            follow.known = [there for _, _, there in kept]
        return names

    def _keep_back(self, follow: FollowUp) -> None:
        """Say this only when what could not be stored is."""
        kept = self._unstored
        kept.replies += follow.replies
        for runtime, batches in follow.settled.items():
            kept.settled.setdefault(runtime, []).extend(batches)
        follow.replies, follow.settled = [], {}

    def _owes_a_write(self) -> bool:
        """Whether something could not be stored, or it is not known whether anything can be again."""
        return bool(self.audience.refusing) or not self._unstored.is_empty()

    def _offer_again(self, now: float) -> None:
        # With something to write, even if nothing was kept: only a write tells that the store takes writes again.
        self._store_retry_at = now + STORE_RETRY
        self.turn.store(SaveState(PROBE_STATE, repr(now).encode()))
        # What follows writes that are still under way, handed over after the one that failed, waits for this one.
        for follow in self.turn.waiting.values():
            self._keep_back(follow)
        kept, self._unstored = self._unstored, FollowUp()
        self.turn.due.put_first(kept)

    def on_outcomes(
        self,
        name: str,
        outcomes: Sequence[Outcome],
        missing: Sequence[TaskId],
        now: float,
        hidden: Sequence[TaskId] = (),
    ) -> None:
        """The answer to a ``ReadOutcomes``. ``hidden``: in a namespace that is not the client's."""
        self.audience.on_outcomes(name, outcomes, missing, now, hidden)

    def on_joined(self, join: Join, payload: Value, count: int, error: str, now: float) -> None:
        """The answer to a ``Join``."""
        self.unions.on_joined(join, payload, count, error, now)

    def restore(
        self,
        stored: Sequence[StoredTask],
        statuses: Mapping[TaskId, Status],
        now: float,
        until: float,
        awaited: Collection[str] | None = None,
        unions: Mapping[TaskId, bytes] | None = None,
    ) -> None:
        """Take in what an earlier controller left unfinished. Until ``until`` the runtimes may claim what they have.

        ``awaited``: the runtimes that the earlier controller had. When they, and whoever else the broker has, have
        registered, that time is over; None: it lasts until ``until``. ``statuses``: how those ended that these come
        after, and the parts of unions. Whatever is in neither of the two was purged. ``unions``: how far they were.
        """
        self.life.recovery.until = until
        if awaited is not None:
            self._awaited = {"", *awaited}
        statuses = {**statuses, **{task.task: Status.QUEUED for task in stored}}
        for task in stored:
            self.life.recovery.restore(task, now, statuses)
        for union, saved in (unions or {}).items():
            self.unions.restore(union, saved, statuses)
        for new in [task for task in self.state.tasks.values() if task.options.replaces]:
            self.cancels.replace(new, now)  # the earlier controller may have been killed before it could

    def revive(
        self, client: str, request: int, stored: Sequence[StoredTask], refused: list[tuple[str, str]], now: float
    ) -> None:
        """Run ended tasks again, as if they had just been submitted."""
        count = 0
        for each in stored:
            if each.end is None or each.task in self.state.tasks:
                refused.append((text_of(each.task), "it has not ended"))
                continue
            self.life.revive(each, self.descriptions.latest(each), now)
            count += 1
        self.turn.due.replies.append((client, Changed(request, count, refused)))

    def purge(self, client: str, request: int, tasks: Sequence[TaskId], refused: list[tuple[str, str]]) -> None:
        """Forget ended tasks; the answer goes out when the store has forgotten them."""
        gone = self.drop(tasks)
        refused += [(text_of(task_id), "it has not ended") for task_id in tasks if task_id in self.state.tasks]
        self.turn.due.replies.append((client, Changed(request, len(gone), refused)))

    def drop(self, tasks: Sequence[TaskId]) -> list[TaskId]:
        """Forget those of these that are not alive (again): whoever chose them may have looked some time ago."""
        gone = [task_id for task_id in tasks if task_id not in self.state.tasks]
        for task_id in gone:
            self.life.recent.pop(task_id, None)
            self.descriptions.forget(task_id)
        if gone:
            self.turn.store(DropTasks(gone))
        return gone

    # ------------------------------------------------------------------------------------------- the truth

    def validate(self) -> None:
        """Raise AssertionError where two tables disagree. Costs time in proportion to everything."""
        self.scheduler.validate()
        state = self.state
        for task_id, task in state.tasks.items():
            assert task.id == task_id
            if isinstance(task.state, Assigned | Running):
                runtime = state.runtimes.get(task.state.runtime)
                assert runtime is not None and runtime.state != "offline", f"{text_of(task_id)} is on a lost runtime"
                key = (task_id, task.attempt)
                assert key in runtime.held or key in runtime.ending, f"{text_of(task_id)} is not booked on its runtime"
            if task.options.job:
                assert task_id in state.jobs[task.options.job].tasks, f"{text_of(task_id)} is missing from its job"
        self.life.usage.validate(state.tasks.values())
        for name, job in state.jobs.items():
            assert all(each in state.tasks for each in job.tasks), f"job {name!r} holds ended tasks"

    def describe(self, scope: Scope = None) -> dict[str, Any]:
        """Numbers of the present state, for ``headway doctor`` and the metrics, to one who has these namespaces."""
        by_state: dict[str, int] = {}
        for task in self.state.tasks.values():
            if not may_see(scope, task.options.namespace):
                continue
            name = type(task.state).__name__.lower()
            by_state[name] = by_state.get(name, 0) + 1
        return {
            "tasks": by_state,
            "runtimes": {name: runtime.state for name, runtime in self.state.runtimes.items()},
            "clients": len(self.state.clients),
            "unstored": len(self._unstored.operations),
            "refusing": self.audience.refusing,
            "paused": self._paused,
            "strategy": self.scheduler.binder.name,
            "predictor": self.scheduler.switch.name,
        }
