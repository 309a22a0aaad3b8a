"""Large arguments and results: fetched and brought part by part, resumed where they stopped.

Each value is fetched once, however many attempts want it. Parts are asked for a few at a time, so that a round trip does
not cost the bandwidth of a part; they arrive in order, since everything between us and the controller keeps the order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headway_bus.endpoint import Frame
from headway_bus.ids import AttemptKey
from headway_bus.messages import BlobGet, BlobHave, BlobPart, BlobPut, Denied, Message
from headway_bus.records import Blob, ErrorInfo, Reason
from headway_runtime.files import PartialBlob, WorkFolder

WINDOW = 4
"""Parts asked for, or sent, and not yet answered."""

RETRY_SECONDS = 10.0
"""Without an answer, after which the value is asked for, or offered, again."""

Send = Callable[[Message, Sequence[Frame]], bool]
Done = Callable[[AttemptKey, ErrorInfo | None], None]


@dataclass(slots=True)
class _Download:
    blob: Blob
    waiting: list[AttemptKey]
    partial: PartialBlob
    asked: int = 0
    """Bytes asked for so far."""

    moved: float = 0.0


@dataclass(slots=True)
class _Upload:
    blob: Blob
    waiting: list[AttemptKey]
    sent: int = 0
    confirmed: int = 0
    moved: float = 0.0


@dataclass(slots=True)
class _Wanted:
    """What an attempt still waits for."""

    hashes: set[bytes] = field(default_factory=set)


class Transfers:
    """All large values on their way. ``fetched`` and ``uploaded`` are called once per attempt.

    :param part_bytes: the size of a part.
    :param retry_seconds: without an answer, after which a value is asked for, or offered, again.
    """

    def __init__(
        self,
        folder: WorkFolder,
        send: Send,
        fetched: Done,
        uploaded: Done,
        part_bytes: int,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._folder = folder
        self._send = send
        self._fetched = fetched
        self._uploaded = uploaded
        self._part = part_bytes
        self._retry = retry_seconds
        self._now = 0.0
        self._request = 0
        self._requests: dict[int, bytes] = {}
        self._downloads: dict[bytes, _Download] = {}
        self._uploads: dict[bytes, _Upload] = {}
        self._wanted: dict[AttemptKey, _Wanted] = {}

    # -------------------------------------------------------------------------------------- what is wanted

    def fetch(self, key: AttemptKey, blobs: Sequence[Blob]) -> None:
        """Get these values into the folder, then say so."""
        wanted = _Wanted()
        try:
            missing = [blob for blob in blobs if not self._folder.has_blob(blob)]
            for blob in missing:
                wanted.hashes.add(blob.hash)
                download = self._downloads.get(blob.hash)
                if download is None:
                    download = _Download(blob, [], PartialBlob(self._folder, blob), 0, self._now)
                    self._downloads[blob.hash] = download
                    if not blob.size:
                        self._take_part(download, b"")
                        wanted.hashes.discard(blob.hash)
                        continue
                    self._ask(download)
                download.waiting.append(key)
        except (OSError, ValueError) as error:
            self._fetched(key, ErrorInfo(Reason.START, f"a large argument cannot be stored here: {error}"))
            return
        if wanted.hashes:
            self._wanted[key] = wanted
        else:
            self._fetched(key, None)

    def upload(self, key: AttemptKey, blob: Blob) -> None:
        """Bring a value from the folder to the controller, then say so."""
        upload = self._uploads.get(blob.hash)
        if upload is not None:
            upload.waiting.append(key)
            return
        upload = self._uploads[blob.hash] = _Upload(blob, [key], 0, 0, self._now)
        self._bring(upload)

    # -------------------------------------------------------------------------------------- asking and sending

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

    def _ask(self, download: _Download) -> None:
        blob = download.blob
        while download.asked < blob.size and download.asked < download.partial.offset + WINDOW * self._part:
            length = min(self._part, blob.size - download.asked)
            if not self._request_part(BlobGet(self._number(blob), blob, download.asked, length), []):
                return
            download.asked += length

    def _bring(self, upload: _Upload) -> None:
        """Send parts as far as the window goes. The first one is sent alone: the answer may be that all is there."""
        blob = upload.blob
        window = WINDOW if upload.confirmed else 1
        try:
            with self._folder.blob_path(blob).open("rb") as file:
                while upload.sent < blob.size and upload.sent < upload.confirmed + window * self._part:
                    file.seek(upload.sent)
                    part = file.read(min(self._part, blob.size - upload.sent))
                    if not part:
                        raise ValueError(f"it ends after {upload.sent} of its {blob.size} bytes")
                    if not self._request_part(BlobPut(self._number(blob), blob, upload.sent), [part]):
                        return
                    upload.sent += len(part)
        except (OSError, ValueError) as error:
            self._end_upload(upload, ErrorInfo(Reason.ENCODE, f"the large result cannot be read: {error}"))

    # -------------------------------------------------------------------------------------- answers

    def on_message(self, message: BlobPart | BlobHave | Denied, frames: Sequence[Frame]) -> None:
        if isinstance(message, Denied):
            self._on_denied(message)
            return
        self._requests.pop(message.request, None)
        if isinstance(message, BlobPart):
            self._on_part(message, frames)
        else:
            self._on_have(message)

    def _on_part(self, message: BlobPart, frames: Sequence[Frame]) -> None:
        download = self._downloads.get(message.blob.hash)
        if download is None or not frames or message.offset != download.partial.offset:
            return  # asked for twice, after a cut
        download.moved = self._now
        self._take_part(download, frames[0])
        if download.blob.hash in self._downloads:
            self._ask(download)

    def _take_part(self, download: _Download, part: Frame) -> None:
        try:
            if not download.partial.add(part):
                return
        except (OSError, ValueError) as error:
            was_resumed = download.partial.is_resumed
            download.partial.discard()
            if was_resumed:
                download.partial = PartialBlob(self._folder, download.blob)
                self._restart_download(download)
                return
            self._end_download(download, ErrorInfo(Reason.START, f"a large argument cannot be stored here: {error}"))
        else:
            self._end_download(download, None)

    def _end_download(self, download: _Download, error: ErrorInfo | None) -> None:
        del self._downloads[download.blob.hash]
        for key in download.waiting:
            wanted = self._wanted.get(key)
            if wanted is None:
                continue
            wanted.hashes.discard(download.blob.hash)
            if error is not None or not wanted.hashes:
                del self._wanted[key]
                self._fetched(key, error)

    def _on_have(self, message: BlobHave) -> None:
        upload = self._uploads.get(message.blob.hash)
        if upload is None:
            return
        upload.moved = self._now
        if message.offset >= upload.blob.size:
            self._end_upload(upload, None)
            return
        if message.offset < upload.confirmed or not upload.confirmed:
            upload.sent = message.offset  # the receiver has another idea of where we are: its own is what counts
        upload.confirmed = max(1, message.offset)
        upload.sent = max(upload.sent, message.offset)
        self._bring(upload)

    def _end_upload(self, upload: _Upload, error: ErrorInfo | None) -> None:
        self._uploads.pop(upload.blob.hash, None)
        for key in upload.waiting:
            self._uploaded(key, error)

    def _on_denied(self, message: Denied) -> None:
        blob_hash = self._requests.pop(message.request, None)
        if blob_hash is None:
            return
        download, upload = self._downloads.get(blob_hash), self._uploads.get(blob_hash)
        if download is not None:
            download.partial.discard()
            text = f"a large argument cannot be had from the controller: {message.text}"
            self._end_download(download, ErrorInfo(Reason.START, text))
        if upload is not None:
            text = f"the controller does not take the large result: {message.text}"
            self._end_upload(upload, ErrorInfo(Reason.TOO_LARGE, text))

    # -------------------------------------------------------------------------------------- cuts and time

    def on_cut(self) -> None:
        """Nothing that was asked before will be answered."""
        self._requests.clear()

    def on_controller(self) -> None:
        """A controller is there (again): go on where it stopped."""
        for download in self._downloads.values():
            self._restart_download(download)
        for upload in list(self._uploads.values()):
            self._restart_upload(upload)

    def _restart_download(self, download: _Download) -> None:
        download.asked = download.partial.offset
        download.moved = self._now
        self._ask(download)

    def _restart_upload(self, upload: _Upload) -> None:
        upload.sent = upload.confirmed = 0
        upload.moved = self._now
        self._bring(upload)

    def go_on(self) -> None:
        """What the sender refused for a time goes out as far as it takes it now."""
        for download in list(self._downloads.values()):
            self._ask(download)
        for upload in list(self._uploads.values()):
            self._bring(upload)

    def on_tick(self, now: float) -> None:
        """Ask again for what should have come by now."""
        self._now = now
        for download in list(self._downloads.values()):
            if now - download.moved > self._retry:
                self._restart_download(download)
        for upload in list(self._uploads.values()):
            if now - upload.moved > self._retry:
                self._restart_upload(upload)
