"""Large values, part by part, over a link that is cut."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headway_bus import copying
from headway_bus import messages as m
from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey, TaskId
from headway_bus.records import Blob, Code, ErrorInfo, Reason
from headway_runtime.files import PartialBlob, WorkFolder
from headway_runtime.transfers import MOST_OPEN, MOST_PARTS, PUSHED_BACK_SECONDS, RETRY_SECONDS, WINDOW, Transfers

PART = 1000
KEY: AttemptKey = (TaskId(b"1" * 16), 1)
OTHER: AttemptKey = (TaskId(b"2" * 16), 1)


class Ends:
    """A runtime's transfers, and the controller's end of them."""

    def __init__(self, folder: WorkFolder) -> None:
        self.folder = folder
        self.sent: list[tuple[m.Message, list[bytes]]] = []
        self.fetched: dict[AttemptKey, ErrorInfo | None] = {}
        self.uploaded: dict[AttemptKey, ErrorInfo | None] = {}
        self.stored: dict[bytes, bytes] = {}
        self.is_up = True
        self.transfers = Transfers(folder, self.send, self.fetched.__setitem__, self.uploaded.__setitem__, PART)

    def send(self, message: m.Message, frames: Sequence[Frame]) -> bool:
        if self.is_up:
            self.sent.append((message, [bytes(frame) for frame in frames]))
        return self.is_up

    def hear(self, message: m.BlobHave | m.BlobPart | m.Denied, *frames: bytes) -> None:
        self.transfers.on_message(message, frames)

    def serve(self, most: int = 1000) -> None:
        """Answer as the controller does, up to that many messages."""
        while self.sent and most:
            most -= 1
            message, frames = self.sent.pop(0)
            if isinstance(message, m.BlobGet):
                part = self.stored[message.blob.hash][message.offset : message.offset + message.length]
                self.hear(m.BlobPart(message.request, message.blob, message.offset), part)
            elif isinstance(message, m.BlobPut):
                have = self.stored.setdefault(message.blob.hash, b"")
                if message.offset == len(have):
                    have = self.stored[message.blob.hash] = have + frames[0]
                if (
                    len(have) == message.blob.size
                    and hashlib.blake2b(have, digest_size=32).digest() != message.blob.hash
                ):
                    del self.stored[message.blob.hash]
                    self.hear(m.Denied(message.request, Code.INVALID, "another hash; thrown away"))
                    continue
                self.hear(m.BlobHave(message.request, message.blob, len(have)))


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    folder = WorkFolder(tmp_path / "work")
    folder.open(b"instance")
    yield Ends(folder)
    folder.close()


def content_and_blob(size: int) -> tuple[bytes, Blob]:
    content = os.urandom(size)
    return content, Blob(hashlib.blake2b(content, digest_size=32).digest(), size)


@pytest.mark.parametrize("size", [0, 1, PART, 10 * PART + 1])
def test_a_value_is_fetched_once_for_all_who_want_it(ends: Ends, size: int) -> None:
    content, blob = content_and_blob(size)
    ends.stored[blob.hash] = content
    ends.transfers.fetch(KEY, [blob])
    ends.transfers.fetch(OTHER, [blob])
    ends.serve()
    assert ends.fetched == {KEY: None, OTHER: None}
    assert ends.folder.blob_path(blob).read_bytes() == content


def test_an_attempt_with_several_values_waits_for_all(ends: Ends) -> None:
    blobs = []
    for size in (PART, 2 * PART):
        content, blob = content_and_blob(size)
        ends.stored[blob.hash] = content
        blobs.append(blob)
    ends.transfers.fetch(KEY, blobs)
    ends.serve(2)
    assert KEY not in ends.fetched
    ends.serve()
    assert ends.fetched == {KEY: None}


def test_a_cut_fetch_goes_on_where_it_stopped(ends: Ends) -> None:
    content, blob = content_and_blob(20 * PART)
    ends.stored[blob.hash] = content
    ends.transfers.fetch(KEY, [blob])
    ends.serve(7)
    ends.is_up = False
    ends.transfers.on_cut()
    ends.serve()
    ends.sent.clear()
    ends.is_up = True
    ends.transfers.on_controller()
    first = ends.sent[0][0]
    assert isinstance(first, m.BlobGet)
    assert first.offset >= 7 * PART
    ends.serve()
    assert ends.fetched == {KEY: None}


def test_a_lost_answer_is_asked_for_again(ends: Ends) -> None:
    content, blob = content_and_blob(3 * PART)
    ends.stored[blob.hash] = content
    ends.transfers.fetch(KEY, [blob])
    ends.sent.clear()
    ends.transfers.on_tick(RETRY_SECONDS + 1)
    ends.serve()
    assert ends.fetched == {KEY: None}


def test_a_question_that_was_not_passed_on_is_asked_again_soon_though_others_are_answered(ends: Ends) -> None:
    content, blob = content_and_blob(8 * PART)
    ends.stored[blob.hash] = content
    ends.transfers.on_tick(100.0)
    ends.transfers.fetch(KEY, [blob])
    del ends.sent[2]
    ends.transfers.on_undeliverable()
    ends.serve()
    assert not ends.fetched and not ends.sent
    ends.transfers.on_tick(100.5)
    assert not ends.sent, "whoever had no room is given time"
    ends.transfers.on_tick(100.0 + PUSHED_BACK_SECONDS)
    ends.serve()
    assert ends.fetched == {KEY: None} and ends.folder.has_blob(blob)


def test_what_cannot_be_had_is_an_error_with_the_reason(ends: Ends) -> None:
    _, blob = content_and_blob(3 * PART)
    ends.transfers.fetch(KEY, [blob])
    get = ends.sent[0][0]
    assert isinstance(get, m.BlobGet)
    ends.hear(m.Denied(get.request, Code.NOT_FOUND, "it was purged"))
    error = ends.fetched[KEY]
    assert error is not None
    assert "it was purged" in error.message
    assert not list(ends.folder.blobs.iterdir())


@pytest.mark.parametrize("known", [0, 4 * PART, 10 * PART + 5])
def test_a_value_is_brought_from_where_the_controller_is(ends: Ends, known: int) -> None:
    content, blob = content_and_blob(10 * PART + 5)
    ends.folder.blob_path(blob).write_bytes(content)
    ends.stored[blob.hash] = content[:known]
    ends.transfers.upload(KEY, [blob])
    ends.transfers.upload(OTHER, [blob])
    ends.serve()
    assert ends.uploaded == {KEY: None, OTHER: None}
    assert ends.stored[blob.hash] == content


def test_a_cut_upload_goes_on(ends: Ends) -> None:
    content, blob = content_and_blob(20 * PART)
    ends.folder.blob_path(blob).write_bytes(content)
    ends.transfers.upload(KEY, [blob])
    ends.serve(5)
    ends.transfers.on_cut()
    ends.sent.clear()
    ends.transfers.on_controller()
    ends.serve()
    assert ends.uploaded == {KEY: None}
    assert ends.stored[blob.hash] == content


def test_what_suffered_on_the_controllers_disk_is_brought_again_from_the_beginning(ends: Ends) -> None:
    content, blob = content_and_blob(10 * PART)
    ends.folder.blob_path(blob).write_bytes(content)
    ends.stored[blob.hash] = bytes(4 * PART)  # what a power cut left there of the first half
    ends.transfers.upload(KEY, [blob])
    ends.serve()
    assert ends.uploaded == {KEY: None} and ends.stored[blob.hash] == content


def test_what_is_refused_again_and_again_is_brought_twice_and_not_for_ever(ends: Ends) -> None:
    content, blob = content_and_blob(10 * PART)
    ends.folder.blob_path(blob).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # it suffered here
    ends.stored[blob.hash] = content[: 4 * PART]
    ends.transfers.upload(KEY, [blob])
    ends.serve()
    error = ends.uploaded[KEY]
    assert error is not None and "another hash" in error.message and not ends.sent


def test_a_value_that_is_not_taken_is_an_error(ends: Ends) -> None:
    content, blob = content_and_blob(PART)
    ends.folder.blob_path(blob).write_bytes(content)
    ends.transfers.upload(KEY, [blob])
    put = ends.sent[0][0]
    assert isinstance(put, m.BlobPut)
    ends.hear(m.Denied(put.request, Code.TOO_LARGE, "the limit is 10 bytes"))
    error = ends.uploaded[KEY]
    assert error is not None
    assert "the limit is 10 bytes" in error.message


def test_a_value_that_vanished_is_an_error(ends: Ends) -> None:
    _, blob = content_and_blob(PART)
    ends.transfers.upload(KEY, [blob])
    assert ends.uploaded[KEY] is not None


def test_a_value_that_is_shorter_than_its_record_is_an_error_and_no_endless_loop(ends: Ends) -> None:
    content, blob = content_and_blob(3 * PART)
    ends.folder.blob_path(blob).write_bytes(content[: PART + 1])  # what a power cut left of it
    ends.transfers.upload(KEY, [blob])
    ends.serve()
    error = ends.uploaded[KEY]
    assert error is not None and f"ends after {PART + 1} of its {3 * PART} bytes" in error.message


def test_what_was_not_taken_leaves_no_request_behind(ends: Ends) -> None:
    content, blob = content_and_blob(3 * PART)
    content_there, wanted = content_and_blob(3 * PART)
    ends.stored[wanted.hash] = content_there
    ends.folder.blob_path(blob).write_bytes(content)
    ends.is_up = False
    ends.transfers.upload(KEY, [blob])
    ends.transfers.fetch(OTHER, [wanted])
    for _ in range(100):
        ends.transfers.go_on()
    assert not ends.transfers._requests
    ends.is_up = True
    ends.transfers.go_on()
    ends.serve()
    assert ends.uploaded == {KEY: None} and ends.fetched == {OTHER: None}


# ------------------------------------------------------------------------------------------ what is held in memory


def parts_on_their_way(ends: Ends) -> int:
    """Bytes that have been asked for, or sent, and are not answered: in the memory of whoever holds them."""
    sizes = [each.length if isinstance(each, m.BlobGet) else len(frames[0]) for each, frames in ends.sent]
    return sum(sizes)


@pytest.mark.parametrize(("files", "size"), [(300, 3 * PART), (300, 10), (1, 500 * PART)])
def test_a_bundle_of_any_shape_keeps_a_bounded_number_of_parts_on_their_way(ends: Ends, files: int, size: int) -> None:
    contents = [content_and_blob(size) for _ in range(files)]
    ends.stored |= {blob.hash: content for content, blob in contents}
    ends.transfers.fetch(KEY, [blob for _, blob in contents])
    most = most_open = 0
    while ends.sent:
        most = max(most, parts_on_their_way(ends), ends.transfers.in_flight[0])
        most_open = max(most_open, len(list(ends.folder.blobs.glob("*.part"))))
        ends.serve(1)
    assert ends.fetched == {KEY: None}
    assert all(ends.folder.has_blob(blob) for _, blob in contents)
    assert 0 < most <= MOST_PARTS * PART and most_open <= MOST_OPEN


@pytest.mark.parametrize(("files", "size"), [(300, 3 * PART), (1, 500 * PART)])
def test_outputs_of_any_shape_keep_a_bounded_number_of_parts_on_their_way(ends: Ends, files: int, size: int) -> None:
    contents = [content_and_blob(size) for _ in range(files)]
    for content, blob in contents:
        ends.folder.blob_path(blob).write_bytes(content)
    ends.transfers.upload(KEY, [], [blob for _, blob in contents])
    most = 0
    while ends.sent:
        most = max(most, parts_on_their_way(ends), ends.transfers.in_flight[1])
        put = ends.sent[0][0]
        assert isinstance(put, m.BlobPut) and put.is_file
        ends.serve(1)
    assert ends.uploaded == {KEY: None}
    assert all(ends.stored[blob.hash] == content for content, blob in contents)
    assert 0 < most <= MOST_PARTS * PART


def test_no_byte_that_has_arrived_is_sent_again_after_a_cut(ends: Ends) -> None:
    content, blob = content_and_blob(50 * PART)
    ends.stored[blob.hash] = content
    asked = 0

    def serve_counting(most: int) -> None:
        nonlocal asked
        for _ in range(most):
            if ends.sent:
                get = ends.sent[0][0]
                assert isinstance(get, m.BlobGet)
                asked += get.length
                ends.serve(1)

    ends.transfers.fetch(KEY, [blob])
    serve_counting(20)
    lost = parts_on_their_way(ends)
    ends.sent.clear()
    ends.transfers.on_cut()
    ends.transfers.on_controller()
    serve_counting(100)
    assert ends.fetched == {KEY: None}
    assert asked == blob.size and lost <= WINDOW * PART


def test_what_an_earlier_process_had_is_not_asked_for_again_and_is_read_beside_the_loop(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "kept", keep=True)
    folder.open(b"instance")
    content, blob = content_and_blob(10 * PART)
    folder.blob_path(blob).with_suffix(".part").write_bytes(content[: 6 * PART])
    ends, later = Ends(folder), []
    ends.transfers = Transfers(
        folder,
        ends.send,
        ends.fetched.__setitem__,
        ends.uploaded.__setitem__,
        PART,
        in_thread=lambda work, then: later.append((work, then)),
    )
    ends.stored[blob.hash] = content
    ends.transfers.fetch(KEY, [blob])
    assert not ends.sent, "nothing is asked for before it is known how much is here"
    ((work, then),) = later
    work()
    then(None)
    first = ends.sent[0][0]
    assert isinstance(first, m.BlobGet) and first.offset == 6 * PART
    ends.serve()
    assert ends.fetched == {KEY: None} and folder.has_blob(blob)
    folder.close()


def test_what_is_wanted_no_longer_is_not_fetched_to_its_end(ends: Ends) -> None:
    contents = [content_and_blob(5 * PART) for _ in range(3)]
    ends.stored |= {blob.hash: content for content, blob in contents}
    (_, ours), (_, both), (_, theirs) = contents
    ends.transfers.fetch(KEY, [ours, both])
    ends.transfers.fetch(OTHER, [both, theirs])
    ends.serve(2)
    ends.transfers.forget(lambda key: key == OTHER)
    ends.serve()
    assert ends.fetched == {OTHER: None}
    assert not ends.folder.has_blob(ours) and not list(ends.folder.blobs.glob("*.part"))


def test_a_disk_that_fills_up_ends_that_fetch_and_no_other(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    (large, too_much), (small, fits) = content_and_blob(9 * PART), content_and_blob(PART)
    ends.stored |= {too_much.hash: large, fits.hash: small}
    add = PartialBlob.add

    def full(partial: PartialBlob, part: Frame) -> bool:
        if partial.blob == too_much and partial.offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return add(partial, part)

    monkeypatch.setattr(PartialBlob, "add", full)
    ends.transfers.fetch(KEY, [too_much])
    ends.transfers.fetch(OTHER, [fits])
    ends.serve()
    error = ends.fetched[KEY]
    assert error is not None and error.reason is Reason.START and "No space left" in error.message
    assert ends.fetched[OTHER] is None
    assert [path.name for path in ends.folder.blobs.iterdir()] == [fits.hash.hex()]


def test_what_cannot_fit_is_refused_before_it_is_fetched(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = Blob(b"h" * 32, 10 << 30)
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(20 << 30, 19 << 30, 1 << 30))
    ends.transfers.fetch(KEY, [blob])
    error = ends.fetched[KEY]
    assert error is not None and f"{10 << 30} bytes are needed, and {1 << 30} are free" in error.message
    assert not ends.sent and not list(ends.folder.blobs.iterdir())


def test_an_attempt_whose_files_are_not_all_taken_has_one_error(ends: Ends) -> None:
    contents = [content_and_blob(PART) for _ in range(3)]
    for content, blob in contents:
        ends.folder.blob_path(blob).write_bytes(content)
    ends.transfers.upload(KEY, [contents[0][1]], [blob for _, blob in contents[1:]])
    put = ends.sent.pop(1)[0]
    assert isinstance(put, m.BlobPut)
    ends.hear(m.Denied(put.request, Code.STORE, "no room"))
    ends.serve()
    error = ends.uploaded[KEY]
    assert error is not None and "no room" in error.message
