"""The task table against a plain model, under any order of events: hypothesis drives one controller after another.

The store, two runtimes and two clients are played here, in as few lines as their promises need: a store that commits or
fails each write, runtimes that hold what they were given and report until they are settled, words to them that get lost.
Whatever is drawn, a task that was accepted ends once, with the end that was stored and told.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from controller_bench import Bench, broken, task_id
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headway_bus import messages as m
from headway_bus.errors import StoreError
from headway_bus.ids import AttemptKey, TaskId, digest_of
from headway_bus.records import ENDS, AttemptEnd, Ended, Held, Retry, RuntimeInfo, Started, Status
from headway_controller.state import Ended as EndedState

CLIENTS = ["client-1", "client-2"]
RUNTIMES = ["runtime-1", "runtime-2"]
NUMBERS = range(1, 7)
KINDS: list[dict[str, Any]] = [
    {},
    {"priority": 3},
    {"retry": Retry(max_attempts=2, backoff=0.5)},
    {"retry": Retry(max_losses=1)},
    {"delay": 3.0},
    {"timeout_start": 20.0},
    {"after": [task_id(1)]},
    {"after": [task_id(1), task_id(2)], "after_count": "any", "after_end": "always"},
]
ENDINGS = [AttemptEnd.SUCCEEDED, AttemptEnd.SUCCEEDED, AttemptEnd.FAILED, AttemptEnd.RETURNED]


@dataclass
class Holder:
    """A runtime: what it holds, what it has not been allowed to forget, and what is on its way to it."""

    name: str
    life: int = 0
    held: dict[AttemptKey, str] = field(default_factory=dict)
    reports: dict[int, m.Report] = field(default_factory=dict)
    assigned: int = 0
    answered: bool = False
    inbox: deque[m.Message] = field(default_factory=deque)

    def die(self) -> None:
        self.life += 1
        self.held.clear()
        self.reports.clear()
        self.assigned, self.answered = 0, False

    @property
    def unsettled(self) -> set[AttemptKey]:
        return {(ended.task, ended.attempt) for report in self.reports.values() for ended in report.ended}


class TaskTable(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = self.on_bench(Bench())
        self.runtimes = {name: Holder(name) for name in RUNTIMES}
        self.accepted: set[TaskId] = set()
        self.asked: dict[int, list[TaskId]] = {}
        self.told: dict[TaskId, tuple[Status, int]] = {}
        self.batch = 0

    @staticmethod
    def on_bench(bench: Bench) -> Bench:
        """Writes wait until a rule decides how they go."""
        bench.holding = True
        bench._roles.update(dict.fromkeys(RUNTIMES, "runtime"))
        return bench

    # ------------------------------------------------------------------------------------------ the wire

    def say(self, source: str, message: m.Message) -> None:
        self.bench.hear(source, message)
        self.pump()

    def pump(self) -> None:
        """The end of a wake-up: what was sent goes to those it is for."""
        self.bench.turn()
        sent, self.bench.sent = self.bench.sent, []
        for each in sent:
            if each.target in self.runtimes:
                self.runtimes[each.target].inbox.append(each.message)
            elif each.target in CLIENTS:
                self.hear(each.target, each.message)

    def hear(self, client: str, message: m.Message) -> None:
        match message:
            case m.Accepted(request, _):
                self.accepted.update(self.asked[request])
            case m.TasksEnded(batch, outcomes):
                for outcome in outcomes:
                    end = (outcome.status, outcome.attempt)
                    assert self.told.setdefault(outcome.task, end) == end, "an end was told twice, and differently"
                self.bench.hear(client, m.Received([batch]))

    # ------------------------------------------------------------------------------------------ clients

    @rule(number=st.sampled_from(NUMBERS), kind=st.sampled_from(KINDS), client=st.sampled_from(CLIENTS))
    def submit(self, number: int, kind: dict[str, Any], client: str) -> None:
        if task_id(number) in kind.get("after", ()):
            return
        request = self.bench.ask_submit(number, client=client, again=True, **kind)
        self.asked[request] = [task_id(number)]
        self.pump()

    @rule(number=st.sampled_from(NUMBERS), client=st.sampled_from(CLIENTS))
    def cancel(self, number: int, client: str) -> None:
        self.say(client, m.Cancel(self.bench.request(), [task_id(number)]))

    # ------------------------------------------------------------------------------------------ the store

    @precondition(lambda self: self.bench.unstored)
    @rule()
    def commit(self) -> None:
        write = self.bench.unstored.pop(0)
        known = self.bench.books.apply(write.operations)
        self.bench.controller.on_stored(write.ticket, None, known, self.bench.now)
        self.pump()

    @precondition(lambda self: self.bench.unstored)
    @rule()
    def fail_to_commit(self) -> None:
        write = self.bench.unstored.pop(0)
        self.bench.controller.on_stored(write.ticket, StoreError("the disk is full"), (), self.bench.now)
        self.pump()

    # ------------------------------------------------------------------------------------------ runtimes

    @rule(name=st.sampled_from(RUNTIMES))
    def register(self, name: str) -> None:
        holder = self.runtimes[name]
        holder.answered = False
        held = [Held(*key, phase, 0.0) for key, phase in holder.held.items()]
        held += [Held(*key, "ended", 0.0) for key in holder.unsettled]
        instance = f"{name} {holder.life}".encode()
        self.say(name, m.Register(RuntimeInfo(name, 2.0), instance, held, holder.assigned))

    @rule(name=st.sampled_from(RUNTIMES))
    def beat(self, name: str) -> None:
        holder, digest = self.runtimes[name], 0
        for key in {*holder.held, *holder.unsettled}:
            digest ^= digest_of(*key)
        self.say(name, m.Heartbeat(self.bench.now, holder.assigned, len(holder.held), digest))

    @rule(name=st.sampled_from(RUNTIMES), lost=st.sampled_from([False, False, False, True]))
    def deliver(self, name: str, lost: bool) -> None:
        """The next word to the runtime arrives, or does not."""
        holder = self.runtimes[name]
        if not holder.inbox:
            return
        message = holder.inbox.popleft()
        if lost:
            return
        match message:
            case m.Registered():
                holder.answered, holder.assigned = True, message.first - 1
                self.stop(holder, [(task, number) for task, number in message.stop])
                self.forget(holder, {(task, number) for task, number in message.forget})
            case m.Assign() if holder.answered and message.batch == holder.assigned + 1:
                holder.assigned = message.batch
                for group in message.groups:
                    for task, number, _ in group.attempts:
                        if (task, number) not in holder.unsettled:
                            holder.held.setdefault((task, number), "held")
            case m.Settled(batches):
                for batch in batches:
                    holder.reports.pop(batch, None)
            case m.Stop(attempts):
                self.stop(holder, list(attempts))
            case m.TakeBack(attempts):
                for key in [key for key in attempts if holder.held.get(key) == "held"]:
                    self.report(holder, key, AttemptEnd.RETURNED)
            case m.SendInventory():
                self.register(name)

    def stop(self, holder: Holder, attempts: list[AttemptKey]) -> None:
        for key in [key for key in attempts if key in holder.held]:
            self.report(holder, key, AttemptEnd.CANCELLED)

    def forget(self, holder: Holder, attempts: set[AttemptKey]) -> None:
        for batch, report in list(holder.reports.items()):
            kept = [ended for ended in report.ended if (ended.task, ended.attempt) not in attempts]
            if len(kept) != len(report.ended):
                holder.reports[batch] = m.Report(batch, ended=kept)

    @precondition(lambda self: any(holder.held for holder in self.runtimes.values()))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """An attempt begins; the word of it is in no hand-over, so it may be the only one."""
        holder = data.draw(st.sampled_from([each for each in self.runtimes.values() if each.held]))
        key = data.draw(st.sampled_from(sorted(holder.held)))
        holder.held[key] = "running"
        self.batch += 1
        self.say(holder.name, m.Report(self.batch, started=[Started(*key, 0.0)]))

    @precondition(lambda self: any(holder.held for holder in self.runtimes.values()))
    @rule(data=st.data(), how=st.sampled_from(ENDINGS))
    def end(self, data: st.DataObject, how: AttemptEnd) -> None:
        holder = data.draw(st.sampled_from([each for each in self.runtimes.values() if each.held]))
        self.report(holder, data.draw(st.sampled_from(sorted(holder.held))), how)

    def report(self, holder: Holder, key: AttemptKey, how: AttemptEnd) -> None:
        del holder.held[key]
        self.batch += 1
        error = broken() if how == AttemptEnd.FAILED else None
        report = holder.reports[self.batch] = m.Report(self.batch, ended=[Ended(*key, how, 0.1, error=error)])
        self.say(holder.name, report)

    @rule(name=st.sampled_from(RUNTIMES))
    def report_again(self, name: str) -> None:
        for report in list(self.runtimes[name].reports.values()):
            self.say(name, report)

    @rule(name=st.sampled_from(RUNTIMES))
    def kill_runtime(self, name: str) -> None:
        """Its next process, which says that it holds nothing, comes with ``register``."""
        self.runtimes[name].die()

    # ------------------------------------------------------------------------------------------ time and death

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.bench.wait(seconds)
        self.pump()

    @rule()
    def kill_controller(self) -> None:
        """What was not committed is gone, and what was on its way with it. The next one has the books."""
        self.bench = self.on_bench(self.bench.restarted())
        for holder in self.runtimes.values():
            holder.inbox.clear()
            holder.assigned, holder.answered = 0, False
        self.bench.recover(5.0)
        self.pump()

    # ------------------------------------------------------------------------------------------ what must hold

    @invariant()
    def the_table_agrees_with_itself(self) -> None:
        self.bench.controller.validate()

    @invariant()
    def what_was_accepted_is_in_the_books(self) -> None:
        assert self.accepted <= self.bench.books.rows.keys()

    @invariant()
    def what_was_told_is_in_the_books(self) -> None:
        for task, (status, attempt) in self.told.items():
            end = self.bench.books.rows[task].end
            assert end is not None, "an end was told and is not stored"
            assert (end.status, end.attempt) == (status, attempt)

    @invariant()
    def what_ended_in_the_books_runs_nowhere_in_the_table(self) -> None:
        for task in self.bench.controller.state.tasks.values():
            row = self.bench.books.rows.get(task.id)
            if row is not None and row.end is not None and task.id in self.accepted:
                known_to_be_over = isinstance(task.state, EndedState)
                assert known_to_be_over or self.bench.unstored, "an ended task lives on"

    def teardown(self) -> None:
        """Nothing happens any more but what must: all that was accepted comes to an end."""
        for _ in range(60):
            for name, holder in self.runtimes.items():
                if not holder.answered:
                    self.register(name)
                while holder.inbox:
                    self.deliver(name, False)
                for key in list(holder.held):
                    self.report(holder, key, AttemptEnd.SUCCEEDED)
                self.report_again(name)
                self.beat(name)
            while self.bench.unstored:
                self.commit()
            if all(self.bench.books.rows[task].end for task in self.accepted) and not self.bench.controller.state.tasks:
                break
            self.wait(1.5)
        rows = self.bench.books.rows
        left = [task for task in self.accepted if (end := rows[task].end) is None or end.status not in ENDS]
        assert not left, f"{len(left)} accepted tasks never ended: {self.bench.controller.describe()}"
        assert not self.bench.controller.scheduler.queued


TaskTable.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestTaskTable = TaskTable.TestCase
