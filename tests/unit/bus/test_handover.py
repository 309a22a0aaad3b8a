"""Numbered batches: what is due when, what an acknowledgement releases, and numbers from elsewhere."""

from __future__ import annotations

from headway_bus.handover import Outbox


def outbox(first: int = 10) -> Outbox[str]:
    return Outbox(retry_after=5.0, first=first)


def test_a_batch_is_due_until_it_is_sent_and_again_after_a_while() -> None:
    box = outbox()
    batch = box.add("a")
    assert box.due(0.0) == [batch] and box.next_due() == 0.0
    box.sent(batch, 100.0)
    assert box.due(104.9) == [] and box.next_due() == 105.0
    assert box.due(105.0) == [batch]
    box.sent(batch, 105.0)
    assert (batch.times, box.repeats) == (2, 1)


def test_a_new_connection_makes_everything_due_in_its_order() -> None:
    box = outbox()
    for content in "abc":
        box.sent(box.add(content), 100.0)
    box.renew()
    assert [batch.content for batch in box.due(100.0)] == ["a", "b", "c"]


def test_an_acknowledgement_releases_what_it_names_once() -> None:
    box = outbox()
    numbers = [box.add(content, weight).number for content, weight in (("a", 1), ("b", 20), ("c", 300))]
    assert box.acknowledge([numbers[1], 9_999]) == ["b"]
    assert box.acknowledge([numbers[1]]) == []
    assert (len(box), box.weight, box.contents) == (2, 301, ["a", "c"])


def test_an_acknowledgement_through_a_number_releases_all_before_it() -> None:
    box = outbox()
    for content in "abcd":
        box.add(content)
    assert box.acknowledge_through(12) == ["a", "b", "c"]
    assert box.acknowledge_through(12) == []
    assert box.contents == ["d"]


def test_a_number_that_was_never_given_out_releases_nothing() -> None:
    box = outbox(first=1_000)
    box.add("a")
    for number in (0, -1, 999, 1_001, 2**64):
        assert box.acknowledge_through(number) == []
    assert box.contents == ["a"]


def test_numbers_count_up_and_begin_anywhere() -> None:
    boxes = [Outbox[str]() for _ in range(20)]
    assert len({box.add("a").number for box in boxes}) == 20
    assert boxes[0].add("b").number == boxes[0].last_number == boxes[0].unacknowledged[0].number + 1
    assert all(0 < box.first < 2**53 for box in boxes), "every language's numbers hold them"


def test_before_any_batch_the_last_number_releases_nothing() -> None:
    box = outbox()
    assert box.acknowledge_through(box.last_number) == []
    assert box.next_due() is None


def test_clearing_drops_all_and_numbers_go_on() -> None:
    box = outbox()
    before = box.add("a", 7).number
    assert box.clear() == ["a"]
    assert (len(box), box.weight, box.due(1e9)) == (0, 0, [])
    assert box.add("b").number == before + 1
