"""Ends of commands are gathered while others are here to be begun, and not longer than that."""

from __future__ import annotations

from runtime_world import World, options

from headway_bus import messages as m
from headway_bus.records import Kind
from headway_runtime.core import GATHER

COMMAND = options(Kind.COMMAND, "true")


def reports(world: World) -> int:
    return sum(isinstance(message, m.Report) for message in world.told)


def test_ends_share_a_report_while_others_wait_here(world: World) -> None:
    keys = world.assign(COMMAND, range(6))
    world.pass_time(1.0)
    before = reports(world)
    for key in keys[:3]:
        world.end_command(key)
    assert (reports(world) - before, list(world.ends)) == (0, [])
    assert list(world.commands) == keys[3:5]  # the slots do not wait for the news
    assert world.core.next_tick(world.now) <= GATHER
    world.pass_time(GATHER)
    assert (reports(world) - before, list(world.ends)) == (1, keys[:3])


def test_the_end_that_leaves_nothing_waiting_is_told_at_once(world: World) -> None:
    keys = world.assign(COMMAND, range(3))
    world.pass_time(1.0)
    world.end_command(keys[0])
    assert list(world.ends) == keys[:1]


def test_what_was_gathered_is_told_when_the_runtime_leaves(world: World) -> None:
    keys = world.assign(COMMAND, range(4))
    world.pass_time(1.0)
    world.end_command(keys[0])
    assert list(world.ends) == []
    world.do(world.core.on_leave(world.now))
    world.settle_down()
    assert set(world.ends) == {keys[0], keys[3]}
