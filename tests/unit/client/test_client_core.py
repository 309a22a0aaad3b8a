"""The client's core: what it sends, repeats, acknowledges and gives up, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from headway import effects as cores
from headway.core import (
    ACKNOWLEDGE_BATCHES,
    ACKNOWLEDGE_BYTES,
    AWAIT_CHUNK,
    AWAIT_WINDOW,
    BUSY_PAUSE,
    REPEAT_AFTER,
    WINDOW_MESSAGES,
    Core,
)
from headway.parcels import MESSAGE_TASKS, Unit, make_unit
from headway_bus import messages as m
from headway_bus.codec import Decoder, encode, for_client
from headway_bus.errors import BusError, ProtocolError, Refused
from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Blob, Code, Kind, LogRecord, Options, Outcome, Status

HUB = b"hub-one"
OPTIONS = Options(Kind.CALL, "math:sqrt")
hub_reads = Decoder(m.BROKER_RECEIVES | m.ClientToController)
client_reads = for_client()


class Desk:
    """A core and what it said, with every message through the codec both ways. Nothing it says may be overlooked."""

    def __init__(self) -> None:
        self.core = Core(inline=100)
        self.now = 0.0
        self.sent: list[tuple[m.Message, list[Any]]] = []
        self.effects: list[Any] = []

    def take(self, effects: list[cores.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, cores.Send):
                self.sent.append((hub_reads.decode(encode(effect.message)), list(effect.frames)))
            else:
                self.effects.append(effect)

    def hear(self, *messages: m.Message, frames: list[bytes] | None = None) -> None:
        received = [(b"controller", client_reads.decode(encode(message)), list(frames or [])) for message in messages]
        self.take(self.core.on_messages(received, self.now))

    def up(self, controller: bytes = HUB) -> None:
        self.take(self.core.on_up(controller, self.now))

    def submit(self, *units: Unit) -> None:
        for unit in units:
            self.core.submit(unit)
        self.take(self.core.flush(self.now))

    def ask(self, make: Any = m.AskRuntimes, handle: Any = "question", **settings: Any) -> int:
        number, effects = self.core.ask(make, handle, self.now, **settings)
        self.take(effects)
        return number

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.core.on_tick(self.now))

    def said(self, kind: type[m.Message]) -> list[Any]:
        """Take what was sent, which must all be of this kind."""
        found = [message for message, _frames in self.sent]
        self.sent.clear()
        assert all(isinstance(message, kind) for message in found), found
        return found

    def did(self, kind: type[Any]) -> list[Any]:
        found, self.effects = self.effects, []
        assert all(isinstance(effect, kind) for effect in found), found
        return found

    def assert_quiet(self) -> None:
        assert self.sent == []
        assert self.effects == []


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.up()
    desk.assert_quiet()
    return desk


def unit(count: int = 1, data: bytes | Blob = b"x", options: Options = OPTIONS) -> Unit:
    ids = new_task_ids(count)
    return make_unit(options, [(task, data) for task in ids], [object() for _ in ids], 100)


def ids_of(submit: m.Submit) -> list[TaskId]:
    return [task for group in submit.groups for task, _payload in group.tasks]


def accept(desk: Desk, submit: m.Submit) -> None:
    desk.hear(m.Accepted(submit.request, len(ids_of(submit))))


def end(batch: int, *tasks: TaskId) -> m.TasksEnded:
    return m.TasksEnded(batch, [Outcome(task, Status.SUCCEEDED, 1, b"\xc0") for task in tasks])


class TestSubmitting:
    def test_units_of_one_turn_share_a_message_and_those_of_the_same_options_a_group(self, desk: Desk) -> None:
        other = Options(Kind.CALL, "math:floor")
        desk.submit(unit(), unit(options=other), unit())
        (submit,) = desk.said(m.Submit)
        assert [(group.options.target, len(group.tasks)) for group in submit.groups] == [
            ("math:sqrt", 2),
            ("math:floor", 1),
        ]

    def test_acceptance_names_the_units_once(self, desk: Desk) -> None:
        first, second = unit(), unit()
        desk.submit(first, second)
        (submit,) = desk.said(m.Submit)
        accept(desk, submit)
        accept(desk, submit)
        (admitted,) = desk.did(cores.Admitted)
        assert admitted.units == [first, second]
        assert desk.core.counters == {"answers_unasked": 1}

    def test_long_arguments_travel_as_frames_and_blobs_as_their_names(self, desk: Desk) -> None:
        blob = Blob(b"h" * 32, 10**9)
        desk.submit(unit(data=b"short"), unit(data=b"l" * 200), unit(data=blob), unit(data=b"m" * 101))
        ((submit, frames),) = desk.sent
        assert isinstance(submit, m.Submit)
        assert [payload for _task, payload in submit.groups[0].tasks] == [b"short", 0, blob, 1]
        assert frames == [b"l" * 200, b"m" * 101]

    def test_a_message_holds_so_many_tasks_and_no_more(self, desk: Desk) -> None:
        desk.submit(*(unit(400) for _ in range(5)))
        assert [len(ids_of(submit)) for submit in desk.said(m.Submit)] == [800, 800, 400]
        assert MESSAGE_TASKS == 1000

    def test_the_window_closes_and_opens_with_each_answer(self, desk: Desk) -> None:
        desk.submit(*(unit(MESSAGE_TASKS) for _ in range(WINDOW_MESSAGES + 2)))
        submits = desk.said(m.Submit)
        assert len(submits) == WINDOW_MESSAGES
        assert not desk.core.has_room
        accept(desk, submits[0])
        assert len(desk.said(m.Submit)) == 1
        desk.did(cores.Admitted)
        accept(desk, submits[1])
        accept(desk, submits[2])
        assert len(desk.said(m.Submit)) == 1
        assert desk.core.has_room

    def test_without_a_controller_it_waits_and_can_be_withdrawn(self) -> None:
        desk = Desk()
        early, withdrawn = unit(), unit()
        desk.submit(early, withdrawn)
        desk.up(controller=b"")
        desk.assert_quiet()
        assert desk.core.unaccepted == 2
        assert desk.core.withdraw(withdrawn)
        desk.take(desk.core.on_controller(HUB, 1.0))
        (submit,) = desk.said(m.Submit)
        assert ids_of(submit) == [early.tasks[0][0]]
        assert not desk.core.withdraw(early)

    def test_an_overdue_answer_is_asked_for_again_and_says_so(self, desk: Desk) -> None:
        desk.submit(unit())
        (first,) = desk.said(m.Submit)
        desk.tick(REPEAT_AFTER - 0.1)
        desk.assert_quiet()
        desk.tick(0.2)
        (second,) = desk.said(m.Submit)
        assert (first.again, second.again) == (False, True)
        assert ids_of(second) == ids_of(first)
        assert second.request == first.request

    def test_a_new_connection_hears_everything_that_was_not_answered(self, desk: Desk) -> None:
        desk.submit(unit())
        desk.submit(unit())
        before = desk.said(m.Submit)
        desk.take(desk.core.on_down())
        desk.tick(100)
        desk.assert_quiet()
        desk.up()
        assert [ids_of(each) for each in desk.said(m.Submit)] == [ids_of(each) for each in before]


class TestRefusals:
    def test_a_message_refused_for_one_task_is_halved_until_that_one_is_found(self, desk: Desk) -> None:
        units = [unit() for _ in range(7)]
        bad = units[4].tasks[0][0]
        desk.submit(*units)
        while desk.sent:
            for submit in desk.said(m.Submit):
                if bad in ids_of(submit):
                    desk.hear(m.Denied(submit.request, Code.INVALID, "no"))
                else:
                    accept(desk, submit)
        refused = [effect for effect in desk.effects if isinstance(effect, cores.NotAdmitted)]
        admitted = [effect for effect in desk.effects if isinstance(effect, cores.Admitted)]
        assert [effect.unit for effect in refused] == [units[4]]
        assert isinstance(refused[0].error, Refused)
        assert refused[0].error.code == Code.INVALID
        assert sorted(id(each) for effect in admitted for each in effect.units) == sorted(
            id(each) for each in units if each is not units[4]
        )
        assert bad not in desk.core.awaited

    def test_a_refusal_that_concerns_all_is_told_to_all_at_once(self, desk: Desk) -> None:
        desk.submit(unit(), unit())
        (submit,) = desk.said(m.Submit)
        desk.hear(m.Denied(submit.request, Code.STORE, "the disk is full"))
        assert [str(effect.error) for effect in desk.did(cores.NotAdmitted)] == ["the disk is full"] * 2
        assert desk.core.unaccepted == 0
        assert desk.core.awaited == {}

    def test_overload_is_waited_out(self, desk: Desk) -> None:
        desk.submit(unit())
        (submit,) = desk.said(m.Submit)
        desk.hear(m.Denied(submit.request, Code.OVERLOADED, "later"))
        desk.tick(BUSY_PAUSE / 2)
        desk.assert_quiet()
        desk.tick(BUSY_PAUSE)
        assert len(desk.said(m.Submit)) == 1

    def test_what_the_broker_could_not_pass_on_goes_again_and_only_that(self, desk: Desk) -> None:
        desk.submit(unit())
        desk.ask()
        desk.sent.clear()
        desk.hear(m.Undeliverable("controller", "ask_runtimes", Code.OVERLOADED))
        desk.tick(BUSY_PAUSE)
        assert len(desk.said(m.AskRuntimes)) == 1

    def test_a_broker_that_will_not_have_us_ends_everything(self, desk: Desk) -> None:
        desk.submit(*(unit(MESSAGE_TASKS) for _ in range(WINDOW_MESSAGES + 1)))
        desk.ask()
        desk.sent.clear()
        desk.take(desk.core.on_over(m.Rejected(Code.FORBIDDEN, "no key")))
        kinds = [type(effect) for effect in desk.effects]
        assert kinds.count(cores.NotAdmitted) == WINDOW_MESSAGES + 1
        assert kinds.count(cores.Failed) == 1
        desk.effects.clear()
        desk.submit(unit())
        desk.ask()
        assert [str(effect.error) for effect in desk.effects] == ["the broker refuses this client: no key"] * 2


class TestEnds:
    def test_an_end_is_told_once_and_acknowledged_each_time(self, desk: Desk) -> None:
        given = unit(2)
        desk.submit(given)
        (submit,) = desk.said(m.Submit)
        accept(desk, submit)
        desk.did(cores.Admitted)
        first, second = ids_of(submit)
        desk.hear(end(1, first), end(2, second))
        ended = desk.did(cores.Ended)
        assert [handle for effect in ended for handle, _, _ in effect.ends] == given.handles
        desk.assert_quiet()
        desk.tick(0.1)
        assert desk.said(m.Received) == [m.Received([1, 2])]
        desk.hear(end(1, first))
        desk.tick(0.1)
        assert desk.said(m.Received) == [m.Received([1])]
        desk.assert_quiet()
        assert desk.core.counters["ends_repeated"] == 1

    def test_many_batches_or_large_ones_are_acknowledged_at_once(self, desk: Desk) -> None:
        desk.hear(*(end(batch, *new_task_ids(1)) for batch in range(ACKNOWLEDGE_BATCHES)))
        assert desk.said(m.Received) == [m.Received(list(range(ACKNOWLEDGE_BATCHES)))]
        desk.hear(end(99, *new_task_ids(1)), frames=[bytes(ACKNOWLEDGE_BYTES)])
        assert desk.said(m.Received) == [m.Received([99])]

    def test_another_controller_is_not_told_about_the_batches_of_the_one_before(self, desk: Desk) -> None:
        desk.hear(end(1, *new_task_ids(1)))
        desk.take(desk.core.on_controller(b"another", 1.0))
        desk.tick(0.1)
        desk.assert_quiet()

    def test_results_come_from_the_header_from_frames_and_as_blobs(self, desk: Desk) -> None:
        given = unit(3)
        desk.submit(given)
        desk.sent.clear()
        blob = Blob(b"h" * 32, 5)
        results: list[bytes | int | Blob] = [b"in line", 1, blob]
        outcomes = [
            Outcome(task, Status.SUCCEEDED, 1, result) for (task, _), result in zip(given.tasks, results, strict=True)
        ]
        desk.hear(m.TasksEnded(1, outcomes), frames=[b"zero", b"one"])
        (ended,) = desk.did(cores.Ended)
        assert [data for _, _, data in ended.ends] == [b"in line", b"one", blob]

    def test_an_end_may_come_before_the_acceptance(self, desk: Desk) -> None:
        desk.submit(unit())
        (submit,) = desk.said(m.Submit)
        desk.hear(end(1, *ids_of(submit)))
        desk.did(cores.Ended)
        accept(desk, submit)
        desk.did(cores.Admitted)
        assert desk.core.awaited == {}

    def test_a_returning_controller_is_told_of_all_that_is_awaited_in_chunks_and_within_a_window(
        self, desk: Desk
    ) -> None:
        chunks = AWAIT_WINDOW + 2
        for _ in range(chunks):
            desk.submit(unit(AWAIT_CHUNK))
            (submit,) = desk.said(m.Submit)
            accept(desk, submit)
        desk.effects.clear()
        desk.take(desk.core.on_controller(b"", 1.0))
        desk.assert_quiet()
        desk.take(desk.core.on_controller(b"another", 1.0))
        awaits = desk.said(m.Await)
        assert len(awaits) == AWAIT_WINDOW
        told = set().union(*(each.tasks for each in awaits))
        for each in awaits:
            desk.hear(m.Accepted(each.request, len(each.tasks)))
        for each in desk.said(m.Await):
            told |= set(each.tasks)
            desk.hear(m.Accepted(each.request, len(each.tasks)))
        desk.assert_quiet()
        assert told == set(desk.core.awaited)
        assert len(told) == chunks * AWAIT_CHUNK

    def test_tasks_not_accepted_yet_are_submitted_again_instead(self, desk: Desk) -> None:
        desk.submit(unit())
        desk.sent.clear()
        desk.take(desk.core.on_controller(b"another", 1.0))
        assert len(desk.said(m.Submit)) == 1

    def test_a_watched_task_of_somebody_else_is_asked_for_again_until_that_is_heard(self, desk: Desk) -> None:
        (task,) = new_task_ids(1)
        desk.take(desk.core.watch(task, "mine", 0.0))
        (first,) = desk.said(m.Await)
        desk.tick(REPEAT_AFTER)
        assert desk.said(m.Await) == [first]
        desk.hear(m.Accepted(first.request, 1))
        desk.tick(REPEAT_AFTER)
        desk.assert_quiet()
        desk.hear(end(1, task))
        assert desk.did(cores.Ended)[0].ends[0][0] == "mine"

    def test_two_handles_of_one_task_both_hear(self, desk: Desk) -> None:
        (task,) = new_task_ids(1)
        desk.take(desk.core.watch(task, "one", 0.0))
        desk.take(desk.core.watch(task, "two", 0.0))
        desk.sent.clear()
        desk.hear(end(1, task))
        assert [handle for handle, _, _ in desk.did(cores.Ended)[0].ends] == ["one", "two"]

    def test_a_refused_await_ends_the_wait_instead_of_hanging(self, desk: Desk) -> None:
        (task,) = new_task_ids(1)
        desk.take(desk.core.watch(task, "mine", 0.0))
        (ask,) = desk.said(m.Await)
        desk.hear(m.Denied(ask.request, Code.FORBIDDEN, "not yours"))
        ((handle, outcome, _),) = desk.did(cores.Ended)[0].ends
        assert handle == "mine"
        assert outcome.error is not None
        assert "not yours" in outcome.error.message


class TestRequests:
    def test_an_answer_is_given_once(self, desk: Desk) -> None:
        number = desk.ask()
        desk.said(m.AskRuntimes)
        desk.hear(m.RuntimePage(number, []))
        desk.hear(m.RuntimePage(number, []))
        (answered,) = desk.did(cores.Answered)
        assert answered.handle == "question"

    def test_a_question_is_repeated_when_overdue_but_a_verb_only_on_a_new_connection(self, desk: Desk) -> None:
        desk.ask()
        desk.ask(lambda number: m.Control(number, "pause"), "verb", safe=False)
        desk.sent.clear()
        desk.tick(REPEAT_AFTER)
        assert len(desk.said(m.AskRuntimes)) == 1
        desk.take(desk.core.on_down())
        desk.up()
        assert sorted(type(message).__name__ for message, _ in desk.sent) == ["AskRuntimes", "Control"]

    def test_who_gave_up_is_not_answered(self, desk: Desk) -> None:
        number = desk.ask()
        desk.sent.clear()
        desk.core.forget(number)
        desk.hear(m.RuntimePage(number, []))
        desk.assert_quiet()
        desk.tick(REPEAT_AFTER)
        desk.assert_quiet()

    def test_a_refusal_has_its_code(self, desk: Desk) -> None:
        number = desk.ask()
        desk.sent.clear()
        desk.hear(m.Denied(number, Code.NOT_FOUND, "no such"))
        (failed,) = desk.did(cores.Failed)
        assert failed.error.code == Code.NOT_FOUND

    def test_the_broker_is_asked_even_while_there_is_no_controller(self) -> None:
        desk = Desk()
        desk.up(controller=b"")
        desk.ask(m.AskBroker, target=b"")
        desk.ask()
        assert len(desk.said(m.AskBroker)) == 1

    def test_an_answer_that_cannot_be_read_is_an_error_for_who_asked(self, desk: Desk) -> None:
        number = desk.ask()
        desk.sent.clear()
        desk.take(desk.core.on_undecodable(number, "expected int"))
        (failed,) = desk.did(cores.Failed)
        assert isinstance(failed.error, ProtocolError)

    def test_giving_up_ends_all_that_is_open(self, desk: Desk) -> None:
        desk.ask()
        desk.submit(unit())
        desk.sent.clear()
        desk.take(desk.core.give_up(BusError("closed")))
        assert {type(effect) for effect in desk.effects} == {cores.Failed, cores.NotAdmitted}


class TestTopics:
    def test_subscriptions_are_counted_and_said_again_on_a_new_connection(self, desk: Desk) -> None:
        desk.take(desk.core.subscribe("queues"))
        desk.take(desk.core.subscribe("queues"))
        assert desk.said(m.Subscribe) == [m.Subscribe(["queues"])]
        desk.take(desk.core.unsubscribe("queues"))
        desk.assert_quiet()
        desk.take(desk.core.on_down())
        desk.up()
        assert desk.said(m.Subscribe) == [m.Subscribe(["queues"])]
        desk.take(desk.core.unsubscribe("queues"))
        assert desk.said(m.Unsubscribe) == [m.Unsubscribe(["queues"])]
        desk.take(desk.core.unsubscribe("queues"))
        desk.assert_quiet()

    def test_events_are_handed_on(self, desk: Desk) -> None:
        record = LogRecord(new_task_ids(1)[0], 1, 0, "stdout", 0.0, "hello")
        desk.hear(m.Event("logs.x", "logs", {}, [record]))
        (published,) = desk.did(cores.Published)
        assert published.event.records == [record]


def test_an_end_that_was_heard_is_not_awaited_again_when_its_submission_is_split(desk: Desk) -> None:
    first, second = unit(), unit()
    desk.submit(first, second)
    (submit,) = desk.said(m.Submit)
    (task, _data) = first.tasks[0]
    desk.hear(end(1, task))
    desk.did(cores.Ended)
    desk.sent.clear()
    desk.hear(m.Denied(submit.request, Code.INVALID, "one of them is wrong"))
    assert len(desk.said(m.Submit)) == 2
    assert list(desk.core.awaited) == [second.tasks[0][0]]


def test_requests_are_numbered_from_anywhere() -> None:
    """An answer to an earlier process of the same name, still on its way, must not be taken for one of ours."""
    firsts = []
    for _ in range(2):
        desk = Desk()
        desk.up()
        desk.submit(unit())
        firsts.append(desk.said(m.Submit)[0].request)
    assert firsts[0] != firsts[1]
