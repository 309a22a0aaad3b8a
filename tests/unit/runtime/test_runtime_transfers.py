"""Large values, part by part, over a link that is cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headway_bus import messages as m
from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey, TaskId
from headway_bus.records import Blob, Code, ErrorInfo
from headway_runtime.files import WorkFolder
from headway_runtime.transfers import RETRY_SECONDS, Transfers

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
