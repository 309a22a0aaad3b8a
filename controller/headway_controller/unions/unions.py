"""Carries out what ``decide`` says: makes parts and merges, notes their ends, closes rounds, ends the union. Pure.

The parts are ordinary tasks, so that everything that holds for tasks holds for them: stored before they are given out, kept for
a runtime that is away, adopted after a restart, followed, cancelled and listed by themselves. A union is the task of which they
are parts; it runs nowhere, and its state is ``Gathering``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

import msgspec

from headway_bus import payloads
from headway_bus.ids import TaskId, part_task_id, short_text, text_of
from headway_bus.records import ErrorInfo, Kind, Options, Outcome, Part, Reason, Requirements, Status, Union
from headway_bus.selector import parse, selects
from headway_controller.assignments import Assignments
from headway_controller.effects import Join
from headway_controller.life import Life
from headway_controller.placement import Scheduler
from headway_controller.state import ControllerState, Ended, Gathering, PendingCancel, Queued, Task, Value, owner_of
from headway_controller.store.protocol import NewTasks, SaveState
from headway_controller.turn import Turn
from headway_controller.unions.decide import (
    Begin,
    Close,
    Fail,
    Finish,
    Merge,
    NextRound,
    Wait,
    decide,
)
from headway_controller.unions.progress import MISSING, OPEN, Member, Progress, Round

REASONS = {Status.EXPIRED: Reason.TIMEOUT_RUN, Status.CANCELLED: Reason.CANCELLED}

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Progress).decode


def state_key(union: TaskId) -> str:
    """Under which name a union's progress is stored."""
    return "union." + text_of(union)


class Unions:
    """The unions that have begun."""

    def __init__(
        self, state: ControllerState, turn: Turn, scheduler: Scheduler, life: Life, assignments: Assignments
    ) -> None:
        self._state = state
        self._turn = turn
        self._scheduler = scheduler
        self._life = life
        self._assignments = assignments
        self._progress: dict[TaskId, Progress] = {}
        self._due: dict[TaskId, None] = {}
        self._joining: dict[TaskId, tuple[str, ...]] = {}
        """Unions whose next payload is being put together, and the edges whose values go into it."""

        self._failed_merges: dict[TaskId, ErrorInfo | None] = {}
        self._edgeless: dict[TaskId, None] = {}
        """Unions that wait for runtimes to come."""

        self._timers: list[tuple[float, TaskId]] = []
        self._timed: dict[TaskId, float] = {}
        self._roster = 0

    # ------------------------------------------------------------------------------------------- events

    def restore(self, union: TaskId, saved: bytes, statuses: Mapping[TaskId, Status]) -> None:
        """How far an earlier controller was. ``statuses``: of those of its parts that have ended, or are known at all."""
        progress = self._progress[union] = _decode(saved)
        for member in progress.members.values():
            if member.status == OPEN:
                status = statuses.get(member.task)
                member.status = MISSING if status is None else str(status) if status not in _LIVE else OPEN
        if not progress.merging or (status := statuses.get(TaskId(progress.merging))) in _LIVE:
            return
        if status == Status.SUCCEEDED:
            progress.merged, progress.merging = progress.merging, b""
        else:
            self._failed_merges[union] = None

    @staticmethod
    def parts_in(saved: bytes) -> list[TaskId]:
        """The tasks whose ends :meth:`restore` wants to know."""
        progress = _decode(saved)
        found = [member.task for member in progress.members.values() if member.status == OPEN]
        return [*found, TaskId(progress.merging)] if progress.merging else found

    def on_ended_stored(self, tasks: Iterable[Task]) -> None:
        """These ends are stored."""
        for task in tasks:
            if task.options.part is not None:
                self._on_part_ended(task, task.options.part)
            elif task.options.union is not None:
                self._drop(task.id)

    def _on_part_ended(self, task: Task, part: Part) -> None:
        progress = self._progress.get(part.union)
        assert isinstance(task.state, Ended)
        outcome = task.state.outcome
        if progress is None:
            return
        if not part.edge:
            self._on_merged(progress, part.union, outcome)
        else:
            member = progress.members.get(part.edge)
            if member is not None and member.task == task.id and member.status == OPEN:
                member.status = str(outcome.status)
        self._due[part.union] = None

    def _on_merged(self, progress: Progress, union: TaskId, outcome: Outcome) -> None:
        if progress.merging != outcome.task:
            return
        if outcome.status == Status.SUCCEEDED:
            progress.merged, progress.merging = outcome.task, b""
            self._save(union, progress)
        else:
            self._failed_merges[union] = outcome.error

    def on_joined(self, join: Join, payload: Value, count: int, error: str, now: float) -> None:
        """The payload that was wanted is there, with so many of its sources in it; or (``error``) it cannot be made."""
        edges = self._joining.pop(join.union, None)
        task, progress = self._state.tasks.get(join.union), self._progress.get(join.union)
        if edges is None or task is None or progress is None or not isinstance(task.state, Gathering):
            return
        if error:
            self._end(task, progress, Status.FAILED, ErrorInfo(Reason.TOO_LARGE, error), now)
        elif join.call is not None:
            self._begin_round(task, progress, payload, now)
        else:
            self._begin_merge(task, progress, payload, edges[: count - bool(progress.merged)], now)
        self._due[join.union] = None

    def cancel(self, task: Task, now: float) -> list[Task]:
        """The whole union is to be cancelled: ends it, and returns the parts that must end, too."""
        parts = self.parts_of(task.id)
        if isinstance(task.state, Gathering) and (progress := self._progress.get(task.id)) is not None:
            self._finish(task, progress, Status.CANCELLED, ErrorInfo(Reason.CANCELLED, "cancelled"), now)
        return parts

    def parts_of(self, union: TaskId) -> list[Task]:
        """Its parts that have not ended."""
        progress = self._progress.get(union)
        if progress is None:
            return []
        ids = [*(member.task for member in progress.members.values()), TaskId(progress.merging)]
        return [task for each in ids if (task := self._state.tasks.get(each)) and not isinstance(task.state, Ended)]

    def describe(self, task: Task) -> dict[str, object]:
        """How far it is, as plain data."""
        progress = self._progress.get(task.id)
        return progress.summary() if progress is not None else {"round": 0, "edges": {}, "missing": [], "rounds": []}

    # ------------------------------------------------------------------------------------------- steps

    def step(self, roster: int, now: float) -> None:
        """Do what is due. ``roster`` changes whenever a runtime comes or goes."""
        for begun in self._life.take_gathered():
            if begun.id not in self._progress:
                self._progress[begun.id] = Progress(begun.attempt, now + self._life.wall_offset)
            self._due[begun.id] = None
        if roster != self._roster:
            self._roster = roster
            self._due.update(self._edgeless)
        while self._timers and self._timers[0][0] <= now:
            _, union = heapq.heappop(self._timers)
            self._timed.pop(union, None)
            self._due[union] = None
        due, self._due = self._due, {}
        for union in due:
            task, progress = self._state.tasks.get(union), self._progress.get(union)
            while task is not None and progress is not None and isinstance(task.state, Gathering):
                if not self._advance(task, progress, now):
                    break

    def next_time(self) -> float | None:
        """When :meth:`step` has something to do, if that is known."""
        return self._timers[0][0] if self._timers else None

    def _advance(self, task: Task, progress: Progress, now: float) -> bool:
        """One decision. True if there may be another to make at once."""
        plan = _plan_of(task)
        if task.id in self._failed_merges:
            # The union's end; what the edges returned stays where it is.
            self._fail_by_merge(task, progress, self._failed_merges[task.id], now)
            return False
        if task.id in self._joining:
            return False
        match decide(plan, progress, now + self._life.wall_offset):
            case Begin():
                return self._open_round(task, progress, now)
            case Close():
                self._close(progress, now)
                self._save(task.id, progress)
            case Merge(edges):
                before = [TaskId(progress.merged)] if progress.merged else []
                sources = before + [progress.members[edge].task for edge in edges]
                self._join(task, Join(task.id, None, sources, plan.associative), edges)
                return False
            case NextRound():
                self._next_round(progress, now)
                self._save(task.id, progress)
            case Finish():
                self._end(task, progress, Status.SUCCEEDED, None, now)
            case Fail(status, text):
                self._end(task, progress, status, ErrorInfo(REASONS.get(status, Reason.DEPENDENCY), text), now)
            case Wait(until) if until:
                self._set_timer(task.id, until)
                return False
            case _:
                return False
        return True

    def _fail_by_merge(self, task: Task, progress: Progress, told: ErrorInfo | None, now: float) -> None:
        merge = short_text(progress.merging)
        head = f"the merge {_plan_of(task).merge} of round {progress.round} (task {merge}) failed"
        if told is None:
            error = ErrorInfo(Reason.EXCEPTION, head)
        else:
            kind = told.type.removeprefix("builtins.")
            text = f"{head}: {kind + ': ' if kind else ''}{told.message}"
            error = ErrorInfo(told.reason, text, "", told.traceback, told.exit_code, told.signal)
        self._end(task, progress, Status.FAILED, error, now)

    # ------------------------------------------------------------------------------------------- rounds

    def _open_round(self, task: Task, progress: Progress, now: float) -> bool:
        edges = self._matching(_plan_of(task))
        if len(edges) < _plan_of(task).least:
            self._edgeless[task.id] = None
            plan = _plan_of(task)
            if plan.deadline:
                self._set_timer(task.id, progress.opened + plan.deadline)
            return False
        self._edgeless.pop(task.id, None)
        if progress.fed and _plan_of(task).feeds:
            self._join(task, Join(task.id, task.payload, [TaskId(progress.fed)], False), tuple(edges))
            return False
        self._begin_round(task, progress, task.payload, now)
        return True

    def _matching(self, plan: Union) -> list[str]:
        """Runtimes that are meant. One that is away gets its part when it is back; of several rounds it misses this one."""
        selector = parse(plan.edges)
        states = {"online"} if plan.rounds > 1 else {"online", "offline"}
        return sorted(
            name
            for name, runtime in self._state.runtimes.items()
            if runtime.state in states and selects(selector, name, runtime.info.labels)
        )

    def _begin_round(self, task: Task, progress: Progress, payload: Value, now: float) -> None:
        edges = self._matching(_plan_of(task))
        if len(edges) < _plan_of(task).least:  # they went while the payload was put together
            self._edgeless[task.id] = None
            return
        progress.round += 1
        progress.members = {}
        for edge in edges:
            part = part_task_id(task.id, progress.run, progress.round, edge)
            progress.members[edge] = Member(part)
            self._make(task, part, _part_options(task, progress.round, edge), payload, now)
        self._save(task.id, progress)

    def _begin_merge(self, task: Task, progress: Progress, payload: Value, edges: tuple[str, ...], now: float) -> None:
        for edge in edges:
            progress.members[edge].taken = True
        progress.merges += 1
        no_edge = f"\0merge {progress.merges}"  # nobody can be called so
        merge = part_task_id(task.id, progress.run, progress.round, no_edge)
        progress.merging = merge
        self._make(task, merge, _merge_options(task, progress.round), payload, now)
        self._save(task.id, progress)

    def _make(self, union: Task, task_id: TaskId, options: Options, payload: Value, now: float) -> None:
        options = self._life.intern(options)
        submitted = now + self._life.wall_offset
        task = Task(task_id, options, payload, union.client, submitted, Queued(now))
        self._turn.store(NewTasks(options, submitted, union.client, [(task_id, payload)]))
        self._life.usage.add((task,))
        if self._life.admit(task, now):
            self._scheduler.enqueue_many(options, [task_id], now, owner_of(union.client))
        self._state.counters["unions.parts"] += 1

    def _close(self, progress: Progress, now: float) -> None:
        progress.is_closed = True
        late = [self._state.tasks.get(progress.members[edge].task) for edge in progress.open]
        for edge in progress.open:
            progress.members[edge].status = MISSING
        self._stop([task for task in late if task is not None], "its round is over", now)

    def _next_round(self, progress: Progress, now: float) -> None:
        self._note_round(progress, now)
        progress.fed, progress.merged = progress.merged, b""
        progress.members, progress.is_closed, progress.merges = {}, False, 0
        progress.opened = now + self._life.wall_offset

    def _note_round(self, progress: Progress, now: float) -> None:
        seconds = now + self._life.wall_offset - progress.opened
        progress.note(Round(progress.round, progress.succeeded, progress.missing, progress.merged, seconds))

    # ------------------------------------------------------------------------------------------- ends

    def _end(self, task: Task, progress: Progress, status: Status, error: ErrorInfo | None, now: float) -> None:
        parts = self.parts_of(task.id)
        self._finish(task, progress, status, error, now)
        self._stop(parts, "the union is over", now)

    def _finish(self, task: Task, progress: Progress, status: Status, error: ErrorInfo | None, now: float) -> None:
        if progress.members:
            if not progress.is_closed:
                for member in progress.members.values():
                    member.status = member.status or MISSING
            self._note_round(progress, now)
        self._life.end_gathering(task, status, payloads.encode(progress.summary()), error, now)
        self._turn.store(SaveState(state_key(task.id), None))
        self._drop(task.id)

    def _drop(self, union: TaskId) -> None:
        self._progress.pop(union, None)
        self._joining.pop(union, None)
        for table in (self._due, self._edgeless):
            table.pop(union, None)
        self._failed_merges.pop(union, None)
        self._timed.pop(union, None)

    def _stop(self, tasks: list[Task], why: str, now: float) -> None:
        """Nobody wants these any more; those that run are told so until they are over."""
        running = [task for task in tasks if not isinstance(task.state, Ended) and not self._life.cancel(task, now)]
        if running:
            self._assignments.stop(running, why)
            self._state.cancels.append(PendingCancel("", 0, {task.id for task in running}, 0, []))

    def _set_timer(self, union: TaskId, until: float) -> None:
        """Look at it at that Unix time. One timer for each: it is asked for whenever a part ends."""
        if self._timed.get(union) != until:
            self._timed[union] = until
            heapq.heappush(self._timers, (until - self._life.wall_offset, union))

    def _save(self, union: TaskId, progress: Progress) -> None:
        self._turn.store(SaveState(state_key(union), _encode(progress)))

    def _join(self, task: Task, join: Join, edges: tuple[str, ...]) -> None:
        self._joining[task.id] = edges
        self._turn.effects.append(join)


_LIVE = (Status.WAITING, Status.QUEUED, Status.ASSIGNED, Status.RUNNING)


def _plan_of(task: Task) -> Union:
    plan = task.options.union
    assert plan is not None, f"task {short_text(task.id)} is no union"
    return plan


def _job_of(task: Task) -> str:
    return task.options.job or "union-" + text_of(task.id)


def _part_options(task: Task, number: int, edge: str) -> Options:
    """The options of the part on that edge: the union's, pinned there, without what the union itself has waited for."""
    options, plan = task.options, _plan_of(task)
    name = f"{options.name or options.target[:200]} @ {edge}" + (f" round {number}" if plan.rounds > 1 else "")
    return msgspec.structs.replace(
        options,
        name=name[:1_000],
        job=_job_of(task),
        requirements=msgspec.structs.replace(options.requirements, runtime=edge),
        after=[],
        delay=0.0,
        timeout_start=0.0,
        offline=options.offline or plan.deadline,  # what an edge finishes while it is cut off still counts until then
        idempotent=False,
        key="",
        union=None,
        replaces=TaskId(b""),
        part=Part(task.id, number, edge),
    )


def _merge_options(task: Task, number: int) -> Options:
    options, plan = task.options, _plan_of(task)
    return Options(
        Kind.CALL,
        plan.merge,
        f"{options.name or options.target[:200]} merge round {number}"[:1_000],
        _job_of(task),
        options.queue,
        options.priority,
        Requirements(labels=plan.merge_labels),
        retention=options.retention,
        namespace=options.namespace,
        part=Part(task.id, number, ""),
    )
