"""What an operator and a client can have done: retry, purge, pause, strategies, backup; and a store or a core that fails."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from plain_peers import Hub, PlainClient, PlainRuntime, wait_until

from headway_bus import messages as m
from headway_bus.errors import StoreError
from headway_bus.ids import TaskId, named_task_id, new_task_ids, text_of
from headway_bus.link import CONTROLLER
from headway_bus.records import AttemptEnd, Code, ErrorInfo, Kind, Options, Reason, Status
from headway_controller.store import Receipt


def control(client: PlainClient, verb: str, **arguments: Any) -> m.ControllerState:
    return client.ask(lambda request: m.Control(request, verb, arguments), m.ControllerState)


def refused(client: PlainClient, verb: str, **arguments: Any) -> m.Denied:
    return client.ask(lambda request: m.Control(request, verb, arguments), m.Denied)


def fail(runtime: PlainRuntime, *tasks: TaskId) -> None:
    runtime.end(*tasks, end=AttemptEnd.FAILED, error=ErrorInfo(Reason.EXCEPTION, "no luck", "ValueError"))


class TestRetry:
    def test_an_ended_task_runs_again_with_its_arguments(self, client: PlainClient, runtime: PlainRuntime) -> None:
        (task,) = client.submit(payload=b"arguments", job="j")
        runtime.take()
        fail(runtime, task)
        assert client.ends(1)[task].status == Status.FAILED
        assert client.ask(lambda request: m.RetryTasks(request, [task]), m.Changed).count == 1
        client.say(CONTROLLER, m.Await(client.request(), [task]))
        assign = runtime.next(m.Assign)
        ((again, attempt, payload),) = assign.groups[0].attempts
        assert (again, payload) == (task, b"arguments") and attempt > 1
        runtime.attempts[task] = attempt
        runtime.end(task, result=b"42")
        assert client.ends(1)[task].result == b"42"
        info = client.ask(lambda request: m.AskTask(request, text_of(task)), m.TaskFound).task
        assert [step.status for step in info.story if step.status in ("failed", "revived", "succeeded")] == [
            "failed",
            "revived",
            "succeeded",
        ]

    def test_of_a_job_all_that_has_ended(self, client: PlainClient) -> None:
        tasks = client.submit(5, job="j")
        client.ask(lambda request: m.Cancel(request, tasks[:3]), m.Changed)
        client.ends(3)
        assert client.ask(lambda request: m.RetryTasks(request, [], "j"), m.Changed).count == 3
        page = client.ask(lambda request: m.AskTasks(request, job="j", status=[Status.QUEUED]), m.TaskPage)
        assert len(page.tasks) == 5

    def test_what_cannot_be_is_refused_one_by_one(self, client: PlainClient) -> None:
        (live,) = client.submit()
        unknown = new_task_ids(1)[0]
        changed = client.ask(lambda request: m.RetryTasks(request, [live, unknown]), m.Changed)
        assert changed.count == 0
        assert dict(changed.refused) == {text_of(live): "it has not ended", text_of(unknown): "it is not known"}

    @pytest.mark.parametrize("kind", [m.RetryTasks, m.Purge, m.Cancel])
    def test_a_hundred_thousand_refusals_are_an_answer_that_can_be_read(self, client: PlainClient, kind: Any) -> None:
        changed = client.ask(lambda request: kind(request, new_task_ids(100_000)), m.Changed)
        assert changed.count == 0 and 1_000 <= len(changed.refused) < 100_000


class TestPurge:
    def test_an_ended_task_is_gone_with_its_result(self, client: PlainClient, runtime: PlainRuntime) -> None:
        (task,) = client.submit()
        runtime.take()
        runtime.log(task, "a line")
        runtime.end(task)
        client.ends(1)
        assert client.ask(lambda request: m.Purge(request, [task]), m.Changed).count == 1
        for make in (
            lambda request: m.AskTask(request, text_of(task)),
            lambda request: m.AskResult(request, task),
            lambda request: m.AskLogs(request, task),
        ):
            assert client.ask(make, m.Denied).code == Code.NOT_FOUND

    def test_what_lives_stays(self, client: PlainClient) -> None:
        tasks = client.submit(3, job="j")
        client.ask(lambda request: m.Cancel(request, tasks[:1]), m.Changed)
        changed = client.ask(lambda request: m.Purge(request, tasks, "j"), m.Changed)
        assert (changed.count, len(changed.refused)) == (1, 2)
        assert len(client.ask(m.AskTasks, m.TaskPage).tasks) == 2

    def test_the_name_of_a_purged_task_is_free_again(self, client: PlainClient) -> None:
        name = named_task_id("mine")
        group = m.Group(Options(Kind.CALL, "a:f", key="mine"), [(name, b"")])
        for _ in range(2):
            assert client.ask(lambda request: m.Submit(request, [group]), m.Accepted).known == 0
            client.ask(lambda request: m.Cancel(request, [name]), m.Changed)
            assert client.ends(1)[name].status == Status.CANCELLED
            assert client.ask(lambda request: m.Submit(request, [group]), m.Accepted).known == 1
            assert client.ends(1)[name].status == Status.CANCELLED, "it has ended, and that is its end"
            assert client.ask(lambda request: m.Purge(request, [name]), m.Changed).count == 1

    def test_what_is_past_its_retention_goes_by_itself(self, hub: Hub, client: PlainClient) -> None:
        short = client.submit(3, retention=0.0)
        long = client.submit(2)
        client.ask(lambda request: m.Cancel(request, short + long), m.Changed)
        client.ends(5)
        hub.call(lambda: hub.controller._start(hub.controller._keep_house()))
        wait_until(lambda: len(client.ask(m.AskTasks, m.TaskPage).tasks) == 2)
        assert hub.controller.core.state.counters["tasks.purged"] == 3
        assert not any(task in hub.controller.core.life.recent for task in short)

    def test_a_task_that_was_revived_while_the_house_was_kept_stays(self, hub: Hub, client: PlainClient) -> None:
        (task,) = client.submit(retention=0.0)
        client.ask(lambda request: m.Cancel(request, [task]), m.Changed)
        client.ends(1)
        expired = hub.controller.store.find_expired(time.time() + 60.0, 0.0)
        assert expired == [task]
        client.ask(lambda request: m.RetryTasks(request, [task]), m.Changed)
        assert hub.call(hub.controller.core.drop, expired) == []
        assert client.ask(lambda request: m.AskTask(request, text_of(task)), m.TaskFound).task.status == Status.QUEUED


class TestControl:
    def test_pause_and_resume(self, hub: Hub, client: PlainClient, runtime: PlainRuntime) -> None:
        control(client, "pause")
        (task,) = client.submit()
        assert client.ask(m.AskController, m.ControllerState).state["paused"] is True
        assert client.ask(lambda request: m.AskTask(request, text_of(task)), m.TaskFound).task.status == Status.QUEUED
        control(client, "resume")
        assert runtime.take() == [(task, 1)]

    def test_strategies_and_predictors_by_name_while_work_waits(self, hub: Hub, client: PlainClient) -> None:
        client.submit(20)
        denied = refused(client, "strategy", name="magic")
        assert denied.code == Code.INVALID
        names = [word.strip("'.,") for word in denied.text.split() if word.startswith("'") and "magic" not in word]
        known = [name for name in ("fifo", *names) if name.isidentifier() or "-" in name]
        for name in dict.fromkeys(known):
            control(client, "strategy", name=name)
            control(client, "validate")
        assert refused(client, "predictor", name="magic").code == Code.INVALID
        with PlainRuntime(hub.url, "late", slots=20) as runtime:
            done = 0
            while done < 20:
                tasks = [task for task, _ in runtime.take(1)]
                runtime.end(*tasks)
                done += len(tasks)
            assert len(client.ends(20)) == 20

    def test_a_backup_is_a_whole_store(self, client: PlainClient, tmp_path: Path) -> None:
        client.submit(7)
        control(client, "backup", path=str(tmp_path / "copy.db"))
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            assert copy.execute("SELECT count(*) FROM tasks").fetchone() == (7,)
        assert "copy.db" in refused(client, "backup", path=str(tmp_path / "copy.db")).text, "it is there already"
        assert "absolute path" in refused(client, "backup", path="copy.db").text
        assert refused(client, "backup").code == Code.INVALID

    def test_the_store_is_checked(self, client: PlainClient) -> None:
        assert control(client, "check").state["well"] is True

    @pytest.mark.parametrize("verb", ["", "reboot", "__class__", "validate "])
    def test_an_unknown_verb_is_refused_with_those_there_are(self, client: PlainClient, verb: str) -> None:
        assert "expected one of pause, resume" in refused(client, verb).text


@pytest.fixture
def full(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A disk that is full while the list has something in it."""
    state: list[bool] = []
    store = hub.controller.store
    write = store.write

    def refuse(operations: Any, token: object = None) -> None:
        if state and token is not None:
            hub.controller._on_stored_in_thread([Receipt(token, StoreError("the disk is full"))])
        else:
            write(operations, token)

    monkeypatch.setattr(store, "write", refuse)
    if hasattr(store, "write_at_once"):
        monkeypatch.setattr(store, "write_at_once", lambda operations, token=None: None)
    yield state
    state.clear()


def test_a_full_disk_refuses_what_is_new_and_loses_nothing_that_was_accepted(
    hub: Hub, client: PlainClient, runtime: PlainRuntime, full: list[bool]
) -> None:
    hub.controller.core.reports.settle_batches = 1
    (task,) = client.submit()
    runtime.take()
    full.append(True)
    runtime.end(task, result=b"42")
    group = m.Group(Options(Kind.CALL, "a:f"), [(new_task_ids(1)[0], b"")])
    denied = client.ask(lambda request: m.Submit(request, [group]), m.Denied)
    assert denied.code == Code.STORE and "the disk is full" in denied.text
    full.clear()
    assert client.ends(1)[task].result == b"42"
    runtime.next(m.Settled)
    wait_until(lambda: not hub.controller.core.audience.refusing)
    client.submit()


def test_a_store_that_cannot_be_read_refuses_the_question_and_nothing_else(
    hub: Hub, client: PlainClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StoreError("the file is damaged")

    for name in ("find", "find_statuses", "find_page"):
        monkeypatch.setattr(hub.controller.store, name, broken)
    keyed = m.Group(Options(Kind.CALL, "a:f", key="x"), [(new_task_ids(1)[0], b"")])
    for make in (m.AskTasks, lambda request: m.Submit(request, [keyed])):
        assert client.ask(make, m.Denied).code == Code.STORE
    client.submit()


def test_a_defect_met_by_one_message_is_told_to_its_sender_and_spares_the_others(
    hub: Hub, client: PlainClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(hub.controller.core.audience, "on_drain", defect)
    denied = client.ask(lambda request: m.DrainRuntime(request, "x"), m.Denied)
    assert denied.code == Code.INVALID and "a defect" in denied.text
    assert hub.controller.core.state.counters["messages.failed"] == 1
    client.submit()


def test_a_defect_met_by_one_look_at_the_time_spares_the_next(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = hub.controller
    done = threading.Event()
    found: list[bool] = []

    def look() -> None:
        earlier = controller._ticker
        assert earlier is not None
        earlier.cancel()
        try:
            controller._tick()
        except RuntimeError:
            found.append(controller._ticker is not earlier)
        done.set()

    def defect() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(controller.core.scheduler, "notices", defect)
    hub.loop.call_soon_threadsafe(look)
    assert done.wait(30.0) and found == [True]
    monkeypatch.undo()


def test_a_defect_met_by_one_effect_spares_the_others(
    hub: Hub, client: PlainClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = hub.controller._link
    assert link is not None
    send = link.send

    def defect(target: bytes, message: m.Message, frames: Any = ()) -> bool:
        if isinstance(message, m.Changed):
            raise RuntimeError("a defect")
        return send(target, message, frames)

    monkeypatch.setattr(link, "send", defect)
    client.say(CONTROLLER, m.DrainRuntime(client.request(), "plain"))
    with PlainRuntime(hub.url):
        client.say(CONTROLLER, m.DrainRuntime(client.request(), "plain"))
        (task,) = client.submit()
        assert client.ask(lambda request: m.AskTask(request, text_of(task)), m.TaskFound).task.status == Status.QUEUED
    assert hub.controller.core.state.counters["effects.failed"] == 1


def test_a_message_of_the_controllers_own_that_the_broker_refuses_starts_no_quarrel(
    hub: Hub, client: PlainClient
) -> None:
    too_large = m.Denied(7, Code.INVALID, "x" * 5_000_000)
    hub.call(lambda: hub.controller._link.send(client.name.encode(), too_large))  # type: ignore[union-attr]
    client.submit()
    rejected = {name: count for name, count in hub.counters.items() if name.startswith("rejected")}
    assert rejected == {"rejected.too-large": 1}
    assert hub.controller.core.state.counters["rejected.too-large"] == 1


def test_answers_that_nobody_could_read_are_refused_with_that_word(hub: Hub, client: PlainClient) -> None:
    for number in range(60):
        client.submit(job=f"{number}-" + "j" * 900, watch=False)
    client.ask(m.AskJobs, m.JobPage)
    answers = hub.controller._desk.answers
    original = answers[m.AskJobs]

    async def many(source: str, scope: Any, ask: Any) -> Any:
        page, frames = await original(source, scope, ask)
        return m.JobPage(ask.request, page.jobs * 100), frames

    answers[m.AskJobs] = many
    denied = client.ask(m.AskJobs, m.Denied)
    assert denied.code == Code.TOO_LARGE and "ask for less" in denied.text
    answers[m.AskJobs] = original


def test_a_runtime_that_sends_nonsense_harms_only_itself(hub: Hub, client: PlainClient, runtime: PlainRuntime) -> None:
    nan = float("nan")
    (task,) = client.submit()
    runtime.take()
    with PlainRuntime(hub.url, "mad", slots=1.0) as mad:
        mad.say(CONTROLLER, m.Heartbeat(nan, 2**63, 2**63, 2**64 - 1, nan, nan, {"x": nan}))
        mad.report(ended=[m.Ended(task, 1, AttemptEnd.SUCCEEDED)])
        mad.report(started=[m.Started(task, 2**63, nan)])
        mad.raw(CONTROLLER, b"\x92\xa6report\xa4text")
        assert mad.next(m.Denied).code == Code.MALFORMED
        info = m.RuntimeInfo("plain", nan, cpu=-1.0, speed=0.0)
        mad.say(CONTROLLER, m.Register(info, b"mad", [m.Held(task, 2**62, "dancing", nan)] * 3))
        assert mad.next(m.Denied).code == Code.INVALID
        mad.say(CONTROLLER, m.Register(m.RuntimeInfo("plain", 1.0), b"mad", [m.Held(task, 2**62, "dancing", nan)] * 3))
        mad.next(m.Registered)
    hub.until(lambda: hub.controller.core.validate() is None)
    runtime.end(task, result=b"42")
    assert client.ends(1)[task].result == b"42"
