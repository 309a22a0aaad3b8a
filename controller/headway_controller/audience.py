"""Clients: what they ask to be done, who waits for what, and the delivery of ends. Pure.

An end is delivered when it is stored, in batches that the client acknowledges. A client that is away is not written to:
when it is back it says what it still waits for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from headway_bus.handover import Batch
from headway_bus.ids import TaskId, short_text, text_of
from headway_bus.messages import (
    Accepted,
    Await,
    Changed,
    Denied,
    DrainRuntime,
    Group,
    Received,
    Submit,
    TasksEnded,
)
from headway_bus.records import Code, ErrorInfo, Estimate, Options, Outcome, Reason, Status
from headway_controller.checks import find_cycle, find_fault, find_file_fault, find_task_fault
from headway_controller.effects import ReadOutcomes, TellUnknown
from headway_controller.fleet import Fleet
from headway_controller.life import Life
from headway_controller.placement import Scheduler
from headway_controller.state import (
    UNHEARD,
    Bytes,
    Client,
    ControllerState,
    Ended,
    Queued,
    Task,
    owner_of,
)
from headway_controller.store.protocol import NewTasks
from headway_controller.store.sealing import MISSING
from headway_controller.tenancy import Tenancy
from headway_controller.turn import Turn
from headway_controller.unions import Unions
from headway_controller.usage import Quotas, shares_of
from headway_controller.values import INLINE_BYTES, pack_outcome, size_of, unpack_value

WINDOW_BATCHES = 64
"""Batches of ends that may be unacknowledged by one client."""

REMEMBERED_DENIALS = 10_000

WINDOW_BYTES = 64 * 1024 * 1024
BATCH_COUNT = 1_000
BATCH_BYTES = 1_048_576


class Audience:
    """The clients."""

    def __init__(
        self,
        state: ControllerState,
        turn: Turn,
        scheduler: Scheduler,
        life: Life,
        fleet: Fleet,
        unions: Unions,
        quotas: Quotas,
        payload_limit: int,
        file_limit: int,
    ) -> None:
        self.state = state
        self.turn = turn
        self.scheduler = scheduler
        self.life = life
        self.fleet = fleet
        self.unions = unions
        self.quotas = quotas
        self.tenancy = Tenancy(state)
        self.payload_limit = payload_limit
        self.file_limit = file_limit
        self.can_seal = True
        """Whether secret arguments can be encrypted where they are stored."""

        self.refusing = ""
        """Why submissions are refused at present; empty: they are not."""

        self._denied: OrderedDict[tuple[str, int], tuple[TaskId, Denied]] = OrderedDict()

    # ------------------------------------------------------------------------------------------- submissions

    def on_submit(self, name: str, message: Submit, frames: Sequence[Bytes], now: float) -> None:
        """New tasks, whole or not at all; those that are known already stay as they are."""
        if message.again and self._was_denied(name, message):
            return
        message, fault = self.tenancy.confine(name, message)
        fault = fault or self._find_fault(name, message, frames)
        if fault is not None:
            first = next((task_id for group in message.groups for task_id, _ in group.tasks), None)
            self.deny(name, message.request, first, *fault)
            return
        self._client(name)
        known: list[TaskId] = []
        admitted: list[Task] = []
        options = self.life.intern(message.groups[0].options) if message.groups else None
        runtime, starts = "", None
        if options is not None and options.union is None:
            runtime, starts = self.scheduler.start(options, now, owner_of(name))
        for group in message.groups:
            new, old = self._admit_group(name, group, message, frames, now)
            admitted += new
            known += old
            if old and message.watch:
                self._watch(name, old)
        count = len(admitted)
        if options is not None and starts is not None and starts.known:
            self._note_prediction(options, admitted, starts, now, owner_of(name))
        accepted = Accepted(message.request, count + len(known), len(known), runtime, starts)
        self.turn.due.accepted.append((name, accepted))
        self.turn.due.together = message.together
        self.turn.due.new.append(admitted)
        self.turn.due.known.append(known)
        self.state.counters["tasks.accepted"] += count
        self.state.counters["tasks.repeated"] += len(known)

    def deny(self, name: str, request: int, task_id: TaskId | None, code: Code, text: str = "") -> None:
        """Refuse a submission, of which ``task_id`` is one; without a text, because the store cannot take it."""
        denied = Denied(request, code, text or self.refusing)
        self.state.counters[f"submissions.denied.{code}"] += 1
        self.turn.send(name, denied)
        if task_id is not None:
            if len(self._denied) >= REMEMBERED_DENIALS:
                self._denied.popitem(last=False)
            self._denied[(name, request)] = (task_id, denied)

    def _was_denied(self, name: str, message: Submit) -> bool:
        """Whether this is a copy of what was denied: its sender has heard, or will hear, that nothing was done of it.

        Only a copy of a submission that may succeed now matters: one that was stored by another way is accepted.
        """
        task_id, denied = self._denied.get((name, message.request), (None, None))
        if denied is None or not any(task_id == each for group in message.groups for each, _ in group.tasks):
            return False
        if all(self.life.status(each) is not None for group in message.groups for each, _ in group.tasks):
            return False
        self.turn.send(name, denied)
        return True

    def _admit_group(
        self, name: str, group: Group, message: Submit, frames: Sequence[Bytes], now: float
    ) -> tuple[list[Task], list[TaskId]]:
        life, tasks = self.life, self.state.tasks
        options = life.intern(group.options)
        submitted = now + life.wall_offset
        watchers = (name,) if message.watch else ()
        queued = Queued(now)
        new: list[Task] = []
        known: list[TaskId] = []
        ready: list[TaskId] = []
        rows: list[tuple[TaskId, object]] = []
        for task_id, payload in group.tasks:
            if task_id in tasks or task_id in life.recent:
                known.append(task_id)
                continue
            value = unpack_value(payload, frames)
            task = Task(task_id, options, value, name, submitted, queued, watchers=watchers)
            new.append(task)
            rows.append((task_id, value))
            if life.admit(task, now, message.again):
                ready.append(task_id)
        life.usage.add(new)
        if ready:
            self.scheduler.enqueue_many(options, ready, now, owner_of(name))
        if rows:
            self.turn.store(NewTasks(options, submitted, name, rows))  # type: ignore[arg-type]
        return new, known

    def _find_fault(self, name: str, message: Submit, frames: Sequence[Bytes]) -> tuple[Code, str] | None:
        if fault := self._find_excess(name, message, frames):
            return fault
        parents: dict[TaskId, list[TaskId]] = {}
        for group in message.groups:
            text = ""
            if not self.life.is_known(group.options):
                text = find_fault(group.options) or find_file_fault(group.options, self.file_limit)
            if group.options.secret and not self.can_seal:
                text = MISSING
            text = text or find_task_fault(group, len(frames), self.payload_limit)
            if text:
                return Code.INVALID, text
            if group.options.after:
                parents.update((task_id, group.options.after) for task_id, _ in group.tasks)
        return self._find_dependency_fault(message, parents) if parents else None

    def _find_excess(self, name: str, message: Submit, frames: Sequence[Bytes]) -> tuple[Code, str] | None:
        """Whether there is no place for these tasks at present, and why."""
        text = self.life.usage.exceeded(self.quotas, name, shares_of(message.groups, frames))
        if not self.refusing and not text:
            return None
        # What was stored before and is only said once more cannot be refused any more.
        shares = shares_of(message.groups, frames, lambda task_id: self.life.status(task_id) is None)
        if not shares:
            return None
        if self.refusing:
            return Code.STORE, self.refusing
        text = self.life.usage.exceeded(self.quotas, name, shares)
        return (Code.LIMIT, text) if text else None

    def _find_dependency_fault(self, message: Submit, parents: dict[TaskId, list[TaskId]]) -> tuple[Code, str] | None:
        circle = find_cycle(parents)
        if circle:
            path = " → ".join(short_text(each) for each in [*circle, circle[0]])
            return Code.CYCLE, f"these tasks come after one another in a circle: {path}"
        here = {task_id for group in message.groups for task_id, _ in group.tasks}
        for task_id, after in parents.items():
            for parent in after:
                if parent not in here and self.life.status(parent) is None:
                    return (
                        Code.NOT_FOUND,
                        f"task {short_text(task_id)} comes after {text_of(parent)}, which is not known",
                    )
        return None

    def _note_prediction(self, options: Options, admitted: list[Task], first: Estimate, now: float, owner: str) -> None:
        """Keep what was foretold with each task, to be compared with what came: from the first's wait to the last's."""
        if len(admitted) == 1:
            admitted[0].predicted = first.expectation
            return
        _, last = self.scheduler.start(options, now, owner)
        step = (last.expectation - first.expectation) / max(1, len(admitted))
        for place, task in enumerate(admitted):
            task.predicted = max(0.0, first.expectation + place * step)

    def unknown_ids(self, message: Submit) -> list[TaskId]:
        """Ids in a submission that only the store may know: what they come after, and what was named or sent before."""
        found: list[TaskId] = []
        for group in message.groups:
            found += [parent for parent in group.options.after if self.life.status(parent) is None]
            if group.options.key or message.again:
                found += [task_id for task_id, _ in group.tasks if self.life.status(task_id) is None]
        return found

    # ------------------------------------------------------------------------------------------- waiting for ends

    def on_await(self, name: str, message: Await, now: float) -> None:
        """A client says what it still waits for."""
        self._client(name)
        self._watch(name, message.tasks)
        self.turn.send(name, Accepted(message.request, len(message.tasks)))

    def _watch(self, name: str, task_ids: Iterable[TaskId]) -> None:
        to_read, hidden = [], []
        for task_id in task_ids:
            task = self.state.tasks.get(task_id)
            if task is None:
                to_read.append(task_id)
            elif not self.tenancy.sees(name, task):
                hidden.append(task_id)
            elif name not in task.watchers:
                task.watchers = (*task.watchers, name)
        if to_read:
            self.turn.effects.append(ReadOutcomes(name, to_read))
        if hidden:
            self.turn.effects.append(TellUnknown(name, hidden))

    def on_outcomes(
        self,
        name: str,
        outcomes: Sequence[Outcome],
        missing: Sequence[TaskId],
        now: float,
        hidden: Sequence[TaskId] = (),
    ) -> None:
        """What the store said of tasks that a client waits for. ``hidden``: they are none of its business."""
        client = self.state.clients.get(name)
        if client is None:
            return  # gone: it says what it waits for when it is back
        client.ready.extend(outcomes)
        client.ready.extend(_unknown(task_id) for task_id in hidden)
        again = [task_id for task_id in missing if task_id in self.life.recent]
        if again:  # came and ended while the store was being read
            self.turn.effects.append(ReadOutcomes(name, again))
        for task_id in missing:
            if task_id in self.life.recent:
                continue
            task = self.state.tasks.get(task_id)
            if task is None or not self.tenancy.sees(name, task):
                client.ready.append(_unknown(task_id))
            elif name not in task.watchers:  # it came in while the store was being read
                task.watchers = (*task.watchers, name)
        self.deliver(client, now)

    def on_received(self, name: str, message: Received, now: float) -> None:
        """Batches that arrived; the window moves on."""
        client = self._client(name)
        client.outbox.acknowledge(message.batches)
        self.deliver(client, now)

    def on_gone(self, name: str) -> None:
        """A client went away, or was cut off. Its tasks go on; it will say what it waits for when it is back."""
        self.state.scopes.pop(name, None)
        client = self.state.clients.pop(name, None)
        if client is not None:
            client.connected = False
            client.outbox.clear()
            client.ready.clear()

    def on_ended_stored(self, tasks: Iterable[Task], now: float) -> None:
        """These ends are stored: tell those who wait."""
        known = self.state.clients
        clients: dict[str, Client] = {}
        tasks = list(tasks)
        for task in tasks:
            state = task.state
            assert isinstance(state, Ended)
            for name in task.watchers:
                client = clients.get(name) or known.get(name)
                if client is not None and self.tenancy.sees(name, task):
                    client.ready.append(state.outcome)
                    clients[name] = client
        self.life.forget(tasks)
        for client in clients.values():
            self.deliver(client, now)

    def deliver(self, client: Client, now: float) -> None:
        """Send as many ends as the client's window allows."""
        outbox, ready = client.outbox, client.ready
        while ready and len(outbox) < WINDOW_BATCHES and outbox.weight < WINDOW_BYTES:
            frames: list[Bytes] = []
            outcomes: list[Outcome] = []
            size = 0
            while ready and len(outcomes) < BATCH_COUNT and size < BATCH_BYTES:
                outcome = ready.popleft()
                result = outcome.result
                if type(result) is bytes and outcome.error is None and len(result) <= INLINE_BYTES:
                    size += len(result)
                    outcomes.append(outcome)
                    continue
                if self._came_since(client, outcome):
                    continue
                size += size_of(result) if not isinstance(result, int) else 0
                if outcome.error is not None:  # a thousand tracebacks are more than a header may hold
                    size += len(outcome.error.message) + len(outcome.error.traceback)
                outcomes.append(pack_outcome(outcome, frames))
            self._send_batch(client, outbox.add((outcomes, frames), size + 64 * len(outcomes)), now)

    def resend(self, client: Client, now: float) -> None:
        """Send overdue batches again."""
        for batch in client.outbox.due(now):
            self.state.counters["repeats.ended"] += 1
            outcomes, frames = batch.content
            batch.content = ([each for each in outcomes if not self._came_since(client, each)], frames)
            ended = [each.task for each in batch.content[0] if _is_unknown(each) and each.task in self.life.recent]
            if ended:
                batch.content = ([each for each in batch.content[0] if each.task not in ended], frames)
                self.turn.effects.append(ReadOutcomes(client.name, ended))
            self._send_batch(client, batch, now)

    def _came_since(self, client: Client, outcome: Outcome) -> bool:
        """Whether the word that nobody knows a task is not true any more, because it was submitted (again) since.

        If so the client hears of the task's end instead.
        """
        task = self.state.tasks.get(outcome.task) if _is_unknown(outcome) else None
        if task is None or not self.tenancy.sees(client.name, task):
            return False
        if client.name not in task.watchers:
            task.watchers = (*task.watchers, client.name)
        return True

    def _send_batch(self, client: Client, batch: Batch[tuple[list[Outcome], list[Bytes]]], now: float) -> None:
        client.outbox.sent(batch, now)
        outcomes, frames = batch.content
        # Only once: if this is lost, the submission is repeated, and answered then.
        accepted, client.accepted = client.accepted, []
        self.turn.send(client.name, TasksEnded(batch.number, outcomes, accepted), tuple(frames))

    def accept(self, name: str, accepted: Accepted, together: bool) -> None:
        """Answer a submission that is stored, now or, ``together``, with the end that :meth:`on_ended_stored` tells next."""
        client = self.state.clients.get(name) if together else None
        if client is not None:
            client.accepted.append(accepted)
        else:
            self.turn.send(name, accepted)

    def accept_alone(self, name: str) -> None:
        """No end went out to take these acceptances along: nobody waits for it, or the window is full."""
        client = self.state.clients.get(name)
        if client is not None and client.accepted:
            for accepted in client.accepted:
                self.turn.send(name, accepted)
            client.accepted = []

    def _client(self, name: str) -> Client:
        client = self.state.clients.get(name)
        if client is None:
            client = self.state.clients[name] = Client(name)
        return client

    # ------------------------------------------------------------------------------------------- verbs

    def on_drain(self, name: str, message: DrainRuntime, now: float) -> None:
        """Drain a runtime, or take that back."""
        runtime = self.state.runtimes.get(message.runtime)
        if runtime is None or runtime.state in UNHEARD:
            known = (
                ", ".join(sorted(each for each, it in self.state.runtimes.items() if it.state not in UNHEARD)) or "none"
            )
            text = f"no runtime {message.runtime!r} is online; online: {known}"
            self.turn.send(name, Denied(message.request, Code.NOT_FOUND, text))
            return
        self.fleet.set_drain(message.runtime, not message.resume, now)
        self.turn.send(name, Changed(message.request, 1))


def _unknown(task_id: TaskId) -> Outcome:
    """What is said of a task that nobody knows, or that whoever asks has no business with."""
    text = "this controller does not know the task: it was purged, or the controller keeps nothing (durability memory)"
    return Outcome(task_id, Status.FAILED, 0, error=ErrorInfo(Reason.LOST, text))


def _is_unknown(outcome: Outcome) -> bool:
    return outcome.attempt == 0 and outcome.error is not None and outcome.error.reason == Reason.LOST
