"""The store against a dict: whatever is written, in whatever groups, with the store closed and opened in between.

Operations are drawn one after the other and applied to the model one after the other, while the store takes several
writes as one commit and sorts them. So the model also proves that grouping and sorting cannot be seen.
"""

from __future__ import annotations

import queue
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headway_bus.ids import RANDOM_BYTES, TIME_BYTES, TaskId, text_of
from headway_bus.records import ENDS, Blob, ErrorInfo, Kind, LogRecord, Options, Reason, Status
from headway_controller.store import (
    AppendLogs,
    Described,
    DescribeTask,
    DropTasks,
    Durability,
    EndTask,
    NewTasks,
    Operation,
    Receipt,
    SaveState,
    StoredTask,
    TaskFilter,
    UpdateTask,
    blob_of,
)
from headway_controller.store.sqlite_store import SqliteStore

# Few ids, of two times and with random parts that share their beginning, so that they meet often.
TASKS = [
    TaskId(time.to_bytes(TIME_BYTES, "big") + bytes([first]) + bytes(RANDOM_BYTES - 2) + bytes([last]))
    for time in (1_700_000_000_000, 1_700_000_000_001)
    for first in (0, 255)
    for last in range(2)
]
OPTIONS = [
    Options(Kind.CALL, "math:sqrt", job="roots"),
    Options(Kind.CALL, "math:sqrt", job="roots", queue="slow", name="with a name"),
    Options(Kind.COMMAND, "true", key="nightly"),
    Options(Kind.COMMAND, "false"),
]
BLOBS = [blob_of(b"one"), blob_of(b"two")]

tasks = st.sampled_from(TASKS)
small = st.integers(0, 3)
times = st.integers(0, 5).map(float)
values = st.one_of(st.binary(max_size=4), st.sampled_from(BLOBS))
errors = st.one_of(st.none(), st.just(ErrorInfo(Reason.EXCEPTION, "no", exit_code=3)))
expiries = st.one_of(st.none(), times)
records = st.builds(LogRecord, tasks, st.integers(1, 2), small, st.just("stdout"), times, st.text(max_size=3))
new_tasks = st.builds(
    NewTasks,
    st.sampled_from(OPTIONS),
    times,
    st.sampled_from(["a", "b"]),
    st.lists(st.tuples(tasks, values), min_size=1, max_size=5),
)
any_end = st.builds(
    EndTask,
    tasks,
    st.sampled_from(sorted(ENDS)),
    small,
    times,
    times,
    times,
    st.just("r"),
    values,
    errors,
    small,
    small,
)
lone_task = st.builds(
    NewTasks,
    st.sampled_from(OPTIONS),
    times,
    st.just("a"),
    st.lists(st.tuples(tasks, values), min_size=1, max_size=1),
)
lone_end = st.builds(EndTask, tasks, st.just(Status.SUCCEEDED), small, times, times, times, st.just("r"), values)
good_end = st.builds(
    EndTask, tasks, st.just(Status.SUCCEEDED), small, times, expires=expiries, story=st.binary(max_size=2)
)
update = st.builds(UpdateTask, tasks, small, small, small, times, st.binary(max_size=2), st.booleans())
append = st.builds(AppendLogs, st.lists(records, max_size=4), st.dictionaries(tasks, st.integers(1, 2), max_size=2))
describe = st.builds(DescribeTask, tasks, st.builds(Described, st.text(max_size=3), times, st.binary(max_size=2)))
drop = st.builds(DropTasks, st.lists(tasks, min_size=1, max_size=3))
save = st.builds(SaveState, st.sampled_from(["x", "y"]), st.one_of(st.none(), st.binary(max_size=3)))
operations = st.one_of(new_tasks, any_end, good_end, update, append, describe, drop, save)


def writes_of(operation: st.SearchStrategy[Operation], most: int) -> st.SearchStrategy[list[list[Operation]]]:
    """Several writes that will meet in one commit."""
    return st.lists(st.lists(operation, min_size=1, max_size=most), min_size=1, max_size=3)


@dataclass
class Row:
    """What the model knows of one task."""

    options: Options
    submitted: float
    client: str
    payload: Any
    standing: UpdateTask
    end: EndTask | None = None
    logs: dict[tuple[int, int], LogRecord] = field(default_factory=dict)
    dropped: int = 0
    described: Described | None = None


class Model:
    """The same promises, kept by a dict, whose order is the order of submission."""

    def __init__(self) -> None:
        self.rows: dict[TaskId, Row] = {}
        self.state: dict[str, bytes] = {}

    def apply(self, operation: Operation) -> list[TaskId]:
        """The new tasks of the operation that were known."""
        known: list[TaskId] = []
        match operation:
            case NewTasks(options, submitted, client, new):
                for task, payload in new:
                    if task in self.rows:
                        known.append(task)
                    else:
                        self.rows[task] = Row(options, submitted, client, payload, UpdateTask(task))
            case EndTask(task=task) if task in self.rows and self.rows[task].end is None:
                self.rows[task].end = operation
            case UpdateTask(task=task, reopen=reopen) if task in self.rows and (reopen or self.rows[task].end is None):
                self.rows[task].end = None
                self.rows[task].standing = operation
            case DescribeTask(task=task, described=described) if task in self.rows:
                self.rows[task].described = described
            case AppendLogs(records=found, dropped=dropped):
                for record in found:
                    if record.task in self.rows:
                        self.rows[record.task].logs.setdefault((record.attempt, record.sequence), record)
                for task, count in dropped.items():
                    if task in self.rows:
                        self.rows[task].dropped += count
            case DropTasks(tasks=gone):
                for task in gone:
                    self.rows.pop(task, None)
            case SaveState(key, value):
                self.state.pop(key, None)
                if value is not None:
                    self.state[key] = value
        return known

    def is_in_order(self, batch: list[Operation]) -> bool:
        """Whether no operation speaks of a task before, in the same batch, that task is made.

        The store is free to let such an operation find the task; the controller does not write that.
        """
        present = set(self.rows)
        spoken: set[TaskId] = set()
        for operation in batch:
            match operation:
                case NewTasks(tasks=new):
                    fresh = {task for task, _ in new} - present
                    if spoken & fresh:
                        return False
                    present |= fresh
                case UpdateTask(task=task, reopen=True):
                    spoken = {task}  # what came before it is applied before it
                case EndTask(task=task) | UpdateTask(task=task) | DescribeTask(task=task):
                    spoken.add(task)
                case AppendLogs(records=found, dropped=dropped):
                    spoken |= {record.task for record in found} | dropped.keys()
                case DropTasks(tasks=gone):
                    spoken = set()
                    present -= set(gone)
        return True


def as_written(found: StoredTask) -> Row:
    """A stored task in the model's terms, as far as one of them can say it."""
    standing = UpdateTask(found.task, found.attempt, found.failures, found.losses, found.not_before, found.story)
    row = Row(found.options, found.submitted, found.client, found.payload, standing, described=found.described)
    if found.end is not None:
        e = found.end
        size = e.result.size if isinstance(e.result, Blob) else len(e.result)
        assert e.result_size == size
        row.standing = UpdateTask(found.task)
        row.end = EndTask(
            found.task,
            e.status,
            e.attempt,
            e.ended,
            e.started,
            e.seconds,
            e.runtime,
            e.result,
            e.error,
            found.failures,
            found.losses,
            e.predicted,
            found.story,
            e.expires,
        )
    return row


class StoreMachine(RuleBasedStateMachine):
    durability = Durability.NORMAL

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="headway-test-"))
        self.model = Model()
        self.commits: queue.SimpleQueue[list[Receipt]] = queue.SimpleQueue()
        self.store = self.opened()

    def opened(self) -> SqliteStore:
        return SqliteStore(self.folder / "headway.db", self.commits.put, self.durability)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    @rule(new=st.lists(new_tasks, min_size=1, max_size=3))
    def submit(self, new: list[NewTasks]) -> None:
        self.write([[operation] for operation in new])

    @rule(writes=writes_of(operations, most=5))
    def write_anything(self, writes: list[list[Operation]]) -> None:
        self.write(writes)

    @rule(writes=writes_of(st.one_of(update, any_end, append), most=3))
    def carry_on(self, writes: list[list[Operation]]) -> None:
        self.write(writes)

    @rule(gone=st.lists(tasks, min_size=2), again=new_tasks, reopen=st.booleans())
    def drop_and_submit_again(self, gone: list[TaskId], again: NewTasks, reopen: bool) -> None:
        self.write([[DropTasks(gone)]])
        if reopen:
            self.close_and_open()
        self.write([[again]])

    @rule(new=lone_task, end=lone_end, apart=st.booleans())
    def run_alone(self, new: NewTasks, end: EndTask, apart: bool) -> None:
        """As the controller stores a task that comes alone: with its end, or before it, and without the thread."""
        self.note([new] if apart else [new, end])
        if apart:
            self.note([end])

    @rule(operation=st.one_of(update, any_end, lone_end, new_tasks))
    def write_at_once(self, operation: Operation) -> None:
        self.note([operation])

    def note(self, batch: list[Operation]) -> None:
        receipt = self.store.write_at_once(batch, "at once")
        if receipt is None:
            self.write([batch])  # the thread is at work, or there is too much of it
            return
        known = [task for operation in batch for task in self.model.apply(operation)]
        assert (receipt.token, receipt.error, list(receipt.known)) == ("at once", None, known)

    def write(self, writes: list[list[Operation]]) -> None:
        while not self.model.is_in_order([operation for batch in writes for operation in batch]):
            writes = writes[:-1]
        expected = []
        with self.store._database.writing:
            for token, batch in enumerate(writes):
                self.store.write(batch, token)
                expected.append((token, [task for operation in batch for task in self.model.apply(operation)]))
        receipts: list[Receipt] = []
        while len(receipts) < len(writes):
            receipts += self.commits.get(timeout=30.0)
        assert [receipt.error for receipt in receipts] == [None] * len(writes)
        assert [(receipt.token, list(receipt.known)) for receipt in receipts] == expected

    @rule()
    def close_and_open(self) -> None:
        if self.durability is Durability.MEMORY:
            return
        self.store.close()
        self.store = self.opened()

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def find_by_prefix(self, data: st.DataObject) -> None:
        text = text_of(data.draw(st.sampled_from(sorted(self.model.rows))))
        prefix = text[: data.draw(st.integers(1, len(text)))]
        expected = {task for task in self.model.rows if text_of(task).startswith(prefix)}
        assert set(self.store.find_by_prefix(prefix, limit=100)) == expected

    @invariant()
    def pages_leave_nothing_out(self, limit: int = 2) -> None:
        if not hasattr(self, "store"):
            return
        listed: list[TaskId] = []
        while found := self.store.find_page(TaskFilter(), limit, listed[-1] if listed else b""):
            listed += [task.task for task in found]
        assert listed == list(self.model.rows)[::-1]
        unfinished = [task.task for tasks in self.store.load_unfinished(limit) for task in tasks]
        assert unfinished == [task for task, row in self.model.rows.items() if row.end is None]

    @rule(
        options=st.sampled_from(OPTIONS),
        ends=st.sets(st.sampled_from(sorted(ENDS)), max_size=2),
        unfinished=st.booleans(),
        use_job=st.booleans(),
        use_queue=st.booleans(),
    )
    def filter(self, options: Options, ends: set[Status], unfinished: bool, use_job: bool, use_queue: bool) -> None:
        job, lane = options.job if use_job else "", options.queue if use_queue else ""
        which = TaskFilter(job=job, queue=lane, ends=frozenset(ends), unfinished=unfinished)
        wanted = {*ends, *({None} if unfinished else ())} or {None, *ENDS}
        expected = [
            task
            for task, row in reversed(self.model.rows.items())
            if (not job or row.options.job == job)
            and (not lane or row.options.queue == lane)
            and (row.end.status if row.end else None) in wanted
        ]
        assert [task.task for task in self.store.find_page(which)] == expected

    @rule(now=times, retention=times)
    def find_expired(self, now: float, retention: float) -> None:
        expected = set()
        for task, row in self.model.rows.items():
            if row.end is not None:
                own = row.end.expires
                if (row.end.ended <= now - retention) if own is None else (own <= now):
                    expected.add(task)
        assert set(self.store.find_expired(now, retention)) == expected

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {task.task: as_written(task) for task in self.store.find(TASKS)}
        for task, row in self.model.rows.items():
            seen = self.store.logs(task)
            assert seen.records == [row.logs[key] for key in sorted(row.logs)]
            assert seen.dropped == row.dropped
            found[task].logs, found[task].dropped = row.logs, row.dropped
        assert found == {task: self.comparable(row) for task, row in self.model.rows.items()}
        counts: dict[str, int] = {}
        for row in self.model.rows.values():
            key = row.end.status.value if row.end else "unfinished"
            counts[key] = counts.get(key, 0) + 1
        assert self.store.counts() == {"unfinished": 0, **counts}
        assert {key: self.store.load_state(key) for key in ("x", "y")} == {
            key: self.model.state.get(key) for key in ("x", "y")
        }

    @staticmethod
    def comparable(row: Row) -> Row:
        u = row.standing
        standing = UpdateTask(u.task, u.attempt, u.failures, u.losses, u.not_before, u.story)
        if row.end is not None:
            standing = UpdateTask(u.task)
        return Row(
            row.options, row.submitted, row.client, row.payload, standing, row.end, row.logs, row.dropped, row.described
        )


class MemoryStoreMachine(StoreMachine):
    durability = Durability.MEMORY


StoreMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
MemoryStoreMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
TestStore = StoreMachine.TestCase
TestMemoryStore = MemoryStoreMachine.TestCase
