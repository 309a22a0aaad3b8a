"""How assignments are put into messages: what goes to one runtime at one time goes together."""

from __future__ import annotations

from controller_bench import CLIENT, RUNTIME, Bench, options, task_id

from headway_bus import messages as m
from headway_bus.codec import encode
from headway_controller.assignments import ASSIGN_BYTES


def submit_named(bench: Bench, count: int, **fields: str) -> None:
    """Tasks that differ in their name, in one submission."""
    groups = [
        m.Group(options(name=f"n{number}", **fields), [(task_id(number), b"arguments")])
        for number in range(1, count + 1)
    ]
    bench.tell(CLIENT, m.Submit(bench.request(), groups, False, False))
    assert bench.take(CLIENT, m.Accepted).count == count


def assignments(bench: Bench) -> list[m.Assign]:
    return [message for message in bench.take_all(RUNTIME) if isinstance(message, m.Assign)]


def test_tasks_that_differ_in_name_share_a_message() -> None:
    bench = Bench()
    bench.join(slots=3.0)
    submit_named(bench, 4)
    (assign,) = assignments(bench)
    assert [group.options.name for group in assign.groups] == ["n1", "n2", "n3"]
    assert [task for group in assign.groups for task, _, _ in group.attempts] == [task_id(n) for n in (1, 2, 3)]
    bench.beat()  # with the digest of all of them
    bench.emptiness_check()


def test_long_lines_do_not_outgrow_a_message_together() -> None:
    bench = Bench()
    bench.join(slots=20.0)
    submit_named(bench, 20, target="module:" + "x" * 90_000)
    sent = assignments(bench)
    assert [len(assign.groups) for assign in sent] == [11, 9]
    assert all(len(encode(assign)) <= ASSIGN_BYTES for assign in sent)


def test_a_message_that_was_lost_comes_again_whole() -> None:
    bench = Bench()
    bench.join(slots=3.0)
    submit_named(bench, 3)
    (first,) = assignments(bench)
    bench.join(slots=3.0, assigned=0)
    (again,) = assignments(bench)
    assert again == first
