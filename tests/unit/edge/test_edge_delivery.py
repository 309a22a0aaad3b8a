"""What is to be told: gathered, spooled, sent in order through a window, given up only where it may be."""

from __future__ import annotations

from collections.abc import Iterator

from edge_world import AT_ONCE, MemoryLedger, delivery, end, line, task_id

from headway_edge.delivery import Delivery, Entry, LinkSettings


def numbers(batches: list) -> list[int]:  # type: ignore[type-arg]
    return [batch.number for batch in batches]


def tell(told: Delivery, number: int, size: int, now: float = 0.0) -> None:
    told.took((task_id(number), 1))
    told.ended(end(number), bytes(size), now)
    told.store(now)


def test_an_end_is_in_the_spool_before_it_is_sent_and_stays_until_it_is_settled() -> None:
    ledger = MemoryLedger()
    told = delivery(ledger)
    tell(told, 1, 100)
    assert len(ledger.now_reports) == 1 and not told.is_empty
    (batch,) = told.take(1.0)
    assert batch.content[1] == [bytes(100)]
    assert ledger.now_reports
    told.settled([batch.number])
    assert not ledger.now_reports and told.is_empty and not told.unsettled


def test_a_window_of_bytes_is_on_its_way_and_the_rest_follows_in_order() -> None:
    told = delivery(MemoryLedger(), LinkSettings(gather=0.0, window=1_300))
    for number in range(4):
        tell(told, number, 400)
    first = told.take(0.0)
    assert len(first) == 2 and told.take(0.0) == []
    told.settled([first[0].number])
    second = told.take(0.0)
    assert numbers(first + second) == sorted(numbers(first + second)) and len(second) == 1


def test_a_report_larger_than_the_window_goes_alone() -> None:
    told = delivery(MemoryLedger(), LinkSettings(gather=0.0, window=1_000))
    tell(told, 1, 5_000)
    tell(told, 2, 5)
    assert len(told.take(0.0)) == 1


def test_the_bandwidth_holds_reports_back_and_says_for_how_long() -> None:
    told = delivery(MemoryLedger(), LinkSettings(gather=0.0), rate=20_000.0)
    for number in range(3):
        tell(told, number, 19_000)
    assert len(told.take(0.0)) == 1
    wait = told.next_send(0.0)
    assert wait is not None and 0.8 < wait < 1.0
    assert len(told.take(wait)) == 1


def test_after_a_cut_what_is_not_settled_goes_again_first() -> None:
    told = delivery(MemoryLedger())
    for number in range(3):
        tell(told, number, 10)
    first = told.take(0.0)
    told.settled([first[1].number])
    tell(told, 9, 10)
    assert told.resend(5.0, everything=True) == []
    again = numbers(told.take(5.0))
    assert again[:2] == [first[0].number, first[2].number] and len(again) == 3


def test_output_goes_before_the_end_that_it_belongs_to() -> None:
    told = delivery(MemoryLedger())
    told.took((task_id(1), 1))
    told.ended(end(1), None, 0.0)
    told.logs([line(1, 0)])
    first, second = told.take(0.0)
    assert first.content[0].logs and not first.content[0].ended
    assert second.content[0].ended


def test_the_oldest_output_goes_when_the_budget_is_used_up_and_the_loss_is_told() -> None:
    ledger = MemoryLedger()
    told = delivery(ledger, LinkSettings(gather=0.0, output_budget=1_500))
    tell(told, 7, 100_000)
    for sequence in range(5):
        told.logs([line(1, sequence, "y" * 400)])
        told.store(0.0)
    told.store(1.0)
    reports = [stored.report for stored in ledger.now_reports.values()]
    kept = [record.sequence for report in reports for record in report.logs]
    assert kept == [2, 3, 4]
    assert sum(report.dropped.get(task_id(1), 0) for report in reports) == 2 == told.dropped_total
    assert [record.task for report in reports for record in report.ended] == [task_id(7)], "results never go"


def test_messages_to_clients_are_no_output_that_may_be_given_up() -> None:
    told = delivery(MemoryLedger(), LinkSettings(gather=0.0, output_budget=10))
    told.logs([line(1, 0, "hello", "message"), line(1, 1, "z" * 200)])
    told.store(0.0)
    told.store(1.0)
    kept = [record for batch in told.take(2.0) for record in batch.content[0].logs]
    assert [record.stream for record in kept] == ["message"]


def test_a_restarted_agent_tells_what_it_had_not_told_in_the_same_order() -> None:
    ledger = MemoryLedger()
    told = delivery(ledger)
    for number in range(5):
        tell(told, number, 50 + number)
    settled, lost, *_ = told.take(0.0)
    told.settled([settled.number])
    ledger.commit()
    ledger.crash()
    again = delivery(ledger, wall=5_060.0)
    for stored in ledger.reports():
        again.restore(stored)
    assert (task_id(1), 1) in again.unsettled
    batches = again.take(100.0)
    assert [batch.content[0].ended[0].task for batch in batches] == [task_id(number) for number in range(1, 5)]
    assert batches[0].number == lost.number
    assert batches[0].content[0].ended[0].age >= 60.0
    assert batches[0].content[1] == [bytes(51)]
    tell(again, 9, 1)
    assert again.take(101.0)[0].number > batches[-1].number


def test_a_clock_that_was_set_back_makes_no_end_come_from_the_future() -> None:
    ledger = MemoryLedger()
    tell(delivery(ledger, wall=9_000.0), 1, 1)
    again = delivery(ledger, wall=5_400.0)
    for stored in ledger.reports():
        again.restore(stored)
    (batch,) = again.take(0.0)
    assert batch.content[0].ended[0].age == 0.0


def test_the_digest_leaves_an_attempt_out_when_the_controller_could_know_of_its_end() -> None:
    told = delivery(MemoryLedger(), LinkSettings(gather=0.0, window=100))
    tell(told, 1, 500)
    tell(told, 2, 500)
    assert told.held == 2
    told.take(0.0)
    assert told.held == 1, "the second one has not left"
    told.resend(1.0, everything=True)
    assert told.held == 0 and told.digest == 0, "the register message names both as ended"


def test_news_is_gathered_for_a_while_before_it_is_written() -> None:
    ledger = MemoryLedger()
    told = delivery(ledger, LinkSettings(gather=0.5))
    told.logs([line(1, 0)])
    told.store(10.0)
    assert not ledger.now_reports and told.next_store() == 10.5
    told.logs([line(1, 1)])
    told.store(10.5)
    (stored,) = ledger.now_reports.values()
    assert len(stored.report.logs) == 2


def test_a_full_disk_gives_up_output_and_nothing_else() -> None:
    ledger = MemoryLedger()
    told = delivery(ledger, AT_ONCE)
    tell(told, 1, 1_000)
    told.logs([line(2, 0, "w" * 500)])
    told.store(0.0)
    assert told.output_bytes > 500
    told.give_up_output()
    assert told.output_bytes == 0
    assert [bool(stored.report.ended) for stored in ledger.now_reports.values()] == [True]


def test_output_that_is_gathered_for_long_is_written_before_the_memory_for_it_is_full() -> None:
    ledger = MemoryLedger()
    told = delivery(ledger, LinkSettings(gather=60.0), logs=3 << 20)
    for sequence in range(80):
        told.logs([line(1, sequence, "y" * 100_000)])
        told.store(0.0)
    assert told.dropped_total == 0 and told.output_bytes > 5 << 20


class CountingEntries(dict[int, Entry]):
    """The table of reports, which counts how many were looked at."""

    looked_at = 0

    def values(self) -> Iterator[Entry]:  # type: ignore[override]
        for entry in super().values():
            self.looked_at += 1
            yield entry


def test_at_its_budget_output_costs_a_look_at_what_goes_and_not_at_all_that_waits() -> None:
    told = delivery(MemoryLedger(), LinkSettings(gather=0.0, output_budget=100_000))
    told.store(0.0)
    for sequence in range(150):
        told.logs([line(1, sequence, "y" * 900)])
        told.store(0.0)
    waiting = sum(bool(entry.logs) for entry in told.entries.values())
    assert waiting == 100
    told.entries = CountingEntries({number: entry for number, entry in told.entries.items() if entry.logs})
    told.logs([line(1, 150, "y" * 900)])
    told.store(0.0)
    assert told.dropped_total == 51 and told.entries.looked_at <= 2
