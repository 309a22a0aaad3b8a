"""Parts of blobs beside the event loop: in order, and nobody waits for a large one that is read again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from headway_bus import copying
from headway_controller.blob_threads import BlobThreads
from headway_controller.store import BlobFolder, blob_of
from headway_controller.store import blobs as blobs_module

LARGE, SMALL = bytes(range(256)) * 40, b"another"


def test_nobody_waits_for_a_large_one_that_an_earlier_process_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "SYNC_BYTES", 1_000)
    large, small = blob_of(LARGE), blob_of(SMALL)
    BlobFolder(tmp_path).put_part(large, 0, LARGE[:5_000])
    is_reading, may_go_on, hash_of = threading.Event(), threading.Event(), copying.hash_of

    def read_slowly(path: Path) -> tuple[bytes, int]:
        is_reading.set()
        assert may_go_on.wait(20)
        return hash_of(path)

    monkeypatch.setattr(copying, "hash_of", read_slowly)

    async def check() -> None:
        threads = BlobThreads(BlobFolder(tmp_path))
        ending = asyncio.create_task(threads.put(large, 5_000, LARGE[5_000:]))
        assert await asyncio.to_thread(is_reading.wait, 20)
        asking = asyncio.create_task(threads.put(large, 0, b""))
        assert await asyncio.wait_for(threads.put(small, 0, SMALL), 20) == small.size
        assert await asyncio.wait_for(threads.get(small, 0, 100), 20) == SMALL
        assert not ending.done() and not asking.done()
        may_go_on.set()
        assert await ending == await asking == large.size
        assert await threads.get(large, 0, large.size) == LARGE
        assert not threads._ending
        threads.close()

    asyncio.run(check())


def test_one_that_comes_now_is_hashed_as_it_comes_and_written_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "SYNC_BYTES", 1_000)
    monkeypatch.setattr(copying, "hash_of", lambda _: pytest.fail("it was read again"))
    large = blob_of(LARGE)

    async def check() -> None:
        threads = BlobThreads(BlobFolder(tmp_path))
        parts = [threads.put(large, at, LARGE[at : at + 1_000]) for at in range(0, large.size, 1_000)]
        first, *others = parts
        assert await first == 1_000  # as a sender does: the first one alone
        answers = await asyncio.gather(*others[:-1])
        assert answers == sorted(answers) and await others[-1] == large.size
        threads.close()

    asyncio.run(check())
