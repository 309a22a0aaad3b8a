"""Registering with a controller, and which of its batches are taken in."""

from __future__ import annotations

from runtime_world import NO_ARGUMENTS, World, options, task_id

from headway_bus import messages as m
from headway_runtime import effects as to_do

CALL = options()


def test_another_controller_numbers_its_batches_afresh(world: World) -> None:
    world.assign(CALL, [1])
    world.do(world.core.on_controller(b"another", world.now))
    register = next(each for each in reversed(world.told) if isinstance(each, m.Register))
    assert register.assigned == 0
    world.batch = 0
    (key,) = world.assign(CALL, [2])
    assert key in world.core.attempts


def test_what_is_assigned_before_the_answer_to_a_registration_is_not_run() -> None:
    """It may repeat what ended and was settled long ago: the controller had not yet read the registration."""
    world = World()
    core = world.core
    core.on_up(m.Welcome(1, "here", b"broker", 2.0, 2**26, b"controller"), world.now)
    assign = m.Assign(7, [m.AssignGroup(CALL, [(task_id(1), 1, NO_ARGUMENTS)])])
    core.on_message(assign, [], world.now)
    assert not core.attempts
    core.on_message(m.Registered(b"controller"), [], world.now)
    core.on_message(assign, [], world.now)
    assert list(core.attempts) == [(task_id(1), 1)]


def test_a_registration_without_an_answer_is_sent_again() -> None:
    world = World()
    core = world.core
    core.on_up(m.Welcome(1, "here", b"broker", 2.0, 2**26, b"controller"), world.now)
    said = [each.message for each in core.on_tick(world.now + 4.0) if isinstance(each, to_do.Tell)]
    assert any(isinstance(message, m.Register) for message in said)


def test_batches_are_taken_in_by_their_numbers(world: World) -> None:
    """One that the broker could not deliver comes again, and so do those behind it."""
    core = world.core

    def assign(batch: int, number: int) -> None:
        core.on_message(m.Assign(batch, [m.AssignGroup(CALL, [(task_id(number), 1, NO_ARGUMENTS)])]), [], world.now)

    assign(5, 5)
    assign(7, 7)
    assert (task_id(7), 1) not in core.attempts
    assign(6, 6)
    assign(7, 7)
    assign(6, 6)
    assert [key[0] for key in core.attempts] == [task_id(5), task_id(6), task_id(7)]


def test_a_batch_that_overtook_the_first_after_a_registration_is_not_taken_in() -> None:
    """The first one was refused on its way because a queue was full: taken for it, the second would stand for both."""
    world = World()
    core = world.core
    core.on_up(m.Welcome(1, "here", b"broker", 2.0, 2**26, b"controller"), world.now)
    core.on_message(m.Registered(b"controller", first=41), [], world.now)
    for batch, number in ((42, 2), (41, 1), (42, 2)):
        core.on_message(m.Assign(batch, [m.AssignGroup(CALL, [(task_id(number), 1, NO_ARGUMENTS)])]), [], world.now)
    assert list(core.attempts) == [(task_id(1), 1), (task_id(2), 1)]


def test_the_answer_to_a_registration_that_comes_twice_makes_nothing_new_again(world: World) -> None:
    """The register message was said twice, and each was answered; in between what was assigned is over and settled."""
    core = world.core
    core.on_up(m.Welcome(1, "here", b"broker", 2.0, 2**26, b"controller"), world.now)
    answer = m.Registered(b"controller", first=41)
    assign = m.Assign(41, [m.AssignGroup(CALL, [(task_id(1), 1, NO_ARGUMENTS)])])
    core.on_message(answer, [], world.now)
    world.do(core.on_message(assign, [], world.now))
    world.settle_down()
    (child,) = [number for number, keys in world.children.items() if keys]
    world.finish(child)
    reports = [said.batch for said in world.told if isinstance(said, m.Report)]
    core.on_message(m.Settled(reports), [], world.now)
    for message in (answer, assign):
        core.on_message(message, [], world.now)
    assert not core.attempts
    assert core.duplicates == 1


def test_an_answer_to_an_earlier_process_of_this_name_does_not_bar_the_one_that_counts(world: World) -> None:
    core = world.core
    core.on_up(m.Welcome(1, "here", b"broker", 2.0, 2**26, b"controller"), world.now)
    core.on_message(m.Registered(b"controller", first=5_000), [], world.now)
    core.on_message(m.Registered(b"controller", first=41), [], world.now)
    core.on_message(m.Assign(41, [m.AssignGroup(CALL, [(task_id(1), 1, NO_ARGUMENTS)])]), [], world.now)
    assert list(core.attempts) == [(task_id(1), 1)]
