"""Namespaces keep tenants apart: whatever bob asks of alice's tasks, he is answered as if there were none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from plain_peers import Hub, PlainClient, PlainRuntime
from security_bus import URL, show, until_known

from headway_bus import messages as m
from headway_bus.ids import TaskId, named_task_id, new_task_ids, text_of
from headway_bus.keyring import Authorized, Keyring
from headway_bus.keys import load_key, prepare_with
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.records import Code, Kind, Options, Reason, Requirements, Status
from headway_controller.usage import Quotas


@dataclass
class Tenants:
    hub: Hub
    keyring: Keyring
    alice: PlainClient
    bob: PlainClient
    admin: PlainClient
    runtime: PlainRuntime
    ended: TaskId
    """Of alice's, with a result and a line of log."""

    waiting: TaskId
    """Of alice's: it runs when there is a runtime of that name, which there is not."""


JOB = "nightly"
SECRET = b"what only alice may know"


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[Tenants]:
    (tmp_path / "state").mkdir()
    keyring = Keyring(tmp_path / "keys")
    keyring.init()
    made = {
        "alice": keyring.new("alice", "client", namespaces=("physics",)),
        "bob": keyring.new("bob", "client", namespaces=("astronomy",)),
        "root": keyring.new("root", "admin"),
        "gpu": keyring.new("gpu", "runtime", labels={"zone": "lab"}),
    }
    hub = Hub(URL, tmp_path / "state", keyring=keyring)
    with hub.with_controller(quotas=Quotas(max_tasks_per_namespace=50)):
        until_known(hub, *made.values())
        with (
            PlainClient(hub.url, prepare=prepare_with(made["alice"])) as alice,
            PlainClient(hub.url, prepare=prepare_with(made["bob"])) as bob,
            PlainClient(hub.url, prepare=prepare_with(made["root"])) as root,
            PlainRuntime(hub.url, "gpu", 1.0, prepare_with(made["gpu"])) as runtime,
        ):
            (ended,) = alice.submit(job=JOB, name="spectrum")
            runtime.take()
            runtime.start(ended)
            runtime.log(ended, "a line of alice's")
            runtime.end(ended, result=SECRET)
            alice.ends(1)
            (waiting,) = alice.submit(job=JOB, delay=3600.0, key="daily", name="spectrum")
            yield Tenants(hub, keyring, alice, bob, root, runtime, ended, waiting)


Ask = Callable[[Tenants, int], m.Message]

NOTHING_FOUND: dict[str, Ask] = {
    "a task by its id": lambda t, n: m.AskTask(n, text_of(t.ended)),
    "a task by a prefix": lambda t, n: m.AskTask(n, text_of(t.ended)[:8]),
    "a task that waits": lambda t, n: m.AskTask(n, text_of(t.waiting)),
    "a task by its key": lambda t, n: m.AskTask(n, "daily"),
    "a result": lambda t, n: m.AskResult(n, t.ended),
    "the result of one that waits": lambda t, n: m.AskResult(n, t.waiting),
    "logs": lambda t, n: m.AskLogs(n, t.ended),
    "why it waits": lambda t, n: m.AskExplain(n, t.waiting),
    "why it ended": lambda t, n: m.AskExplain(n, t.ended),
    "another description of one that waits": lambda t, n: m.Describe(n, t.waiting, "mine now"),
    "another description of one that ended": lambda t, n: m.Describe(n, t.ended, "mine now"),
    "to come after it": lambda t, n: m.Submit(
        n, [m.Group(Options(Kind.CALL, "a:f", after=[t.waiting]), [(new_task_ids(1)[0], b"")])]
    ),
    "to come after one that ended": lambda t, n: m.Submit(
        n, [m.Group(Options(Kind.CALL, "a:f", after=[t.ended]), [(new_task_ids(1)[0], b"")])]
    ),
}


@pytest.mark.parametrize("what", NOTHING_FOUND)
def test_anothers_task_is_not_there(tenants: Tenants, what: str) -> None:
    denied = tenants.bob.ask(lambda n: NOTHING_FOUND[what](tenants, n), m.Denied)
    assert denied.code == Code.NOT_FOUND, denied
    assert b"spectrum" not in denied.text.encode()


FORBIDDEN: dict[str, Ask] = {
    "the id of one that waits": lambda t, n: m.Submit(n, [m.Group(Options(Kind.CALL, "a:f"), [(t.waiting, b"")])]),
    "the id of one that ended": lambda t, n: m.Submit(n, [m.Group(Options(Kind.CALL, "a:f"), [(t.ended, b"")])]),
    "the same, said once more": lambda t, n: m.Submit(
        n, [m.Group(Options(Kind.CALL, "a:f"), [(t.ended, b"")])], again=True
    ),
    "its namespace": lambda t, n: m.Submit(
        n, [m.Group(Options(Kind.CALL, "a:f", namespace="physics"), [(new_task_ids(1)[0], b"")])]
    ),
    "an estimate in its namespace": lambda t, n: m.AskEstimate(n, Options(Kind.CALL, "a:f", namespace="physics")),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_is_submitted_in_anothers_place(tenants: Tenants, what: str) -> None:
    denied = tenants.bob.ask(lambda n: FORBIDDEN[what](tenants, n), m.Denied)
    assert denied.code == Code.FORBIDDEN, denied


@pytest.mark.parametrize("verb", [m.Cancel, m.RetryTasks, m.Purge])
def test_anothers_tasks_are_not_changed(tenants: Tenants, verb: type[m.Cancel | m.RetryTasks | m.Purge]) -> None:
    wanted = [tenants.ended, tenants.waiting]
    changed = tenants.bob.ask(lambda n: verb(n, wanted, JOB), m.Changed)
    assert changed.count == 0
    assert {text for text, _ in changed.refused} == {text_of(task) for task in wanted}
    assert all("not known" in why for _, why in changed.refused)
    for task, status in ((tenants.ended, Status.SUCCEEDED), (tenants.waiting, Status.WAITING)):
        found = tenants.alice.ask(lambda n, task=task: m.AskTask(n, text_of(task)), m.TaskFound)
        assert found.task.status == status


@pytest.mark.parametrize("verb", [m.RetryTasks, m.Purge])
def test_whoever_leaves_right_behind_a_question_sees_no_more_than_before(
    tenants: Tenants, verb: type[m.RetryTasks | m.Purge]
) -> None:
    tenants.bob.say(CONTROLLER, verb(tenants.bob.request(), [tenants.ended], JOB))
    tenants.bob.say(BROKER, m.Bye())
    tenants.alice.submit(name="spectrum", delay=3600.0)  # answered after what came before it
    found = tenants.alice.ask(lambda n: m.AskTask(n, text_of(tenants.ended)), m.TaskFound)
    assert (found.task.status, found.task.attempt) == (Status.SUCCEEDED, 1)


def test_lists_and_counts_are_of_ones_own(tenants: Tenants) -> None:
    tenants.bob.submit(2, job=JOB, delay=3600.0)
    for status in ([], [Status.WAITING], [Status.SUCCEEDED]):
        page = tenants.bob.ask(lambda n, status=status: m.AskTasks(n, status=status), m.TaskPage)
        assert {each.client for each in page.tasks} <= {"bob"}
    assert len(tenants.bob.ask(lambda n: m.AskTasks(n, job=JOB), m.TaskPage).tasks) == 2
    (job,) = tenants.bob.ask(m.AskJobs, m.JobPage).jobs
    assert (job.job, job.counts) == (JOB, {"waiting": 2})
    (job,) = tenants.alice.ask(m.AskJobs, m.JobPage).jobs
    assert job.counts == {"succeeded": 1, "waiting": 1}
    state = tenants.bob.ask(m.AskController, m.ControllerState)
    assert state.state["tasks"] == {"waiting": 2} and state.state["stored"] == {"unfinished": 2}
    assert state.counters == {}


def test_an_end_is_told_to_those_alone_whose_it_is(tenants: Tenants) -> None:
    """Neither to one who waits for it by its id, nor to one whose key it was when that meant somebody else."""
    wanted = [tenants.ended, tenants.waiting]
    tenants.bob.ask(lambda n: m.Await(n, wanted), m.Accepted)
    outcomes = tenants.bob.ends(2)
    for task in wanted:
        error = outcomes[task].error
        assert error is not None and error.reason == Reason.LOST and outcomes[task].result == b""
    tenants.alice.ask(lambda n: m.Cancel(n, [tenants.waiting]), m.Changed)
    (mine,) = tenants.bob.submit(delay=3600.0)
    tenants.bob.ask(lambda n: m.Cancel(n, [mine]), m.Changed)
    assert set(tenants.bob.ends(1)) == {mine}


def test_what_is_published_reaches_those_alone_whose_it_is(tenants: Tenants) -> None:
    topics = ["tasks", f"job.{JOB}"]
    for peer in (tenants.alice, tenants.bob, tenants.admin):
        peer.say(BROKER, m.Subscribe(topics))
    expected = {f"{namespace}{topic}" for topic in topics for namespace in ("physics\0", "astronomy\0", "")}
    tenants.hub.until(lambda: tenants.hub.controller.core.state.topics == expected)
    (hers,) = tenants.alice.submit(job=JOB, delay=1800.0)
    (his,) = tenants.bob.submit(job=JOB, delay=1800.0)
    tenants.bob.say(BROKER, m.Subscribe([f"logs.{text_of(hers)}", f"task.{text_of(hers)}"]))
    tenants.alice.ask(lambda n: m.Cancel(n, [hers]), m.Changed)
    tenants.bob.ask(lambda n: m.Cancel(n, [his]), m.Changed)
    for peer, seen in ((tenants.bob, {his}), (tenants.alice, {hers}), (tenants.admin, {hers, his})):
        told: set[str] = set()
        followed: set[str] = set()
        while {text_of(task) for task in seen} - told or followed != set(topics):
            event = peer.next(m.Event)
            followed.add(event.topic)
            told |= {change["task"] for change in event.data["changes"]}
        peer.say(BROKER, m.Ping(1.0))
        peer.next(m.Pong)
        events = [message for _, message, _ in peer.waiting if isinstance(message, m.Event)]
        told |= {change["task"] for event in events for change in event.data["changes"]}
        assert told == {text_of(task) for task in seen}


def test_the_same_key_is_another_task_in_another_namespace(tenants: Tenants) -> None:
    task = named_task_id("daily", "astronomy")
    group = m.Group(Options(Kind.CALL, "a:f", key="daily", delay=3600.0), [(task, b"")])
    assert tenants.bob.ask(lambda n: m.Submit(n, [group]), m.Accepted).known == 0
    assert tenants.bob.ask(lambda n: m.AskTask(n, "daily"), m.TaskFound).task.task == task
    assert tenants.alice.ask(lambda n: m.AskTask(n, "daily"), m.TaskFound).task.task == tenants.waiting


def test_a_name_says_nothing_about_a_namespace(tenants: Tenants) -> None:
    """What a client says of itself, with a NUL or without, does not make it somebody else."""
    for name in ("bob\0physics", "bob\0", "alice"):
        with show(tenants.hub, load_key(tenants.keyring.key_path("bob"))) as peer:
            peer.say(BROKER, m.Hello(m.PROTOCOL_VERSION, "client", name, b"12345678"))
            assert peer.next(m.Rejected).code == Code.FORBIDDEN


def test_a_limit_of_one_namespace_is_not_anothers(tenants: Tenants) -> None:
    group = m.Group(Options(Kind.CALL, "a:f", delay=3600.0), [(task, b"") for task in new_task_ids(51)])
    denied = tenants.bob.ask(lambda n: m.Submit(n, [group]), m.Denied)
    assert denied.code == Code.LIMIT and "controller.max_tasks_per_namespace" in denied.text
    tenants.alice.submit(45, delay=3600.0)


def test_a_key_whose_namespaces_change_is_cut_off_and_told_nothing_more(tenants: Tenants) -> None:
    line = next(each for each in tenants.keyring.peers() if each.name == "bob")
    tenants.keyring.revoke("bob")
    tenants.keyring.authorize(Authorized(line.public, "bob", "client", namespaces=("physics",)))
    assert tenants.bob.next(m.Rejected).code == Code.NOT_GREETED


def test_an_administrator_sees_all_and_is_told_whose(tenants: Tenants) -> None:
    tenants.bob.submit(delay=3600.0)
    page = tenants.admin.ask(m.AskTasks, m.TaskPage)
    assert {each.options.namespace for each in page.tasks} == {"physics", "astronomy"}
    assert tenants.admin.ask(lambda n: m.AskResult(n, tenants.ended), m.ResultFound).outcome.result == SECRET


def test_whose_a_task_is_survives_a_restart_of_the_controller(tenants: Tenants, tmp_path: Path) -> None:
    store = tenants.hub.controller.store
    found = tenants.hub.call(lambda: store.find_namespaces([tenants.ended, tenants.waiting]))
    assert found == {tenants.ended: "physics", tenants.waiting: "physics"}
    (unfinished,) = [task for page in tenants.hub.call(lambda: list(store.load_unfinished())) for task in page]
    assert unfinished.options.namespace == "physics"


def test_peers_of_other_namespaces_are_not_listed(tenants: Tenants) -> None:
    tenants.bob.say(BROKER, m.AskBroker(7))
    state = tenants.bob.next(m.BrokerState)
    assert {peer["name"] for peer in state.peers} == {"bob", "gpu", "controller"} and state.counters == {}


def test_a_runtime_has_the_labels_of_its_key(tenants: Tenants) -> None:
    (task,) = tenants.bob.submit(requirements=Requirements(labels={"zone": "lab"}))
    ((taken, _),) = tenants.runtime.take()
    assert taken == task
    (state,) = tenants.bob.ask(m.AskRuntimes, m.RuntimePage).runtimes
    assert state.info.labels == {"zone": "lab"}


def test_what_a_revoked_runtime_had_is_given_to_another_at_once(tenants: Tenants) -> None:
    """Not when its lease has run out: the heartbeat of this bus is a minute."""
    key = tenants.keyring.new("second", "runtime")
    until_known(tenants.hub, key)
    (task,) = tenants.bob.submit()
    ((_, first),) = tenants.runtime.take()
    tenants.runtime.start(task)
    with PlainRuntime(tenants.hub.url, "second", 1.0, prepare_with(key)) as second:
        tenants.keyring.revoke("gpu")
        ((taken, attempt),) = second.take()
        assert taken == task and attempt == first + 1
        second.start(task)
        second.end(task, result=b"second")
        assert tenants.bob.ends(1)[task].result == b"second"
    found = tenants.admin.ask(lambda n: m.AskTask(n, text_of(task)), m.TaskFound).task
    assert any("revoked" in step.reason for step in found.story)
