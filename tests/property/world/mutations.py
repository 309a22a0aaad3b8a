"""Defects, one for each promise. A world with one of them must break, or the check of that promise is worth nothing.

Each takes a core that was just made and spoils it, if it is of its kind.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from headway.core import Core as ClientCore
from headway_broker.core import Broker
from headway_bus.handover import Batch, Outbox
from headway_bus.records import Ended
from headway_controller.core import Controller
from headway_controller.state import Ended as EndedState
from headway_edge.core import EdgeCore
from headway_edge.lease import Lease
from headway_runtime.core import Core as RuntimeCore

Mutation = Callable[[Any], None]

LOST_ASSIGNMENT = 6
"""Every sixth assignment is lost by a runtime that loses some: so rarely that no task is lost three times in a row."""


class Forgetful(Outbox[Any]):
    """An outbox that says everything once."""

    __slots__ = ()

    def due(self, now: float) -> list[Batch[Any]]:
        return [batch for batch in self._batches.values() if not batch.times]


class NeverRemembers(OrderedDict[Any, Any]):
    """Takes everything and keeps nothing."""

    def __setitem__(self, key: Any, value: Any) -> None: ...


class Boundless(Lease):
    """A lease without an end."""

    __slots__ = ()

    def may_begin(self, offline: float, heartbeat: float, now: float) -> bool:
        return True


class WaitsOnce(ClientCore):
    """Says what it waits for, and never again."""

    __slots__ = ()

    def _await_all(self) -> None: ...


def accept_before_stored(core: Any) -> None:
    """I1: ``accepted`` is said as soon as the submission was looked at."""
    if isinstance(core, Controller):
        finish, turn = core.turn.finish, core.turn

        def hasty() -> list[Any]:
            due = turn.due
            for name, accepted in due.accepted:
                turn.send(name, accepted)
            due.accepted, due.new, due.known = [], [], []
            return finish()

        turn.finish = hasty  # type: ignore[method-assign]


def tell_before_stored(core: Any) -> None:
    """I1, I2: an end is told before it is stored."""
    if isinstance(core, Controller):
        finish = core.finish

        def hasty(now: float) -> list[Any]:
            ended, core.turn.due.ended = core.turn.due.ended, []
            core.audience.on_ended_stored(ended, now)
            return finish(now)

        core.finish = hasty  # type: ignore[method-assign]


def settle_before_stored(core: Any) -> None:
    """I1: the runtime may forget a result that is not stored."""
    if isinstance(core, Controller):
        finish = core.finish

        def hasty(now: float) -> list[Any]:
            settled, core.turn.due.settled = core.turn.due.settled, {}
            for (runtime, instance), batches in settled.items():
                core.reports.settle(runtime, instance, batches)
            return finish(now)

        core.finish = hasty  # type: ignore[method-assign]


def settle_beside_a_failed_write(core: Any) -> None:
    """I1: a repeated report is settled although the end that its first copy brought could not be stored."""
    if isinstance(core, Controller):
        core._keep_back = lambda follow: None  # type: ignore[method-assign]


def ignore_the_fence(core: Any) -> None:
    """I2: what a runtime says of an older attempt is taken for its word on the present one."""
    if isinstance(core, Controller):
        on_ended = core.reports._on_ended

        def credulous(runtime: Any, ended: Ended, *others: Any) -> None:
            task = core.state.tasks.get(ended.task)
            if task is not None and task.attempt > ended.attempt and not isinstance(task.state, EndedState):
                ended = replace(ended, attempt=task.attempt)
                task.runtime, task.over = runtime.info.name, 0
            on_ended(runtime, ended, *others)

        core.reports._on_ended = credulous  # type: ignore[method-assign]


def run_known_tasks_again(core: Any) -> None:
    """I2, I7: an id that was submitted before is a new task."""
    if isinstance(core, Controller):
        core.life.recent = NeverRemembers()
        core.audience.unknown_ids = lambda message: []  # type: ignore[method-assign]
        core._on_known = lambda known, now: None  # type: ignore[method-assign]


def requeue_on_a_cut(core: Any) -> None:
    """I3: a runtime that is cut off is taken for dead at once, and in silence."""
    if isinstance(core, Controller):

        def hasty(name: str, now: float) -> None:
            runtime = core.state.runtimes.get(name)
            for task, attempt in list(runtime.held) if runtime is not None else []:
                core.fleet.lose_attempt(name, task, attempt, "it was cut off", now)

        core.fleet.on_gone = hasty  # type: ignore[method-assign]


def give_out_at_once_after_a_restart(core: Any) -> None:
    """I3, I6: a new controller does not wait for what runtimes hold."""
    if isinstance(core, Controller):
        restore = core.restore

        def hasty(stored: Any, statuses: Any, now: float, until: float, awaited: Any = None) -> None:
            restore(stored, statuses, now, now)
            core.life.recovery.end(now)

        core.restore = hasty  # type: ignore[method-assign]


def run_repeated_assignments(core: Any) -> None:
    """I3: what is assigned between registering and its answer is run, though it may repeat what is over."""
    if isinstance(core, RuntimeCore):
        register = core.presence.register

        def forgetful(*arguments: Any) -> Any:
            message = register(*arguments)
            core.presence.answered()
            return message

        core.presence.register = forgetful  # type: ignore[method-assign]


def drop_refused_deliveries(core: Any) -> None:
    """I4: what the receiver does not take is dropped, and nobody is told."""
    if isinstance(core, Broker):
        core.on_full = lambda delivery, now: []  # type: ignore[method-assign]


def free_slots_early(core: Any) -> None:
    """I5: an attempt that left processes behind is over."""
    if isinstance(core, RuntimeCore):

        def hasty(number: int, record: Ended, frame: Any, now: float) -> Any:
            return core.on_child_ended(number, [record], [frame] if frame is not None else [], now)

        core.on_child_left = hasty  # type: ignore[method-assign]


def lose_assignments(core: Any) -> None:
    """What hand-overs and numbers cannot repair: a runtime loses what it has said to have taken in. Digests repair it."""
    if isinstance(core, RuntimeCore):
        on_assign, count = core.on_assign, 0

        def forgetful(assign: Any, frames: Any, now: float) -> Any:
            nonlocal count
            count += 1
            return on_assign(replace(assign, groups=[]) if count % LOST_ASSIGNMENT == 0 else assign, frames, now)

        core.on_assign = forgetful  # type: ignore[method-assign]


def ignore_digests(core: Any) -> None:
    """I6: nobody asks when the two views differ, and they do."""
    lose_assignments(core)
    if isinstance(core, Controller):
        core.fleet._ask_for_inventory = lambda runtime, now: None  # type: ignore[method-assign]


def forget_a_stored_task(core: Any) -> None:
    """I6: a restart loses one of the tasks that it found."""
    if isinstance(core, Controller):
        restore = core.restore
        core.restore = lambda stored, *others: restore(stored[1:], *others)  # type: ignore[method-assign]


def report_once(core: Any) -> None:
    """I6: reports are not repeated."""
    if isinstance(core, RuntimeCore):
        core.reporter.resend = lambda now, **_: []  # type: ignore[method-assign]


def assign_once(core: Any) -> None:
    """I6: what was assigned is not assigned again when it got lost, and the digests are not compared."""
    if isinstance(core, Controller):
        core.assignments.resend = lambda runtime, now: None  # type: ignore[method-assign]
        core.fleet._ask_for_inventory = lambda runtime, now: None  # type: ignore[method-assign]


def submit_once(core: Any) -> None:
    """I6: submissions are not repeated."""
    if isinstance(core, ClientCore):
        core.submits.__class__ = Forgetful


def wait_once(core: Any) -> None:
    """I7: a client that comes back does not say what it waits for."""
    if isinstance(core, ClientCore):
        core.__class__ = WaitsOnce


def cancel_with_the_client(core: Any) -> None:
    """I7: a client that goes away takes its tasks with it."""
    if isinstance(core, Controller):
        on_gone = core.audience.on_gone

        def jealous(name: str) -> None:
            now = max((runtime.seen for runtime in core.state.runtimes.values()), default=0.0)
            now = core.fleet.state.clients[name].outbox.retry_after if name in core.state.clients else 0.0
            left = [task for task in core.state.tasks.values() if task.client == name]
            core.assignments.stop([task for task in left if not core.life.cancel(task, now)], "its client left")
            on_gone(name)

        core.audience.on_gone = jealous  # type: ignore[method-assign]


def forget_what_was_begun(core: Any) -> None:
    """I3: an edge does not write down what it begins, and begins it again when it is started anew."""
    if isinstance(core, EdgeCore):
        core._ledger.note_start = lambda key: None  # type: ignore[method-assign]


def begin_beyond_the_lease(core: Any) -> None:
    """I3: an edge begins whatever it has, for however long it has heard nothing."""
    if isinstance(core, EdgeCore):
        core.lease.__class__ = Boundless
        core._ask_if_unsure = lambda now: []  # type: ignore[method-assign]


def keep_no_reports(core: Any) -> None:
    """I6: an edge that is started anew does not tell what its spool holds."""
    if isinstance(core, EdgeCore):
        core.reporter.entries.clear()


MUTATIONS: dict[str, Mutation] = {
    each.__name__: each
    for each in (
        accept_before_stored,
        tell_before_stored,
        settle_before_stored,
        settle_beside_a_failed_write,
        ignore_the_fence,
        run_known_tasks_again,
        requeue_on_a_cut,
        give_out_at_once_after_a_restart,
        run_repeated_assignments,
        drop_refused_deliveries,
        free_slots_early,
        ignore_digests,
        forget_a_stored_task,
        report_once,
        assign_once,
        submit_once,
        wait_once,
        cancel_with_the_client,
        forget_what_was_begun,
        begin_beyond_the_lease,
        keep_no_reports,
    )
}

REPAIRED: dict[str, Mutation] = {each.__name__: each for each in (lose_assignments,)}
"""Defects that the bus makes up for: with one of them a world keeps every promise."""

EDGES: dict[str, int] = {
    "forget_what_was_begun": 2,
    "begin_beyond_the_lease": 2,
    "keep_no_reports": 2,
}
"""Defects of edges need worlds that have some."""

FAULTS: dict[str, tuple[str, ...]] = {
    "settle_beside_a_failed_write": ("disk full", "disk stalls", "suspend controller", "cut connection"),
    "requeue_on_a_cut": ("cut connection", "partition"),
    "give_out_at_once_after_a_restart": ("kill controller", "slow network", "cut connection", "suspend runtime"),
    "run_repeated_assignments": ("suspend broker", "suspend controller", "cut connection"),
    "ignore_the_fence": ("suspend runtime", "partition"),
    "forget_what_was_begun": ("kill runtime",),
    "begin_beyond_the_lease": ("suspend runtime", "partition"),
    "keep_no_reports": ("kill runtime", "partition"),
}
"""What brings a defect to light sooner than everything at once does."""
