"""Large arguments, results and files: fetched and brought part by part, resumed where they stopped.

Each value is fetched once, however many attempts want it. Parts are asked for a few at a time, so that a round trip does
not cost the bandwidth of a part; they arrive in order, since everything between us and the controller keeps the order.

A part on its way is in somebody's memory, ours or the controller's. So the parts of all values together are bounded, and so
are the values that have a file open: a bundle of ten thousand files, or one of 10 GiB, costs no more memory than one of a
few MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.messages import BlobGet, BlobHave, BlobPart, BlobPut, Denied, Message
from headway_bus.records import Blob, ErrorInfo, Reason
from headway_runtime.files import PartialBlob, WorkFolder

WINDOW = 4
"""Parts of one value asked for, or sent, and not yet answered."""

MOST_PARTS = 16
"""The same of all values that are fetched together, and of all that are brought: what they occupy in memory."""

MOST_OPEN = 64
"""Values that are fetched, or brought, at the same time: small ones, since large ones use up the parts before."""

RETRY_SECONDS = 10.0
"""Without an answer, after which the value is asked for, or offered, again."""

PUSHED_BACK_SECONDS = 1.0
"""After which a part that was not passed on is asked for, or sent, again."""

Send = Callable[[Message, Sequence[Frame]], bool]
Done = Callable[[AttemptKey, ErrorInfo | None], None]
InThread = Callable[[Callable[[], Any], Callable[[BaseException | None], None]], None]
"""Does the first away from the loop, then calls the second on it, with the error if there was one."""


@dataclass(slots=True)
class _Download:
    blob: Blob
    waiting: list[AttemptKey] = field(default_factory=list)
    partial: PartialBlob | None = None
    """Its file, from when its turn has come."""

    is_read: bool = False
    """What an earlier process had of it has been read, if there was any: parts can be asked for."""

    asked: int = 0
    """Bytes asked for so far."""

    moved: float = 0.0

    @property
    def in_flight(self) -> int:
        return self.asked - self.partial.offset if self.partial is not None and self.is_read else 0


@dataclass(slots=True)
class _Upload:
    blob: Blob
    is_file: bool = False
    waiting: list[AttemptKey] = field(default_factory=list)
    is_open: bool = False
    sent: int = 0
    confirmed: int = 0
    is_known: bool = False
    """The controller has said how much of it is there."""

    is_resumed: bool = False
    """That was more than we had sent: it began with what came earlier, which may have suffered since."""

    is_anew: bool = False
    """It was refused then, and has begun again with nothing."""

    moved: float = 0.0

    @property
    def in_flight(self) -> int:
        return self.sent - self.confirmed


class Transfers:
    """All large values on their way. ``fetched`` and ``uploaded`` are called once per attempt.

    :param part_bytes: the size of a part.
    :param retry_seconds: without an answer, after which a value is asked for, or offered, again.
    :param in_thread: where what takes seconds is done; left out: at once.
    :param make_room: called with the size of what is about to be fetched; left out: nothing goes for it.
    """

    def __init__(
        self,
        folder: WorkFolder,
        send: Send,
        fetched: Done,
        uploaded: Done,
        part_bytes: int,
        retry_seconds: float = RETRY_SECONDS,
        in_thread: InThread | None = None,
        make_room: Callable[[int], None] | None = None,
    ) -> None:
        self._folder = folder
        self._send = send
        self._fetched = fetched
        self._uploaded = uploaded
        self._part = part_bytes
        self._retry = retry_seconds
        self._in_thread = in_thread or _at_once
        self._make_room = make_room or _make_none
        self._now = 0.0
        self._request = 0
        self._requests: dict[int, bytes] = {}
        self._downloads: dict[bytes, _Download] = {}
        self._uploads: dict[bytes, _Upload] = {}
        self._wanted: dict[AttemptKey, set[bytes]] = {}
        self._brought: dict[AttemptKey, set[bytes]] = {}
        self._again_at: float | None = None
        self._is_advancing = False
        self._has_changed = False

    # -------------------------------------------------------------------------------------- what is wanted

    def fetch(self, key: AttemptKey, blobs: Sequence[Blob]) -> None:
        """Get these values into the folder, then say so."""
        try:
            missing = {blob.hash: blob for blob in blobs if not self._folder.has_blob(blob)}
        except (OSError, ValueError) as error:
            self._fetched(key, self._cannot_be_stored(error))
            return
        if not missing:
            self._fetched(key, None)
            return
        self._wanted[key] = set(missing)
        for blob in missing.values():
            download = self._downloads.setdefault(blob.hash, _Download(blob))
            download.waiting.append(key)
        self._advance()

    def upload(self, key: AttemptKey, values: Sequence[Blob], files: Sequence[Blob] = ()) -> None:
        """Bring values and files from the folder to the controller, then say so."""
        wanted = {
            blob.hash: _Upload(blob, is_file) for blobs, is_file in ((values, False), (files, True)) for blob in blobs
        }
        self._brought[key] = set(wanted)
        for blob_hash, upload in wanted.items():
            self._uploads.setdefault(blob_hash, upload).waiting.append(key)
        self._advance()

    def forget(self, is_needed: Callable[[AttemptKey], bool]) -> None:
        """Stop fetching what only attempts wanted that are over by now."""
        over = [key for key in self._wanted if not is_needed(key)]
        for key in over:
            del self._wanted[key]
        if over:
            for download in list(self._downloads.values()):
                if not self._is_awaited(download) and (download.partial is None or download.is_read):
                    self._drop(download)
            self._advance()

    def _drop(self, download: _Download) -> None:
        del self._downloads[download.blob.hash]
        if download.partial is not None:
            download.partial.discard()

    def _is_awaited(self, download: _Download) -> bool:
        return any(key in self._wanted for key in download.waiting)

    @property
    def in_flight(self) -> tuple[int, int]:
        """Bytes asked for and not here, bytes sent and not confirmed."""
        return (
            sum(each.in_flight for each in _first(self._downloads)),
            sum(each.in_flight for each in _first(self._uploads)),
        )

    # -------------------------------------------------------------------------------------- asking and sending

    def _advance(self) -> None:
        """Ask and send as far as the bounds allow: what is begun first, then what waits, in the order in which it came."""
        self._has_changed = True
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._has_changed:  # what has ended makes room, and whoever was told of it may want more
                self._has_changed = False
                self._advance_downloads()
                self._advance_uploads()
        finally:
            self._is_advancing = False

    def _advance_downloads(self) -> None:
        left = MOST_PARTS * self._part - self.in_flight[0]
        for download in _first(self._downloads):
            if left <= 0:
                return
            if download.partial is None:
                self._begin(download)
            before = download.in_flight
            if not self._ask(download, left):
                return
            left -= download.in_flight - before

    def _advance_uploads(self) -> None:
        left = MOST_PARTS * self._part - self.in_flight[1]
        for upload in _first(self._uploads):
            if left <= 0:
                return
            if not upload.is_open:
                upload.is_open, upload.moved = True, self._now
            before = upload.in_flight
            if not self._bring(upload, left):
                return
            left -= upload.in_flight - before

    def _begin(self, download: _Download) -> None:
        """Open its file, and read what an earlier process had of it."""
        download.moved = self._now
        try:
            self._make_room(download.blob.size)
            partial = download.partial = PartialBlob(self._folder, download.blob)
        except (OSError, ValueError) as error:
            self._end_download(download, self._cannot_be_stored(error))
            return
        if partial.has_earlier:
            self._in_thread(partial.read_earlier, lambda error: self._on_read(download, partial, error))
        else:
            download.is_read = True
            if not download.blob.size:
                self._take_part(download, b"")

    def _on_read(self, download: _Download, partial: PartialBlob, error: BaseException | None) -> None:
        download.is_read = True
        if not self._is_awaited(download):
            self._drop(download)
        elif error is not None:
            partial.discard()
            self._end_download(download, self._cannot_be_stored(error))
        else:
            self._restart_download(download)
        self._advance()

    def _number(self, blob: Blob) -> int:
        self._request += 1
        self._requests[self._request] = blob.hash
        return self._request

    def _request_part(self, message: BlobGet | BlobPut, frames: Sequence[Frame]) -> bool:
        """Send it. What was not taken will not be answered, and its number is not kept."""
        if self._send(message, frames):
            return True
        del self._requests[message.request]
        return False

    def _ask(self, download: _Download, most: int) -> bool:
        """Ask for parts as far as the window goes, and for ``most`` bytes, or one part. False: nobody takes a question now."""
        blob, partial = download.blob, download.partial
        if partial is None or not download.is_read:
            return True
        until = min(blob.size, partial.offset + WINDOW * self._part, download.asked + most)
        while download.asked < until:
            length = min(self._part, blob.size - download.asked)
            if not self._request_part(BlobGet(self._number(blob), blob, download.asked, length), []):
                return False
            download.asked += length
        return True

    def _bring(self, upload: _Upload, most: int) -> bool:
        """Send parts as far as the window goes. The first one is sent alone: the answer may be that all is there.

        False: nobody takes a part now.
        """
        blob = upload.blob
        window = WINDOW if upload.is_known else 1
        until = min(blob.size, upload.confirmed + window * self._part, upload.sent + most)
        if upload.sent >= until:
            return True
        try:
            with self._folder.blob_path(blob).open("rb") as file:
                while upload.sent < until:
                    file.seek(upload.sent)
                    part = file.read(min(self._part, blob.size - upload.sent))
                    if not part:
                        raise ValueError(f"it ends after {upload.sent} of its {blob.size} bytes")
                    if not self._request_part(BlobPut(self._number(blob), blob, upload.sent, upload.is_file), [part]):
                        return False
                    upload.sent += len(part)
        except (OSError, ValueError) as error:
            self._end_upload(upload, ErrorInfo(Reason.ENCODE, f"the large result cannot be read: {error}"))
        return True

    # -------------------------------------------------------------------------------------- answers

    def on_message(self, message: BlobPart | BlobHave | Denied, frames: Sequence[Frame]) -> None:
        if isinstance(message, Denied):
            self._on_denied(message)
        else:
            self._requests.pop(message.request, None)
            if isinstance(message, BlobPart):
                self._on_part(message, frames)
            else:
                self._on_have(message)
        self._advance()

    def _on_part(self, message: BlobPart, frames: Sequence[Frame]) -> None:
        download = self._downloads.get(message.blob.hash)
        if download is None or download.partial is None or not download.is_read or not frames:
            return
        if message.offset != download.partial.offset:
            return  # asked for twice, after a cut
        download.moved = self._now
        self._take_part(download, frames[0])

    def _take_part(self, download: _Download, part: Frame) -> None:
        partial = download.partial
        assert partial is not None
        try:
            if not partial.add(part):
                return
        except (OSError, ValueError) as error:
            was_resumed = partial.is_resumed
            partial.discard()
            if was_resumed:  # from the beginning, once
                download.partial, download.is_read, download.asked = None, False, 0
                return
            self._end_download(download, self._cannot_be_stored(error))
        else:
            self._end_download(download, None)

    def _cannot_be_stored(self, error: BaseException) -> ErrorInfo:
        return ErrorInfo(Reason.START, f"a large argument or file cannot be stored in {self._folder.blobs}: {error}")

    def _end_download(self, download: _Download, error: ErrorInfo | None) -> None:
        self._has_changed = True
        del self._downloads[download.blob.hash]
        for key in download.waiting:
            wanted = self._wanted.get(key)
            if wanted is None:
                continue
            wanted.discard(download.blob.hash)
            if error is not None or not wanted:
                del self._wanted[key]
                self._fetched(key, error)

    def _on_have(self, message: BlobHave) -> None:
        upload = self._uploads.get(message.blob.hash)
        if upload is None or not upload.is_open:
            return
        upload.moved = self._now
        if message.offset >= upload.blob.size:
            self._end_upload(upload, None)
            return
        if message.offset > upload.sent:
            upload.is_resumed = True
        if message.offset < upload.confirmed or not upload.is_known:
            upload.sent = message.offset  # the receiver has another idea of where we are: its own is what counts
        upload.is_known = True
        upload.confirmed = message.offset
        upload.sent = max(upload.sent, message.offset)

    def _end_upload(self, upload: _Upload, error: ErrorInfo | None) -> None:
        self._has_changed = True
        self._uploads.pop(upload.blob.hash, None)
        for key in upload.waiting:
            brought = self._brought.get(key)
            if brought is None:
                continue
            brought.discard(upload.blob.hash)
            if error is not None or not brought:
                del self._brought[key]
                self._uploaded(key, error)

    def _on_denied(self, message: Denied) -> None:
        blob_hash = self._requests.pop(message.request, None)
        if blob_hash is None:
            return
        download, upload = self._downloads.get(blob_hash), self._uploads.get(blob_hash)
        if download is not None:
            if download.partial is not None:
                download.partial.discard()
            text = f"a large argument or file cannot be had from the controller: {message.text}"
            self._end_download(download, ErrorInfo(Reason.START, text))
        if upload is not None and upload.is_resumed and not upload.is_anew:
            upload.is_anew = True  # what had suffered was thrown away: from the beginning, once
            self._restart_upload(upload)
        elif upload is not None:
            text = f"the controller does not take the large result or file: {message.text}"
            self._end_upload(upload, ErrorInfo(Reason.TOO_LARGE, text))

    # -------------------------------------------------------------------------------------- cuts and time

    def on_cut(self) -> None:
        """Nothing that was asked before will be answered."""
        self._requests.clear()

    def on_controller(self) -> None:
        """A controller is there (again): go on where it stopped."""
        for download in self._downloads.values():
            self._restart_download(download)
        for upload in self._uploads.values():
            self._restart_upload(upload)
        self._advance()

    def _restart_download(self, download: _Download) -> None:
        download.asked = download.partial.offset if download.partial is not None else 0
        download.moved = self._now

    def _restart_upload(self, upload: _Upload) -> None:
        upload.sent = upload.confirmed = 0
        upload.is_known = False
        upload.moved = self._now

    def on_undeliverable(self) -> None:
        """A question or a part was not passed on, for want of room or of a controller. It is not said which: all go again."""
        if self._again_at is None:
            self._again_at = self._now + PUSHED_BACK_SECONDS

    def go_on(self) -> None:
        """What the sender refused for a time goes out as far as it takes it now."""
        self._advance()

    def on_tick(self, now: float) -> None:
        """Ask again for what should have come by now."""
        self._now = now
        is_pushed_back = self._again_at is not None and now >= self._again_at
        if is_pushed_back:
            self._again_at = None
        for download in _first(self._downloads):
            if download.is_read and (is_pushed_back or now - download.moved > self._retry):
                self._restart_download(download)
        for upload in _first(self._uploads):
            if upload.is_open and (is_pushed_back or now - upload.moved > self._retry):
                self._restart_upload(upload)
        self._advance()


def _first(values: dict[bytes, Any]) -> Iterable[Any]:
    """Those whose turn has come."""
    return [each for each, _ in zip(values.values(), range(MOST_OPEN), strict=False)]


def _make_none(_: int) -> None: ...


def _at_once(work: Callable[[], Any], then: Callable[[BaseException | None], None]) -> None:
    try:
        work()
    except Exception as error:
        then(error)
    else:
        then(None)
