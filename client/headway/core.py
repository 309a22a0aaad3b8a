"""What a client must remember so that nothing it asked for is lost. Pure: events and the time go in, effects come out.

Three kinds of open business, each repeated until it is settled:

* submissions, in an outbox with a window: what does not fit waits here, so a slow hub never fills this process's memory;
* requests: questions and verbs, each with one answer;
* awaited tasks: accepted, their end not heard yet. When the controller returns it is told their ids again.

``handle`` and ``tag`` are the caller's own things; the core gives them back in its effects and never looks inside.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from headway.effects import Admitted, Answered, Effect, Ended, Failed, NotAdmitted, Published, Send
from headway.parcels import MESSAGE_BYTES, MESSAGE_TASKS, Parcel, Unit, submit_message
from headway.request import Request
from headway_bus.endpoint import Frame
from headway_bus.errors import BusError, ProtocolError, Refused
from headway_bus.handover import Batch, Outbox
from headway_bus.ids import TaskId
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.messages import (
    Accepted,
    Await,
    Denied,
    Event,
    Message,
    Received,
    Rejected,
    Subscribe,
    TasksEnded,
    Undeliverable,
    Unsubscribe,
    tag_of,
)
from headway_bus.records import Blob, Code, ErrorInfo, Outcome, Reason, Status

WINDOW_MESSAGES = 16
"""Submissions on their way at most; the controller's answers open the window again."""

WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes of arguments on their way at most; a single larger message still goes, alone."""

REPEAT_AFTER = 5.0
"""Seconds without an answer after which a submission, or what is safe to say twice, is said again."""

BUSY_PAUSE = 0.25
"""Seconds before what the hub could not take is said again."""

ACKNOWLEDGE_BATCHES = 16
"""Batches of ends that are acknowledged together. An end told to its waiter at once, its acknowledgement with the next
tick: in between, a message of its own for each would cost the round trip of a single task a fifth. The controller allows
four times as many on their way."""

ACKNOWLEDGE_BYTES = 4 * 1024 * 1024
"""Bytes of results after which the controller is let go of them at once."""

AWAIT_CHUNK = 1_000
AWAIT_WINDOW = 8

PASSING = frozenset({Code.NO_CONTROLLER, Code.OVERLOADED})
"""Refusals that time mends: the same message goes again."""

WHOLE = frozenset({Code.STORE, Code.DRAINING, Code.FORBIDDEN})
"""Refusals that would be the same for every part of a submission, so that there is no use in halving it."""


@dataclass(slots=True)
class Core:
    """The state of one client. Every ``on_…`` returns what is to be done now."""

    inline: int = 4096
    """Bytes of arguments that travel in the header; longer ones are frames of their own."""

    up: bool = False
    controller: bytes = b""
    awaited: dict[TaskId, list[Any] | Any] = field(default_factory=dict)
    submits: Outbox[Parcel] = field(default_factory=lambda: Outbox(REPEAT_AFTER))
    requests: Outbox[Request] = field(default_factory=lambda: Outbox(REPEAT_AFTER))
    topics: dict[str, int] = field(default_factory=dict)
    waiting: deque[Unit] = field(default_factory=deque)
    waiting_weight: int = 0
    over: BusError | None = None
    counters: dict[str, int] = field(default_factory=dict)
    _number: int = field(default_factory=lambda: secrets.randbits(40))
    """Of the last request. It begins anywhere: an answer to an earlier process of the same name, which may still be on its
    way, must not be taken for one of ours."""

    _again_at: dict[str, float] = field(default_factory=dict)
    _awaits: deque[list[TaskId]] = field(default_factory=deque)
    _awaits_open: dict[int, list[TaskId]] = field(default_factory=dict)
    _heard: list[int] = field(default_factory=list)
    _heard_bytes: int = 0

    # -------------------------------------------------------------------------------------------- the caller's verbs

    @property
    def ready(self) -> bool:
        """Whether there is a controller to talk to."""
        return self.up and bool(self.controller)

    @property
    def unaccepted(self) -> int:
        """Units that the bus has not stored yet."""
        return len(self.waiting) + sum(len(parcel.units) for parcel in self.submits.contents)

    @property
    def has_room(self) -> bool:
        """Whether another submission may be handed in without piling up."""
        return len(self.submits) < WINDOW_MESSAGES and self.waiting_weight < MESSAGE_BYTES

    def submit(self, unit: Unit) -> None:
        """Take a submission in; it leaves with the next :meth:`flush`, together with what came beside it."""
        self.waiting.append(unit)
        self.waiting_weight += unit.weight

    def withdraw(self, unit: Unit) -> bool:
        """Take back a submission that has not left. False: it has, and may be stored already."""
        try:
            self.waiting.remove(unit)
        except ValueError:
            return False
        self.waiting_weight -= unit.weight
        return True

    def flush(self, now: float) -> list[Effect]:
        """Send what waits, as far as the window allows."""
        if self.over is not None:
            units, self.waiting, self.waiting_weight = list(self.waiting), deque(), 0
            return [NotAdmitted(unit, self.over) for unit in units]
        effects: list[Effect] = []
        while self.waiting and self.ready and self._window_is_open():
            effects += self._dispatch(self._take_units(), now)
        return effects

    def watch(self, task: TaskId, handle: Any, now: float) -> list[Effect]:
        """Wait for the end of a task that was submitted before, or by somebody else."""
        self._add_awaited(task, handle)
        self._awaits.append([task])
        return self._send_awaits(now)

    def ask(
        self,
        make: Callable[[int], Message],
        handle: Any,
        now: float,
        *,
        target: bytes = CONTROLLER,
        frames: Sequence[Frame] = (),
        safe: bool = True,
    ) -> tuple[int, list[Effect]]:
        """Ask, now or as soon as there is somebody to ask. Returns the request's number, for :meth:`forget`."""
        number = self._next_number()
        if self.over is not None:
            return number, [Failed(handle, self.over)]
        self.requests.first = number
        batch = self.requests.add(Request(target, make(number), frames, handle, safe))
        return number, self._send_requests([batch], now)

    def forget(self, number: int) -> None:
        """Whoever asked has given up; a late answer will be passed over."""
        self.requests.acknowledge([number])

    def subscribe(self, topic: str) -> list[Effect]:
        """From now on copies of what is published on the topic come as :class:`Published`. Counted: say both as often."""
        self.topics[topic] = self.topics.get(topic, 0) + 1
        return [Send(BROKER, Subscribe([topic]))] if self.up and self.topics[topic] == 1 else []

    def unsubscribe(self, topic: str) -> list[Effect]:
        count = self.topics.get(topic, 0)
        if count > 1:
            self.topics[topic] = count - 1
            return []
        self.topics.pop(topic, None)
        return [Send(BROKER, Unsubscribe([topic]))] if self.up and count else []

    # -------------------------------------------------------------------------------------------- what happens outside

    def on_up(self, controller: bytes, now: float) -> list[Effect]:
        """The broker has accepted us; the controller's instance, empty if there is none yet."""
        self.up = True
        effects: list[Effect] = [Send(BROKER, Subscribe(list(self.topics)))] if self.topics else []
        for batch in self.requests.unacknowledged:
            if batch.content.target == BROKER:
                batch.sent = None
        effects += self._send_requests(self.requests.due(now), now)
        return effects + self.on_controller(controller, now)

    def on_down(self) -> list[Effect]:
        """The connection is gone. Nothing is given up: everything open is said again on the next one."""
        self.up = False
        self.controller = b""
        self._forget_heard()
        return []

    def on_controller(self, controller: bytes, now: float) -> list[Effect]:
        """A controller is there (again): everything it has not answered, and every task still awaited, is said again."""
        self.controller = controller
        self._forget_heard()
        if not self.ready:
            return []
        self._again_at.clear()  # what an earlier one could not be given goes now, and once
        self.submits.renew()
        for batch in self.requests.unacknowledged:
            if batch.content.target == CONTROLLER:
                batch.sent = None
        effects = self._send_submits(now)
        effects += self._send_requests(self.requests.due(now), now)
        self._await_all()
        return effects + self._send_awaits(now) + self.flush(now)

    def on_over(self, rejected: Rejected) -> list[Effect]:
        """The broker will not have us: everybody who waits is told."""
        return self.give_up(Refused(rejected.code, f"the broker refuses this client: {rejected.text}"))

    def give_up(self, error: BusError) -> list[Effect]:
        """Nothing more can be had: end all open business with this error. Awaited tasks stay with the caller."""
        self.over = error
        effects: list[Effect] = [Failed(request.handle, error) for request in self.requests.clear()]
        for parcel in self.submits.clear():
            effects += [NotAdmitted(unit, error) for unit in parcel.units]
        return effects + self.flush(0.0)

    def on_messages(self, received: Iterable[tuple[bytes, Message, list[Frame]]], now: float) -> list[Effect]:
        """Everything that one wake-up found."""
        effects: list[Effect] = []
        for _source, message, frames in received:
            match message:
                case TasksEnded():
                    for accepted in message.accepted:
                        effects += self._on_accepted(accepted, now)
                    effects += self._on_ended(message, frames)
                case Accepted():
                    effects += self._on_accepted(message, now)
                case Denied():
                    effects += self._on_denied(message, now)
                case Event():
                    effects.append(Published(message))
                case Undeliverable():
                    self._on_undeliverable(message, now)
                case Rejected():
                    effects += self._on_rejected(message, now)
                case _:
                    effects += self._on_answer(message, frames, now)
        if len(self._heard) >= ACKNOWLEDGE_BATCHES or self._heard_bytes >= ACKNOWLEDGE_BYTES:
            effects += self.acknowledge()
        return effects + self.flush(now) if self.waiting else effects

    def on_undecodable(self, request: int, text: str) -> list[Effect]:
        """An answer that cannot be read; to hear it again would not help."""
        self._count("undecodable")
        error = ProtocolError(
            f"the answer of the bus cannot be read: {text}. Are its version and this client's the same?"
        )
        return [Failed(each.handle, error) for each in self.requests.acknowledge([request])]

    def on_tick(self, now: float) -> list[Effect]:
        """Time has passed: say again what is overdue. A few times a second is enough."""
        if not self.ready:
            return []
        self._renew_pushed_back(now)
        # What is not safe to say twice is said again on a new connection only, where the first may not have arrived.
        due = [batch for batch in self.requests.due(now) if batch.sent is None or batch.content.safe]
        return self.acknowledge() + self._send_submits(now) + self._send_requests(due, now) + self.flush(now)

    def acknowledge(self) -> list[Effect]:
        """Tell the controller which batches of ends have arrived: it may forget them."""
        if not self._heard:
            return []
        message = Received(self._heard)
        self._forget_heard()
        return [Send(CONTROLLER, message)]

    # -------------------------------------------------------------------------------------------- submissions

    def _window_is_open(self) -> bool:
        return not self.submits or (len(self.submits) < WINDOW_MESSAGES and self.submits.weight < WINDOW_BYTES)

    def _take_units(self) -> list[Unit]:
        units = [self.waiting.popleft()]
        count, weight = len(units[0].tasks), units[0].weight
        while self.waiting:
            following = self.waiting[0]
            count += len(following.tasks)
            weight += following.weight
            if count > MESSAGE_TASKS or weight > MESSAGE_BYTES:
                break
            units.append(self.waiting.popleft())
        self.waiting_weight -= sum(unit.weight for unit in units)
        return units

    def _dispatch(self, units: list[Unit], now: float, *, awaited: bool = False) -> list[Effect]:
        number = self._next_number()
        self.submits.first = number
        message, frames = submit_message(number, units, self.inline)
        for unit in units if not awaited else ():
            for (task, _data), handle in zip(unit.tasks, unit.handles, strict=True):
                self._add_awaited(task, handle)
        batch = self.submits.add(Parcel(units, message, frames), sum(unit.weight for unit in units))
        self.submits.sent(batch, now)
        return [Send(CONTROLLER, message, frames)]

    def _send_submits(self, now: float) -> list[Effect]:
        if not self.ready or len(self.submits) == 0:
            return []
        effects: list[Effect] = []
        for batch in self.submits.due(now):
            parcel = batch.content
            if batch.times:
                self._count("submits_repeated")
                parcel.message = replace(parcel.message, again=True)
            self.submits.sent(batch, now)
            effects.append(Send(CONTROLLER, parcel.message, parcel.frames))
        return effects

    def _on_accepted(self, accepted: Accepted, now: float) -> list[Effect]:
        if accepted.request in self._awaits_open:
            return self._on_awaits_answered(accepted.request, now)
        effects: list[Effect] = [
            Admitted(parcel.units, accepted) for parcel in self.submits.acknowledge([accepted.request])
        ]
        if not effects:
            self._count("answers_unasked")
        return effects

    def _on_denied(self, denied: Denied, now: float) -> list[Effect]:
        if denied.code in PASSING:
            self._count("pushed_back")
            self._again_at.setdefault(self._kind_of(denied.request), now + BUSY_PAUSE)
            return []
        if denied.request in self._awaits_open:
            tasks = self._awaits_open[denied.request]
            ends = [end for task in tasks for end in self._end_unheard(task, denied.text)]
            return [Ended(ends), *self._on_awaits_answered(denied.request, now)]
        error = Refused(denied.code, denied.text)
        for parcel in self.submits.acknowledge([denied.request]):
            return self._split(parcel, error, now)
        for request in self.requests.acknowledge([denied.request]):
            return [Failed(request.handle, error)]
        self._count("answers_unasked")
        return []

    def _split(self, parcel: Parcel, error: Refused, now: float) -> list[Effect]:
        """A message is refused whole, for the sake of one of those who happened to share it: find out which."""
        units = parcel.units
        if len(units) == 1 or error.code in WHOLE:
            for unit in units:
                self._drop_awaited(unit)
            return [NotAdmitted(unit, error) for unit in units]
        middle = len(units) // 2
        # Their tasks are awaited already, but for those of which the end was heard meanwhile: it is told once.
        parts = (units[:middle], units[middle:])
        return [effect for part in parts for effect in self._dispatch(part, now, awaited=True)]

    # -------------------------------------------------------------------------------------------- awaited tasks

    def _add_awaited(self, task: TaskId, handle: Any) -> None:
        present = self.awaited.setdefault(task, handle)
        if present is handle:
            return
        if not isinstance(present, list):
            present = self.awaited[task] = [present]
        if not any(each is handle for each in present):
            present.append(handle)

    def _drop_awaited(self, unit: Unit) -> None:
        for (task, _data), handle in zip(unit.tasks, unit.handles, strict=True):
            present = self.awaited.get(task)
            if isinstance(present, list):
                present[:] = [each for each in present if each is not handle]
            if present is handle or present == []:
                del self.awaited[task]

    def _forget_heard(self) -> None:
        """Another controller counts its batches afresh; it is not told about those of the one before."""
        self._heard = []
        self._heard_bytes = 0

    def _on_ended(self, message: TasksEnded, frames: list[Frame]) -> list[Effect]:
        self._heard.append(message.batch)
        self._heard_bytes += sum(map(len, frames))
        ends: list[tuple[Any, Outcome, Frame | Blob]] = []
        pop = self.awaited.pop
        for outcome in message.outcomes:
            handle = pop(outcome.task, None)
            if handle is None:
                self._count("ends_repeated")
                continue
            result = outcome.result
            data = frames[result] if isinstance(result, int) else result
            for each in handle if isinstance(handle, list) else (handle,):
                ends.append((each, outcome, data))
        return [Ended(ends)] if ends else []

    def _await_all(self) -> None:
        """Ask afresh for every task that is accepted and not over: the controller may have forgotten who waits."""
        for number in self._awaits_open:
            self.requests.acknowledge([number])
        self._awaits_open.clear()
        self._awaits.clear()
        submitted = {task for parcel in self.submits.contents for unit in parcel.units for task, _data in unit.tasks}
        tasks = [task for task in self.awaited if task not in submitted]
        self._awaits.extend(tasks[at : at + AWAIT_CHUNK] for at in range(0, len(tasks), AWAIT_CHUNK))

    def _send_awaits(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._awaits and self.ready and len(self._awaits_open) < AWAIT_WINDOW:
            tasks = self._awaits.popleft()
            while self._awaits and len(tasks) + len(self._awaits[0]) <= AWAIT_CHUNK:
                tasks = tasks + self._awaits.popleft()
            number, sending = self.ask(lambda number, tasks=tasks: Await(number, tasks), None, now)  # type: ignore[misc]
            self._awaits_open[number] = tasks
            effects += sending
        return effects

    def _on_awaits_answered(self, number: int, now: float) -> list[Effect]:
        self.requests.acknowledge([number])
        self._awaits_open.pop(number, None)
        return self._send_awaits(now)

    def _end_unheard(self, task: TaskId, why: str) -> list[tuple[Any, Outcome, Frame | Blob]]:
        """The bus will not tell us how this task ends; whoever waits must not wait for ever."""
        handles = self.awaited.pop(task, [])
        error = ErrorInfo(Reason.LOST, f"the bus does not tell this client how the task ended: {why}")
        outcome = Outcome(task, Status.FAILED, 0, error=error)
        return [(each, outcome, b"") for each in (handles if isinstance(handles, list) else [handles])]

    # -------------------------------------------------------------------------------------------- requests

    def _send_requests(self, batches: list[Batch[Request]], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for batch in batches:
            request = batch.content
            if self.up if request.target == BROKER else self.ready:
                if batch.times:
                    self._count("requests_repeated")
                self.requests.sent(batch, now)
                effects.append(Send(request.target, request.message, request.frames))
        return effects

    def _on_answer(self, message: Message, frames: list[Frame], now: float) -> list[Effect]:
        number: int = getattr(message, "request", 0)
        if number in self._awaits_open:
            return self._on_awaits_answered(number, now)
        for request in self.requests.acknowledge([number]):
            return [Answered(request.handle, message, frames)]
        self._count("answers_unasked")
        return []

    def _on_rejected(self, rejected: Rejected, now: float) -> list[Effect]:
        """The broker refused one message while the connection stands: as good as a no of the controller's."""
        self._count("rejected")
        if not rejected.request:
            return []
        return self._on_denied(Denied(rejected.request, rejected.code, rejected.text), now)

    # -------------------------------------------------------------------------------------------- pushed back

    def _on_undeliverable(self, message: Undeliverable, now: float) -> None:
        """The broker could not pass something on. It says of what kind, not which: all of that kind go again."""
        self._count("undeliverable")
        self._again_at.setdefault(message.kind, now + BUSY_PAUSE)

    def _renew_pushed_back(self, now: float) -> None:
        for kind in [kind for kind, at in self._again_at.items() if at <= now]:
            del self._again_at[kind]
            if kind == tag_of("Submit"):
                self.submits.renew()
            for batch in self.requests.unacknowledged:
                if tag_of(type(batch.content.message).__name__) == kind:
                    batch.sent = None

    def _kind_of(self, number: int) -> str:
        for batch in self.requests.unacknowledged:
            if batch.number == number:
                return tag_of(type(batch.content.message).__name__)
        return tag_of("Submit")

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def _next_number(self) -> int:
        self._number += 1
        return self._number
