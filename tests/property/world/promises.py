"""What must hold when faults have ended: what still moves, and what is wrong once nothing does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway_bus.ids import short_text
from headway_bus.records import ENDS
from headway_controller.state import status_of

if TYPE_CHECKING:
    from .application import ClientPart
    from .machine import RuntimePart
    from .world import World


def unrest(world: World) -> list[str]:
    """What is not yet as it must become by itself; empty: the world is at rest."""
    found = [f"{process.name} is not running" for process in world.processes if not process.alive]
    if found:
        return found
    found += _controller_unrest(world)
    for runtime in world.runtimes:
        found += _runtime_unrest(world, runtime)
    for client in world.clients:
        found += _client_unrest(client)
    for task, row in world.disk.rows.items():
        if row.end is None:
            found.append(f"{short_text(task)} has no end in the store")
    return found


def _controller_unrest(world: World) -> list[str]:
    core = world.controller.core
    state = core.state
    found = [
        f"{short_text(task.id)} is {status_of(task)} in the controller ({task.state}, attempt {task.attempt})"
        for task in state.tasks.values()
    ]
    found += [f"runtime {name} is {each.state}" for name, each in state.runtimes.items() if each.state != "online"]
    found += [f"runtime {name} should hold {len(each.held)}" for name, each in state.runtimes.items() if each.held]
    found += [f"assignments for {name} are unconfirmed" for name, each in state.runtimes.items() if len(each.outbox)]
    for client in state.clients.values():
        if client.ready or len(client.outbox):
            found.append(f"ends for {client.name} are not delivered")
    if len(state.runtimes) != len(world.runtimes):
        found.append(f"{len(state.runtimes)} runtimes are registered")
    if core.audience.refusing:
        found.append("submissions are refused")
    if state.cancels or core.turn.waiting or not core._unstored.is_empty():
        found.append("the controller has cancels or writes open")
    return found


def _runtime_unrest(world: World, runtime: RuntimePart) -> list[str]:
    core, name = runtime.core, runtime.name
    found = [f"{name} holds {attempt}" for attempt in core.attempts.values()]
    if not core.reporter.is_empty:
        found.append(f"{name} has reports that are not settled")
    if not core.is_registered:
        found.append(f"{name} has no controller")
    view = world.controller.core.state.runtimes.get(name)
    if view is not None and view.digest != core.reporter.digest:
        found.append(f"{name} and the controller have different digests")
    return found


def _client_unrest(client: ClientPart) -> list[str]:
    core, name = client.core, client.process.name
    found = [f"{name} waits for {short_text(wait.task)}" for wait in client.waits if not wait.outcomes]
    if core.unaccepted or len(core.requests) or core.awaited:
        found.append(f"{name} has business open")
    if client.asked != client.answered:
        found.append(f"{name} asked {client.asked} times and has {client.answered} answers")
    return found


def broken(world: World) -> list[str]:
    """What is wrong with a world at rest."""
    found = [*world.ledger.broken, *world.disk.repeated_ends]
    found += _wrong_slots(world) + _wrong_tasks(world)
    if world.broker.refused != world.broker.core.state.counters["refused.full"]:
        found.append(f"the broker refused {world.broker.refused} messages and counted others (I4)")
    scheduler = world.controller.core.scheduler
    if scheduler.queued:
        found.append(f"the scheduler counts {scheduler.queued} tasks that do not exist")
    for book in scheduler.fleet.books.values():
        if book.committed or book.running:
            found.append(f"the book of {book.name} holds {len(book.committed)} + {len(book.running)} attempts")
    for execution in (each for all_of_one in world.ledger.executions.values() for each in all_of_one):
        if execution.end is None:
            found.append(f"{execution} still runs")
    return found


def _wrong_slots(world: World) -> list[str]:
    found = []
    for runtime in world.runtimes:
        pool = runtime.core.pool
        if abs(pool.free - runtime.slots) > 1e-6:
            found.append(f"{runtime.name} has {pool.free} slots free of {runtime.slots}")
        if runtime.core.reporter.held:
            found.append(f"{runtime.name} counts {runtime.core.reporter.held} attempts and holds none")
    return found


def _wrong_tasks(world: World) -> list[str]:
    found = []
    rows, ledger = world.disk.rows, world.ledger
    for task in ledger.accepted:
        row = rows.get(task)
        if row is None and not ledger.memory_lost:
            found.append(f"{short_text(task)} was accepted and is forgotten")
        elif row is not None and (row.end is None or row.end.status not in ENDS):
            found.append(f"{short_text(task)} was accepted and has not ended")
    for task, code in world.refused.items():
        if task in rows:
            found.append(f"{short_text(task)} was refused ({code}) and is in the store all the same")
    for task, told in ledger.told.items():
        row = rows.get(task)
        if row is not None and row.end is not None and not ledger.memory_lost:
            kept = (str(row.end.status), row.end.attempt, bytes(row.end.result))
            if kept != told:
                found.append(f"of {short_text(task)} was told {told}, stored is {kept}")
    return found
