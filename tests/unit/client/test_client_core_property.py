"""The client's core against a hub that forgets, over a network that drops, repeats and cuts: hypothesis drives it.

Whatever happened, once the network is kind again every submission is accepted once, every task ends once, and every
question is answered once.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headway import effects as cores
from headway.core import REPEAT_AFTER, Core
from headway.parcels import Unit, make_unit
from headway_bus import messages as m
from headway_bus.codec import Decoder, encode, for_client
from headway_bus.ids import TaskId, new_task_ids
from headway_bus.records import Code, Kind, Options, Outcome, Status

OPTIONS = [Options(Kind.CALL, "work:first"), Options(Kind.CALL, "work:second"), Options(Kind.CALL, "work:refused")]
hub_reads = Decoder(m.BROKER_RECEIVES | m.ClientToController)
client_reads = for_client()


class Lossy(RuleBasedStateMachine):
    """``to_hub`` and ``to_client`` are what is on the wire; a cut loses both."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(inline=50)
        self.now = 0.0
        self.up = False
        self.to_hub: list[bytes] = []
        self.to_client: list[bytes] = []
        self.stored: dict[TaskId, bool] = {}  # whether it has ended
        self.watchers: set[TaskId] = set()
        self.sent_batches: dict[int, list[TaskId]] = {}
        self.batch = 0
        self.admitted: list[Unit] = []
        self.refused: list[Unit] = []
        self.ended: list[Any] = []
        self.answered: list[int] = []
        self.units: list[Unit] = []
        self.questions = 0
        self.connect(b"first")

    # ------------------------------------------------------------------------------------------------ the two ends

    def perform(self, effects: list[cores.Effect]) -> None:
        for effect in effects:
            match effect:
                case cores.Send(_, message, _):
                    if self.up:
                        self.to_hub.append(encode(message))
                case cores.Admitted(units, _):
                    self.admitted += units
                case cores.NotAdmitted(unit, _):
                    self.refused.append(unit)
                case cores.Ended(ends):
                    self.ended += [handle for handle, _, _ in ends]
                case cores.Answered(handle, _, _):
                    self.answered.append(handle)

    def say(self, message: m.Message) -> None:
        self.to_client.append(encode(message))

    def hub_hears(self, data: bytes) -> None:
        message = hub_reads.decode(data)
        match message:
            case m.Submit(request, groups):
                if any(group.options is not None and group.options.target == "work:refused" for group in groups):
                    self.say(m.Denied(request, Code.INVALID, "refused"))
                    return
                tasks = [task for group in groups for task, _ in group.tasks]
                for task in tasks:
                    self.stored.setdefault(task, False)
                self.watchers.update(tasks)
                self.say(m.Accepted(request, len(tasks)))
            case m.Await(request, tasks):
                self.watchers.update(tasks)
                self.say(m.Accepted(request, len(tasks)))
            case m.Received(batches):
                for batch in batches:
                    self.sent_batches.pop(batch, None)
            case m.AskRuntimes(request):
                self.say(m.RuntimePage(request, []))

    def tell_ends(self) -> None:
        told = {task for tasks in self.sent_batches.values() for task in tasks}
        ready = [task for task, over in self.stored.items() if over and task in self.watchers and task not in told]
        if ready:
            self.batch += 1
            self.sent_batches[self.batch] = ready
            self.watchers.difference_update(ready)
            self.say(m.TasksEnded(self.batch, [Outcome(task, Status.SUCCEEDED, 1) for task in ready]))

    def connect(self, controller: bytes) -> None:
        self.up = True
        self.perform(self.core.on_up(controller, self.now))

    # ------------------------------------------------------------------------------------------------ what happens

    @rule(options=st.sampled_from(OPTIONS), count=st.integers(1, 3))
    def submit(self, options: Options, count: int) -> None:
        ids = new_task_ids(count)
        unit = make_unit(options, [(task, b"x") for task in ids], [object() for _ in ids], 50)
        self.units.append(unit)
        self.core.submit(unit)

    @rule()
    def flush(self) -> None:
        self.perform(self.core.flush(self.now))

    @rule()
    def ask(self) -> None:
        self.questions += 1
        _, effects = self.core.ask(m.AskRuntimes, self.questions, self.now)
        self.perform(effects)

    @precondition(lambda self: self.to_hub)
    @rule(fate=st.sampled_from(["arrives", "arrives", "arrives", "twice", "lost"]))
    def carry_to_hub(self, fate: str) -> None:
        data = self.to_hub.pop(0)
        for _ in range({"arrives": 1, "twice": 2, "lost": 0}[fate]):
            self.hub_hears(data)

    @precondition(lambda self: self.to_client)
    @rule(fate=st.sampled_from(["arrives", "arrives", "arrives", "twice", "lost"]))
    def carry_to_client(self, fate: str) -> None:
        message = client_reads.decode(self.to_client.pop(0))
        for _ in range({"arrives": 1, "twice": 2, "lost": 0}[fate]):
            self.perform(self.core.on_messages([(b"controller", message, [])], self.now))

    @rule()
    def carry_all(self) -> None:
        while self.to_hub or self.to_client:
            if self.to_hub:
                self.hub_hears(self.to_hub.pop(0))
            else:
                message = client_reads.decode(self.to_client.pop(0))
                self.perform(self.core.on_messages([(b"controller", message, [])], self.now))

    @precondition(lambda self: any(not over for over in self.stored.values()))
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "twice", "lost"]))
    def task_ends(self, data: st.DataObject, fate: str) -> None:
        self.stored[data.draw(st.sampled_from([task for task, over in self.stored.items() if not over]))] = True
        before = len(self.to_client)
        self.tell_ends()
        if fate != "arrives":
            told = self.to_client[before:]
            self.to_client[before:] = told * 2 if fate == "twice" else []

    @rule(seconds=st.sampled_from([0.1, REPEAT_AFTER]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.core.on_tick(self.now))

    @rule()
    def cut(self) -> None:
        self.up = False
        self.to_hub.clear()
        self.to_client.clear()
        self.watchers.clear()  # the hub forgets a client that is gone; that it must ask again is the point
        self.sent_batches.clear()
        self.perform(self.core.on_down())

    @precondition(lambda self: not self.up)
    @rule(controller=st.sampled_from([b"", b"one", b"two"]))
    def reconnect(self, controller: bytes) -> None:
        self.connect(controller)

    @precondition(lambda self: self.up)
    @rule(controller=st.sampled_from([b"", b"one", b"two"]))
    def controller_changes(self, controller: bytes) -> None:
        self.watchers.clear()
        self.sent_batches.clear()
        self.perform(self.core.on_controller(controller, self.now))

    # ------------------------------------------------------------------------------------------------ what must hold

    @invariant()
    def nothing_is_told_twice(self) -> None:
        told = [id(unit) for unit in self.admitted + self.refused]
        assert len(told) == len(set(told))
        assert len(self.ended) == len({id(handle) for handle in self.ended})
        assert len(self.answered) == len(set(self.answered))

    def teardown(self) -> None:
        """The network is kind from now on."""
        self.cut()
        self.connect(b"last")
        for _ in range(200):
            self.now += REPEAT_AFTER
            self.perform(self.core.on_tick(self.now))
            self.carry_all()
            for task in self.stored:
                self.stored[task] = True
            self.tell_ends()
            if not (self.to_hub or self.to_client or self.core.unaccepted or self.core.awaited or self.core.requests):
                break
        self.nothing_is_told_twice()
        admitted = {id(unit) for unit in self.admitted}
        refused = {id(unit) for unit in self.refused}
        assert refused == {id(unit) for unit in self.units if unit.options.target == "work:refused"}
        assert admitted == {id(unit) for unit in self.units} - refused
        assert {id(handle) for handle in self.ended} == {id(each) for unit in self.admitted for each in unit.handles}
        assert sorted(self.answered) == list(range(1, self.questions + 1))


Lossy.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestLossy = Lossy.TestCase
