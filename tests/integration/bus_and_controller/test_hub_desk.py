"""What the controller answers when it is asked: listings and their pages, single tasks, logs, jobs, results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import pytest
from plain_peers import Hub, PlainClient, PlainRuntime, wait_until

from headway_bus import messages as m
from headway_bus.codec import MAX_HEADER_BYTES, encode
from headway_bus.ids import TaskId, new_task_ids, parse_task_id, text_of
from headway_bus.link import CONTROLLER
from headway_bus.records import AttemptEnd, Blob, Code, ErrorInfo, Kind, LogRecord, Options, Reason, Retry, Status


def listed(client: PlainClient, **fields: Any) -> list[TaskId]:
    page = client.ask(lambda request: m.AskTasks(request, **fields), m.TaskPage)
    return [info.task for info in page.tasks]


def walk(client: PlainClient, **fields: Any) -> Iterator[list[TaskId]]:
    """All the pages of a listing."""
    before = TaskId(b"")
    while True:
        page = client.ask(lambda request, before=before: m.AskTasks(request, before=before, **fields), m.TaskPage)
        yield [info.task for info in page.tasks]
        if not page.next:
            return
        before = page.next


def denied(client: PlainClient, make: Callable[[int], m.Message]) -> m.Denied:
    return client.ask(make, m.Denied)


def finish(client: PlainClient, runtime: PlainRuntime, task: TaskId, **how: Any) -> Any:
    runtime.end(task, **how)
    return client.ends(1)[task]


class TestListings:
    def test_pages_of_live_and_ended_ones_together_have_each_once_and_newest_first(
        self, client: PlainClient, runtime: PlainRuntime
    ) -> None:
        tasks = client.submit(25, job="j")
        ((first, _),) = runtime.take()
        finish(client, runtime, first)
        client.ask(lambda request: m.Cancel(request, tasks[5:10]), m.Changed)
        pages = list(walk(client, job="j", limit=7))
        assert [len(page) for page in pages] == [7, 7, 7, 4]
        found = [task for page in pages for task in page]
        assert sorted(found) == sorted(tasks)

    def test_a_page_that_is_exactly_full_is_followed_by_an_empty_one(self, client: PlainClient) -> None:
        client.submit(10)
        assert [len(page) for page in walk(client, limit=5)] == [5, 5, 0]

    def test_every_filter_alone_and_together(self, client: PlainClient, runtime: PlainRuntime) -> None:
        (running,) = client.submit(job="a", queue="fast", name="train-1")
        runtime.take()
        runtime.start(running)
        (queued,) = client.submit(job="a", queue="slow", name="train-2")
        (ended,) = client.submit(job="b", queue="slow", name="score-1")
        client.ask(lambda request: m.Cancel(request, [ended]), m.Changed)
        (waiting,) = client.submit(job="b", after=[queued], name="score-2")
        wait_until(lambda: listed(client, status=[Status.RUNNING]) == [running])
        expected: list[tuple[dict[str, Any], set[TaskId]]] = [
            ({}, {running, queued, ended, waiting}),
            ({"job": "a"}, {running, queued}),
            ({"job": "none"}, set()),
            ({"status": [Status.QUEUED]}, {queued}),
            ({"status": [Status.QUEUED, Status.WAITING]}, {queued, waiting}),
            ({"status": [Status.CANCELLED]}, {ended}),
            ({"status": [Status.CANCELLED, Status.WAITING]}, {ended, waiting}),
            ({"status": [Status.SUCCEEDED]}, set()),
            ({"queue": "slow"}, {queued, ended}),
            ({"name": "train-*"}, {running, queued}),
            ({"name": "*-2", "job": "b"}, {waiting}),
            ({"name": "TRAIN-*"}, set()),
            ({"runtime": "plain"}, {running}),
            ({"runtime": "plain", "status": [Status.QUEUED]}, set()),
            ({"job": "b", "status": [Status.CANCELLED], "queue": "slow", "name": "score-?"}, {ended}),
        ]
        for fields, tasks in expected:
            assert set(listed(client, **fields)) == tasks, fields
            assert {task for page in walk(client, limit=1, **fields) for task in page} == tasks, fields

    @pytest.mark.parametrize("limit", [0, -5, 10**9])
    def test_a_limit_beyond_reason_is_brought_within(self, client: PlainClient, limit: int) -> None:
        tasks = client.submit(3)
        assert set(listed(client, limit=limit)) <= set(tasks)
        assert len(listed(client, limit=limit)) == (1 if limit < 1 else 3)

    def test_a_page_that_nobody_could_read_is_cut_and_goes_on(self, client: PlainClient) -> None:
        tasks = client.submit(60, target="a:" + "f" * 90_000)
        pages = list(walk(client, limit=1_000))
        assert len(pages) > 1
        assert sorted(task for page in pages for task in page) == sorted(tasks)

    def test_a_listing_shows_what_memory_knows_better_than_the_store(
        self, client: PlainClient, runtime: PlainRuntime
    ) -> None:
        (task,) = client.submit(name="x")
        runtime.take()
        runtime.start(task)
        wait_until(lambda: listed(client, status=[Status.RUNNING]) == [task])
        (info,) = client.ask(m.AskTasks, m.TaskPage).tasks
        assert (info.status, info.runtime, info.attempt) == (Status.RUNNING, "plain", 1)


class TestOneTask:
    def ask(self, client: PlainClient, text: str) -> Any:
        return client.ask(lambda request: m.AskTask(request, text), m.TaskFound).task

    def test_by_its_whole_id_a_beginning_of_it_and_its_key(self, client: PlainClient) -> None:
        (task,) = client.submit(key="nightly-report")
        text = text_of(task)
        for prefix in (text, text[:8], text[:5], text.upper(), f" {text} ", "nightly-report"):
            assert self.ask(client, prefix).task == task

    def test_one_that_has_ended_with_its_story(self, hub: Hub, client: PlainClient, runtime: PlainRuntime) -> None:
        (task,) = client.submit(retry=Retry(max_attempts=2, backoff=0.0))
        for _ in range(2):
            runtime.take()
            runtime.start(task)
            runtime.end(task, end=AttemptEnd.FAILED, error=ErrorInfo(Reason.EXCEPTION, "no luck", "ValueError"))
        client.ends(1)
        info = self.ask(client, text_of(task))
        assert (info.status, info.attempt, info.failures) == (Status.FAILED, 2, 2)
        assert info.error.message == "no luck"
        assert [step.status for step in info.story] == ["submitted", "running", "failed", "running", "failed"]
        assert [step.at for step in info.story] == sorted(step.at for step in info.story)

    def test_one_that_was_cancelled_while_it_ran(self, hub: Hub, client: PlainClient, runtime: PlainRuntime) -> None:
        (task,) = client.submit()
        runtime.take()
        runtime.start(task)
        wait_until(lambda: self.ask(client, text_of(task)).status == Status.RUNNING)
        client.say(CONTROLLER, m.Cancel(client.request(), [task]))
        wait_until(lambda: "cancelling" in [step.status for step in self.ask(client, text_of(task)).story])
        runtime.end(task, end=AttemptEnd.CANCELLED, seconds=2.5)
        ended = client.ends(1)[task]
        assert (ended.status, ended.ran) == (Status.CANCELLED, 2.5)
        told = self.ask(client, text_of(task)).story
        assert [step.status for step in told] == ["submitted", "running", "cancelling", "cancelled"]

    def test_a_beginning_of_several_is_refused_with_some_of_them(self, client: PlainClient) -> None:
        ids = [TaskId(b"\0" * 6 + b"same" + bytes([number]) * 6) for number in range(3)]
        group = m.Group(Options(Kind.CALL, "a:f"), [(task, b"") for task in ids])
        client.ask(lambda request: m.Submit(request, [group]), m.Accepted)
        answer = denied(client, lambda request: m.AskTask(request, text_of(ids[0])[:4]))
        assert answer.code == Code.AMBIGUOUS
        assert "write more of it" in answer.text

    @pytest.mark.parametrize("text", ["zzzzzzzz", "no-such-key", "ä", "x" * 900, "%", "_", "*"])
    def test_an_unknown_one_is_not_found(self, client: PlainClient, text: str) -> None:
        client.submit(3)
        answer = denied(client, lambda request: m.AskTask(request, text))
        assert answer.code == Code.NOT_FOUND and "purged" in answer.text

    @pytest.mark.parametrize("text", ["", "   "])
    def test_an_empty_one_is_refused(self, client: PlainClient, text: str) -> None:
        assert denied(client, lambda request: m.AskTask(request, text)).code == Code.INVALID


class TestResults:
    @pytest.mark.parametrize("size", [10, 50_000, 3_000_000])
    def test_of_an_ended_one_however_long_it_is(self, client: PlainClient, runtime: PlainRuntime, size: int) -> None:
        content = bytes(number % 251 for number in range(size))
        (task,) = client.submit()
        runtime.take()
        finish(client, runtime, task, result=0, frames=(content,))
        found = client.ask(lambda request: m.AskResult(request, task), m.ResultFound).outcome.result
        if isinstance(found, Blob):
            found = b"".join(self.parts(client, found))
        elif isinstance(found, int):
            found = client.frames[found]
        assert (len(found), blake2b(found).digest()) == (size, blake2b(content).digest())

    def parts(self, client: PlainClient, blob: Blob) -> Iterator[bytes]:
        offset = 0
        while offset < blob.size:
            client.ask(lambda request, offset=offset: m.BlobGet(request, blob, offset, 1_000_000), m.BlobPart)
            yield client.frames[0]
            offset += len(client.frames[0])

    def test_of_one_that_has_not_ended_is_refused_with_where_it_is(self, client: PlainClient) -> None:
        (task,) = client.submit()
        answer = denied(client, lambda request: m.AskResult(request, task))
        assert answer.code == Code.STATE and "queued" in answer.text

    def test_of_an_unknown_one_is_not_found(self, client: PlainClient) -> None:
        for task in (new_task_ids(1)[0], TaskId(b""), TaskId(b"x" * 1_000)):
            answer = denied(client, lambda request, task=task: m.AskResult(request, task))
            assert answer.code == Code.NOT_FOUND


class TestLogs:
    def page(self, client: PlainClient, task: TaskId, **fields: Any) -> m.LogPage:
        return client.ask(lambda request: m.AskLogs(request, task, **fields), m.LogPage)

    def test_pages_in_order_and_complete_only_when_it_has_ended(
        self, client: PlainClient, runtime: PlainRuntime
    ) -> None:
        (task,) = client.submit()
        runtime.take()
        runtime.log(task, *[f"line {number}" for number in range(25)])
        wait_until(lambda: len(self.page(client, task).records) == 25)
        found: list[LogRecord] = []
        after = 0
        for expected in (10, 10, 5):
            page = self.page(client, task, after=after, limit=10)
            assert (len(page.records), page.complete) == (expected, False), "it has not ended: more may come"
            found += page.records
            after = page.next
        assert [record.text for record in found] == [f"line {number}" for number in range(25)]
        finish(client, runtime, task)
        page = self.page(client, task, after=after)
        assert (page.records, page.complete, page.next) == ([], True, 25)
        assert not self.page(client, task, limit=25).complete, "it cannot know that no more follow"
        assert self.page(client, task, limit=26).complete

    def test_of_one_attempt(self, client: PlainClient, runtime: PlainRuntime) -> None:
        (task,) = client.submit(retry=Retry(max_attempts=2, backoff=0.0))
        for attempt in (1, 2):
            runtime.take()
            runtime.log(task, f"attempt {attempt}")
            runtime.end(task, end=AttemptEnd.FAILED, error=ErrorInfo(Reason.EXIT, "exit 1"))
        client.ends(1)
        assert [record.text for record in self.page(client, task).records] == ["attempt 1", "attempt 2"]
        assert [record.text for record in self.page(client, task, attempt=2).records] == ["attempt 2"]
        assert self.page(client, task, attempt=9).records == []

    def test_a_repeated_report_adds_no_record(self, client: PlainClient, runtime: PlainRuntime) -> None:
        (task,) = client.submit()
        runtime.take()
        for _ in range(3):
            runtime.log(task, "once")
        finish(client, runtime, task)
        assert [record.text for record in self.page(client, task).records] == ["once"]

    def test_a_page_that_nobody_could_read_is_cut_and_goes_on(self, client: PlainClient, runtime: PlainRuntime) -> None:
        (task,) = client.submit()
        runtime.take()
        for first in range(0, 60, 20):
            runtime.log(task, *["x" * 100_000] * 20, first=first)
        finish(client, runtime, task)
        after, pages = 0, 0
        while not (page := self.page(client, task, after=after, limit=10_000)).complete:
            assert page.records and len(encode(page)) < MAX_HEADER_BYTES
            after, pages = page.next, pages + 1
        assert pages >= 1 and page.next == 60

    @pytest.mark.parametrize("after", [-1, 2**62, 2**64 - 1])
    def test_a_position_beyond_reason_is_answered(self, client: PlainClient, runtime: PlainRuntime, after: int) -> None:
        (task,) = client.submit()
        runtime.take()
        runtime.log(task, "line")
        finish(client, runtime, task)
        page = self.page(client, task, after=after)
        assert len(page.records) == (1 if after < 0 else 0) and page.next >= 0

    def test_of_an_unknown_task_are_refused(self, client: PlainClient) -> None:
        assert denied(client, lambda request: m.AskLogs(request, new_task_ids(1)[0])).code == Code.NOT_FOUND

    def test_records_of_nonsense_are_left_out_and_the_store_goes_on(
        self, client: PlainClient, runtime: PlainRuntime
    ) -> None:
        (task,) = client.submit()
        runtime.take()
        nan = float("nan")
        runtime.report(
            logs=[
                LogRecord(task, 1, 2**63, "stdout", 1.0, "a number too large"),
                LogRecord(task, 2**64 - 1, 0, "stdout", 1.0, "an attempt too large"),
                LogRecord(task, 1, 0, "stdout", nan, "no time"),
                LogRecord(task, 1, 1, "nowhere", 1.0, "good \0 enough", {"deep": [[[{"x": 2**64 - 1}]]]}),
                LogRecord(TaskId(b"?"), 1, 0, "stdout", 1.0, "of no task"),
            ],
            dropped={bytes(task): 2**64 - 1, b"?": -5},
        )
        finish(client, runtime, task)
        (record,) = self.page(client, task).records
        assert (record.text, record.fields) == ("good \0 enough", {"deep": [[[{"x": 2**64 - 1}]]]})
        client.submit()


class TestJobs:
    def counts(self, client: PlainClient, job: str) -> dict[str, int]:
        (info,) = client.ask(lambda request: m.AskJobs(request, job), m.JobPage).jobs
        return {name: count for name, count in info.counts.items() if count}

    def test_counts_by_status(self, client: PlainClient, runtime: PlainRuntime) -> None:
        tasks = client.submit(4, job="j")
        client.submit(2, job="j", delay=600.0)
        client.submit(1, job="other")
        ((task, _),) = runtime.take()
        finish(client, runtime, task)
        ((second, _),) = runtime.take()
        runtime.start(second)
        client.ask(lambda request: m.Cancel(request, [t for t in tasks if t not in (task, second)][:1]), m.Changed)
        wait_until(lambda: self.counts(client, "j").get("running") == 1)
        assert self.counts(client, "j") == {"succeeded": 1, "running": 1, "cancelled": 1, "queued": 1, "waiting": 2}
        jobs = client.ask(m.AskJobs, m.JobPage).jobs
        assert {info.job for info in jobs} == {"j", "other"}
        assert client.ask(lambda request: m.AskJobs(request, "none"), m.JobPage).jobs == []

    def test_under_load_the_sum_is_always_what_was_accepted(self, hub: Hub, client: PlainClient) -> None:
        with PlainRuntime(hub.url, "busy", slots=50) as runtime:
            accepted = 0
            for round_ in range(15):
                accepted += len(client.submit(40, job="j", watch=False))
                ready = runtime.take(1)
                runtime.start(*[task for task, _ in ready[::2]])
                runtime.end(*[task for task, _ in ready])
                assert sum(self.counts(client, "j").values()) == accepted, round_
            # And at rest every one is where it is.
            while runtime.attempts or sum(self.counts(client, "j").get(name, 0) for name in ("queued", "assigned")):
                runtime.end(*[task for task, _ in runtime.take(1)])
            wait_until(lambda: self.counts(client, "j") == {"succeeded": accepted})


def test_runtimes_show_what_they_have(client: PlainClient, runtime: PlainRuntime) -> None:
    client.submit(1)
    ((task, _),) = runtime.take()
    runtime.start(task)

    def running() -> bool:
        (state,) = client.ask(m.AskRuntimes, m.RuntimePage).runtimes
        return (state.info.name, state.state, state.running, state.slots_free) == ("plain", "online", 1, 0.0)

    wait_until(running)
    runtime.end(task)
    wait_until(lambda: client.ask(m.AskRuntimes, m.RuntimePage).runtimes[0].succeeded == 1)


def test_queues_estimates_and_explanations_are_answered(client: PlainClient, runtime: PlainRuntime) -> None:
    (first, second) = client.submit(2)
    (waiting,) = client.submit(after=[second])
    runtime.take()
    page = client.ask(m.AskQueues, m.QueuePage)
    assert [queue.runtime for queue in page.queues] == ["plain"]
    estimate = client.ask(lambda request: m.AskEstimate(request, Options(Kind.CALL, "a:f")), m.EstimateFound)
    assert estimate.starts.known or estimate.starts.why
    for task in (first, second, waiting):
        story = client.ask(lambda request, task=task: m.AskExplain(request, task), m.Explained).story
        assert story["state"]
    story = client.ask(lambda request: m.AskExplain(request, waiting), m.Explained).story
    assert (story["state"], story["after"]) == ("waiting", [text_of(second)])
    runtime.end(first)
    client.ends(1)
    assert client.ask(lambda request: m.AskExplain(request, first), m.Explained).story["state"] == "succeeded"
    assert denied(client, lambda request: m.AskExplain(request, new_task_ids(1)[0])).code == Code.NOT_FOUND


def test_a_task_that_waits_says_where_it_will_start(client: PlainClient, runtime: PlainRuntime) -> None:
    running, queued = client.submit(2)
    runtime.take()
    runtime.start(running)

    def place_of(task: TaskId) -> tuple[str, str]:
        info = client.ask(lambda request: m.AskTask(request, text_of(task)), m.TaskFound).task
        return info.runtime, info.start_runtime

    wait_until(lambda: place_of(running) == ("plain", ""))
    assert place_of(queued) == ("", "plain")
    story = client.ask(lambda request: m.AskExplain(request, queued), m.Explained).story
    assert story["runtime"] == "plain"


def test_an_estimate_is_that_of_whoever_asks(hub: Hub, client: PlainClient, runtime: PlainRuntime) -> None:
    for task in client.submit(5):
        runtime.take()
        finish(client, runtime, task, seconds=10.0)
    client.submit(20)

    def ask(request: int) -> m.Message:
        return m.AskEstimate(request, Options(Kind.CALL, "a:f"))

    behind_its_own = client.ask(ask, m.EstimateFound).starts
    with PlainClient(hub.url, "somebody-else") as other:
        anew = other.ask(ask, m.EstimateFound).starts
    assert behind_its_own.expectation > 3 * anew.expectation > 0.0, "of fair shares, the next is for who has had none"


def test_estimates_of_options_without_sense_are_answered(client: PlainClient, runtime: PlainRuntime) -> None:
    nan, inf = float("nan"), float("inf")
    for meta in ({"n": nan}, {"n": inf, "word": "x" * 900}, {str(n): n for n in range(900)}):
        client.ask(
            lambda request, meta=meta: m.AskEstimate(request, Options(Kind.CALL, "a:f", meta=meta)), m.EstimateFound
        )
    long = Options(Kind.CALL, "a:f", meta={"word": "x" * 5_000})
    assert denied(client, lambda request: m.AskEstimate(request, long)).code == Code.INVALID
    # And tasks whose numbers make no sense end like others, and leave the estimates of others whole.
    for value in (nan, inf, -inf, 1e308):
        (task,) = client.submit(meta={"n": value})
        runtime.take()
        finish(client, runtime, task, seconds=1.0)
    answer = client.ask(
        lambda request: m.AskEstimate(request, Options(Kind.CALL, "a:f", meta={"n": 5})), m.EstimateFound
    )
    assert answer.starts.expectation == answer.starts.expectation, "not a NaN"
    assert answer.ends.expectation == answer.ends.expectation


def test_the_controller_says_how_it_is(client: PlainClient) -> None:
    client.submit(3)
    state = client.ask(m.AskController, m.ControllerState)
    assert state.state["tasks"] == {"queued": 3}
    assert state.counters["tasks.accepted"] == 3


def test_a_question_that_makes_no_sense_is_answered_with_its_number(hub: Hub, client: PlainClient) -> None:
    client.raw(CONTROLLER, b"\x92\xa9ask_tasks\xa4text")
    assert client.next(m.Denied).code == Code.MALFORMED
    client.raw(CONTROLLER, b"\x93\xa8ask_task\x07\x08")
    answer = client.next(m.Denied)
    assert (answer.request, answer.code) == (7, Code.MALFORMED)
    assert hub.controller.core.state.counters["messages.undecodable"] == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda request: m.AskTask(request, "x" * 3_000_000),
        lambda request: m.AskTasks(request, name="[" * 3_000_000),
        lambda request: m.DrainRuntime(request, "x" * 3_000_000),
        lambda request: m.Control(request, "x" * 3_000_000),
        lambda request: m.Control(request, "backup", {"path": "x" * 3_000_000}),
        lambda request: m.Submit(request, [m.Group(Options(Kind.CALL, "a:f", after_count="x" * 3_000_000), [])]),
        lambda request: m.AskResult(request, TaskId(b"x" * 3_000_000)),
    ],
)
def test_a_question_of_megabytes_gets_an_answer_that_can_be_read(client: PlainClient, ask: Any) -> None:
    assert len(client.ask(ask, m.Denied).text) < 2_000


def test_ids_in_texts_are_the_ids(client: PlainClient) -> None:
    (task,) = client.submit()
    assert parse_task_id(text_of(task)) == task


def test_a_blob_is_put_and_got_in_parts(client: PlainClient) -> None:
    content = bytes(range(256)) * 1_000
    blob = Blob(blake2b(content, digest_size=32).digest(), len(content))
    have = client.ask(lambda request: m.BlobPut(request, blob, 0), m.BlobHave, content[:100_000])
    assert have.offset == 100_000
    have = client.ask(lambda request: m.BlobPut(request, blob, 100_000), m.BlobHave, content[100_000:])
    assert have.offset == len(content)
    client.ask(lambda request: m.BlobGet(request, blob, 5, 1_000), m.BlobPart)
    assert client.frames == [content[5:1_005]]
    for offset, length in ((2**63, 5), (0, 2**63), (len(content) + 1, 1)):
        client.say(CONTROLLER, m.BlobGet(client.request(), blob, offset, length))
        assert isinstance(client.hear()[1], m.BlobPart | m.Denied)
    absent = Blob(b"x" * 32, 5)
    assert denied(client, lambda request: m.BlobGet(request, absent, 0, 5)).code in (
        Code.NOT_FOUND,
        Code.INVALID,
        Code.STORE,
    )
    for wrong in (Blob(b"../../etc/passwd", 5), Blob(b"", 5), Blob(b"x" * 32, 2**62), Blob(b"x" * 32, -1)):
        denied(client, lambda request, wrong=wrong: m.BlobPut(request, wrong, 0))
