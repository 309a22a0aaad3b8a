"""What a task costs in messages: counted, because that does not depend on the weather as seconds do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import headway

TASKS = 10_000
MOST_MAPPED = 600
"""Messages through the broker for all of them: 140 as a rule. The children's reports are the most of it, and on a slow
machine they are more; one for each task would be 50,000."""

TRIPS = 50
MOST_EACH = 5.5
"""Submit, accepted, assign, report, ended: five, and what is said in company in between."""

KINDS_OF_HEARTBEAT = 40
"""Heartbeats and their answers while the test runs."""


@pytest.fixture(scope="module")
def bus() -> Iterator[headway.Client]:
    with headway.local(slots=2) as bus:
        for task in bus.map("operator:index", range(100)):
            task.result()
        yield bus


def forwarded(bus: headway.Client) -> int:
    return bus.counters()["broker"]["forwarded"]


def test_mapped_tasks_share_their_messages(bus: headway.Client) -> None:
    before = forwarded(bus)
    tasks = bus.map("operator:index", range(TASKS))
    assert [task.result() for task in tasks] == list(range(TASKS))
    assert forwarded(bus) - before < MOST_MAPPED


def test_a_lone_task_takes_five_messages(bus: headway.Client) -> None:
    before = forwarded(bus)
    for number in range(TRIPS):
        assert bus.submit("operator:index", number).result() == number
    assert forwarded(bus) - before < TRIPS * MOST_EACH + KINDS_OF_HEARTBEAT


def test_a_lone_task_is_stored_by_two_commits(bus: headway.Client) -> None:
    """One for its submission and one for its end; nothing between them is written."""

    def commits() -> int:
        return int(bus.controller().counters["store.commits"])

    before = commits()
    for number in range(TRIPS):
        bus.submit("operator:index", number).result()
    assert commits() - before <= 2 * TRIPS + 2
