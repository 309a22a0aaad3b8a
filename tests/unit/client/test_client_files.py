"""Files on their way out of and into this machine, and what a task left."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest

import headway
from headway.blobs import Arriving, FileSource
from headway.outputs import Output, outputs_of
from headway_bus import copying
from headway_bus.errors import BusError
from headway_bus.records import Blob, File

CONTENT = bytes(range(256)) * 20


def blob_of(content: bytes) -> Blob:
    return Blob(hashlib.blake2b(content, digest_size=32).digest(), len(content))


# ------------------------------------------------------------------------------------------ out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    return path


def test_a_source_is_hashed_and_read_in_parts(path: Path) -> None:
    source = FileSource(path)
    assert source.blob == blob_of(CONTENT)
    assert source.read(100, 1000) == CONTENT[100:1100]


@pytest.mark.parametrize("change", [b"another, of another length", CONTENT[::-1]], ids=["length", "content"])
def test_a_source_that_is_changed_while_it_is_sent_is_an_error_with_its_name(path: Path, change: bytes) -> None:
    source = FileSource(path)
    path.write_bytes(change)
    os.utime(path, (1, 1))
    with pytest.raises(headway.BundleError, match=r"data\.bin was changed while it was sent"):
        source.read(0, 1000)


def test_a_source_that_vanishes_is_an_error_with_its_name(path: Path) -> None:
    source = FileSource(path)
    path.unlink()
    with pytest.raises(headway.BundleError, match=r"data\.bin vanished while it was sent"):
        source.read(0, 1000)
    with pytest.raises(headway.BundleError, match=r"data\.bin cannot be read: No such file"):
        FileSource(path)


# ------------------------------------------------------------------------------------------ in


def test_a_file_is_in_its_place_when_it_is_whole_and_right(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    arriving = Arriving(blob_of(CONTENT), target)
    arriving.add(CONTENT[:1000])
    assert not target.exists()
    arriving.add(CONTENT[1000:])
    arriving.finish()
    arriving.close()
    assert target.read_bytes() == CONTENT and [each.name for each in target.parent.iterdir()] == ["target"]


def test_what_came_before_a_cut_is_not_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "target"
    first = Arriving(blob_of(CONTENT), target)
    first.add(CONTENT[:1000])
    first.close()
    second = Arriving(blob_of(CONTENT), target)
    assert second.offset == 1000
    second.add(CONTENT[1000:])
    second.finish()
    second.close()
    assert target.read_bytes() == CONTENT
    other = Arriving(blob_of(b"other"), target)
    assert other.offset == 0, "what has come of another file is no part of this one"
    other.close()


def test_what_arrives_damaged_is_thrown_away(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"earlier")
    arriving = Arriving(blob_of(CONTENT), target)
    arriving.add(b"!" + CONTENT[1:])
    with pytest.raises(BusError, match=f"target: {len(CONTENT)} bytes arrived damaged"):
        arriving.finish()
    arriving.close()
    assert target.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [target]


def test_a_disk_that_fills_up_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    arriving = Arriving(blob_of(CONTENT), tmp_path / "target")
    arriving.add(CONTENT[:1000])
    monkeypatch.setattr(copying, "write_all", full)
    with pytest.raises(OSError, match="No space left"):
        arriving.add(CONTENT[1000:])
    arriving.close()
    assert not list(tmp_path.iterdir())


def test_what_cannot_fit_is_refused_before_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 30))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="are free on the disk of"):
        Arriving(Blob(b"h" * 32, 10 << 30), tmp_path / "target")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ what a task left


def test_outputs_are_those_in_the_value_and_those_beside_it() -> None:
    blob = Blob(b"h" * 32, 10 << 30)
    value = {"exit_code": 0, "outputs": {"b": b"small"}}
    assert outputs_of(value, [File("a/large", blob)]) == {
        "a/large": Output("a/large", 10 << 30, blob),
        "b": Output("b", 5, b"small"),
    }
    assert outputs_of(None, [File("", blob)]) == {"": Output("", 10 << 30, blob)}
    assert outputs_of(b"12", []) == {"": Output("", 2, b"12")}
    assert outputs_of({"outputs": [1]}, []) == outputs_of({"outputs": {"a": 1}}, []) == {}
    assert outputs_of(42, []) == outputs_of({"exit_code": 0}, []) == {}
