"""The spool on a disk: what was committed is there after kill -9, and what is damaged is set aside, never overwritten."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from edge_world import end, line, task_id

from headway_bus.errors import BusError
from headway_bus.messages import Report
from headway_bus.records import Blob, Kind, Options
from headway_edge.ledger import StoredAttempt, StoredReport
from headway_edge.spool import FILE, TIDY_PAGES, Spool, SpoolError

OPTIONS = Options(Kind.COMMAND, "true", offline=3600.0)


def opened(folder: Path, name: str = "shop-17") -> Spool:
    spool = Spool(folder)
    spool.open(name)
    return spool


def report(number: int, frames: list[bytes] | None = None) -> StoredReport:
    return StoredReport(number, Report(number, ended=[end(number)], logs=[line(number, 0)]), list(frames or []), 10.0)


def test_what_was_committed_is_there_for_the_next_process(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add_attempt(StoredAttempt((task_id(1), 2), OPTIONS, b"arguments", [0, 1]))
    spool.add_attempt(StoredAttempt((task_id(2), 1), OPTIONS, Blob(bytes(32), 77)))
    spool.note_start((task_id(1), 2))
    spool.note_outcome((task_id(2), 1), end(2))
    spool.add_report(report(8, [b"result"]))
    spool.note("heard", b"abc")
    spool.commit()
    spool.add_report(report(9))  # and now the power goes
    again = opened(tmp_path)
    first, second = again.attempts()
    assert (first.key, first.options, first.payload, first.gpus, first.starts) == (
        (task_id(1), 2), OPTIONS, b"arguments", [0, 1], 1)  # fmt: skip
    assert second.payload == Blob(bytes(32), 77) and second.outcome == end(2)
    (stored,) = again.reports()
    assert (stored.number, stored.frames, stored.frame_bytes > 6) == (8, [], True)
    assert again.report(8).frames == [b"result"]
    assert again.noted("heard") == b"abc" and again.identity == spool.identity


def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add_attempt(StoredAttempt((task_id(1), 1), OPTIONS, b""))
    spool.add_report(report(1))
    spool.commit()
    spool.remove_attempt((task_id(1), 1))
    spool.remove_reports([1])
    with pytest.raises(KeyError):
        spool.report(2)
    spool.close()
    again = opened(tmp_path)
    assert not again.attempts() and not list(again.reports())


@pytest.mark.parametrize("damage", ["garbage", "cut", "page"])
def test_a_damaged_spool_is_set_aside_unchanged(tmp_path: Path, damage: str) -> None:
    spool = opened(tmp_path)
    for number in range(200):
        spool.add_report(report(number, [bytes([number]) * 2_000]))
    spool.close()
    path = tmp_path / FILE
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        content[:] = b"this is not a spool " * 100
    elif damage == "cut":
        del content[len(content) // 2 + 100 :]
    else:
        content[4096 * 3 : 4096 * 6] = bytes([7]) * 4096 * 3
    path.write_bytes(content)
    with pytest.raises(BusError, match=r"damaged.*set aside as spool\.db\.damaged-1.*Start the agent again"):
        opened(tmp_path)
    assert (tmp_path / "spool.db.damaged-1").read_bytes() == content
    fresh = opened(tmp_path)
    assert fresh.identity != spool.identity and not list(fresh.reports())


def test_a_second_damaged_spool_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    for content in (b"one" * 999, b"two" * 999):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(BusError, match="damaged"):
            opened(tmp_path)
    assert (tmp_path / "spool.db.damaged-1").read_bytes().startswith(b"one")
    assert (tmp_path / "spool.db.damaged-2").read_bytes().startswith(b"two")


def test_a_spool_is_that_of_one_name(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(BusError, match=r"is that of the edge 'shop-17'.*--name shop-17"):
        opened(tmp_path, "shop-18")
    opened(tmp_path).close()


def test_a_newer_spool_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(BusError, match="newer headway"):
        opened(tmp_path)
    assert (tmp_path / FILE).exists()


def test_a_database_of_somebody_else_is_not_touched_but_set_aside(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE photographs (name TEXT)")
    connection.close()
    with pytest.raises(BusError, match="not a spool of headway"):
        opened(tmp_path)


def test_a_full_disk_is_told_and_nothing_is_forgotten(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    connection = spool._connected()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    spool.add_report(report(1, [bytes(100_000)]))
    with pytest.raises(SpoolError, match=r"cannot be written.*free some room"):
        spool.commit()
    assert spool.is_failing and spool.report(1).frames == [bytes(100_000)]
    connection.execute("PRAGMA max_page_count = 100000")
    spool.commit()
    assert not spool.is_failing
    spool.close()
    assert [stored.number for stored in opened(tmp_path).reports()] == [1]


def free_pages(spool: Spool) -> int:
    (pages,) = spool._connected().execute("PRAGMA freelist_count").fetchone()
    return int(pages)


def fill_and_empty(spool: Spool) -> None:
    """Many reports, all of them settled."""
    for number in range(500):
        spool.add_report(report(number, [bytes(4_000)]))
    spool.commit()
    spool.remove_reports(range(500))
    spool.commit()


def test_room_that_became_free_is_given_back_bit_by_bit(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    fill_and_empty(spool)
    free = free_pages(spool)
    assert free > TIDY_PAGES
    spool.tidy()
    assert free_pages(spool) == free - TIDY_PAGES
    spool.tidy()
    assert free_pages(spool) == max(0, free - 2 * TIDY_PAGES)


def test_a_spool_that_never_gave_room_back_learns_it_and_keeps_what_it_holds(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    fill_and_empty(spool)
    spool.add_report(report(900))
    spool.close()
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as connection:  # as an earlier release made it
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()
    again = opened(tmp_path)
    assert again.identity == spool.identity and [stored.number for stored in again.reports()] == [900]
    fill_and_empty(again)
    free = free_pages(again)
    again.tidy()
    assert free_pages(again) == free - TIDY_PAGES


def test_a_first_start_that_was_broken_off_before_anything_was_written_is_no_damage(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert (tmp_path / FILE).exists()
    assert opened(tmp_path).identity


def test_a_first_start_that_was_broken_off_between_tables_and_identity_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(_: int) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("headway_edge.spool.os.urandom", kill)
        spool = Spool(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            spool.open("shop-17")
        spool._disconnect()
    assert opened(tmp_path).identity
