"""Which files of an attempt's folder become part of its result, and in what form."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from headway_bus import copying, payloads
from headway_bus.records import Blob
from headway_runtime import outputs as outputs_module
from headway_runtime.files import WorkFolder
from headway_runtime.outputs import INLINE_BYTES, SMALL_BYTES, collect

MOST = 1 << 36


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    folder = WorkFolder(tmp_path / "work")
    folder.blobs.mkdir(parents=True)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "attempt"
    (home / "model" / "deep").mkdir(parents=True)
    (home / "model" / "w.txt").write_bytes(b"42")
    (home / "model" / "deep" / "x").write_bytes(b"")
    (home / "notes.txt").write_bytes(b"n")
    return home


def outputs(home: Path, work: WorkFolder, *patterns: str) -> dict[str, bytes]:
    found, files = collect(str(home), patterns, work, MOST)
    assert not files
    data = work.blob_path(found).read_bytes() if isinstance(found, Blob) else found
    value = payloads.decode(data)
    assert value["exit_code"] == 0
    result: dict[str, bytes] = value["outputs"]
    return result


def test_files_that_match_and_folders_whole(home: Path, work: WorkFolder) -> None:
    assert outputs(home, work, "*.txt") == {"notes.txt": b"n"}
    assert outputs(home, work, "model") == {"model/w.txt": b"42", "model/deep/x": b""}
    assert outputs(home, work, "model/*", "notes.txt") == {"model/w.txt": b"42", "model/deep/x": b"", "notes.txt": b"n"}
    assert outputs(home, work, "nothing/*") == {}


def test_links_are_passed_over_wherever_they_stand(home: Path, work: WorkFolder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("s")
    (home / "model" / "link").symlink_to(tmp_path / "outside" / "secret")
    (home / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(home / "model" / "pipe")
    assert outputs(home, work, "model/*", "folder", "folder/*") == {"model/w.txt": b"42", "model/deep/x": b""}


@pytest.mark.parametrize("most_in_value", [0, 1 << 20], ids=["beside the value", "in the value"])
def test_a_name_that_no_message_can_carry_is_refused(
    home: Path, work: WorkFolder, most_in_value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs_module, "MOST_IN_VALUE", most_in_value)
    (home / os.fsdecode(b"caf\xe9.bin")).write_bytes(bytes(SMALL_BYTES + 1))
    with pytest.raises(ValueError, match=r"'caf\\udce9.bin' has a name that is not UTF-8"):
        collect(str(home), ["*.bin"], work, MOST)


def test_names_as_odd_as_a_disk_takes_them(home: Path, work: WorkFolder) -> None:
    names = ["12:30.log", "two\nlines", "back\\slash", "试" * 85, "-rf", " "]
    for name in names:
        (home / "model" / name).write_bytes(name.encode())
    found = outputs(home, work, "model/*")
    assert {f"model/{name}": name.encode() for name in names}.items() <= found.items()


def test_a_large_one_is_written_and_named_by_its_hash(home: Path, work: WorkFolder) -> None:
    large = os.urandom(INLINE_BYTES + 1)
    (home / "large.bin").write_bytes(large)
    found, _ = collect(str(home), ["*.bin"], work, MOST)
    assert isinstance(found, Blob) and work.has_blob(found)
    assert outputs(home, work, "*.bin", "*.txt") == {"large.bin": large, "notes.txt": b"n"}
    assert not list(work.blobs.glob("*.part"))


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*", "a/../../b"])
def test_patterns_that_lead_out_are_refused(home: Path, work: WorkFolder, pattern: str) -> None:
    with pytest.raises(ValueError, match="does not stay within"):
        collect(str(home), [pattern], work, MOST)


def test_where_folders_are_kept_a_large_one_is_on_the_disk_before_anybody_hears_of_it(
    home: Path, tmp_path: Path, synced: list[str]
) -> None:
    kept = WorkFolder(tmp_path / "kept", keep=True)
    kept.blobs.mkdir(parents=True)
    (home / "large.bin").write_bytes(bytes(INLINE_BYTES + 1))
    found, _ = collect(str(home), ["*.bin"], kept, MOST)
    assert isinstance(found, Blob)
    assert synced == [str(kept.blob_path(found)), str(kept.blobs)]


# ------------------------------------------------------------------------------------------ more than a value holds


@pytest.mark.parametrize("take", [False, True], ids=["from a folder of others", "from its own"])
def test_what_is_more_than_a_value_may_hold_stays_files(
    home: Path, work: WorkFolder, take: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs_module, "MOST_IN_VALUE", 100_000)
    large, other = os.urandom(90_000), os.urandom(SMALL_BYTES + 1)
    (home / "large.bin").write_bytes(large)
    (home / "model" / "other.bin").write_bytes(other)
    result, files = collect(str(home), ["*"], work, MOST, take=take)
    assert isinstance(result, bytes)
    assert payloads.decode(result) == {
        "exit_code": 0,
        "outputs": {"notes.txt": b"n", "model/w.txt": b"42", "model/deep/x": b""},
    }
    assert [file.path for file in files] == ["large.bin", "model/other.bin"]
    assert [work.blob_path(file.content).read_bytes() for file in files] == [large, other]
    assert [file.content.size for file in files] == [len(large), len(other)]
    assert (home / "large.bin").exists() is not take and not list(work.blobs.glob("*.part"))


def test_a_file_with_another_name_elsewhere_is_copied_and_not_moved(
    home: Path, work: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the other name may change it later, and with it what was named by its hash."""
    monkeypatch.setattr(outputs_module, "MOST_IN_VALUE", 0)
    (home / "large.bin").write_bytes(bytes(SMALL_BYTES + 1))
    (tmp_path / "mine").hardlink_to(home / "large.bin")
    _, (file,) = collect(str(home), ["large.bin"], work, MOST, take=True)
    (tmp_path / "mine").write_bytes(b"changed")
    assert work.blob_path(file.content).read_bytes() == bytes(SMALL_BYTES + 1)


def test_a_file_beyond_the_limit_is_refused_with_name_size_and_setting(home: Path, work: WorkFolder) -> None:
    with pytest.raises(ValueError, match=r"'model/w.txt' has 2 bytes; one file may have 1 \(\[bus\] file_limit"):
        collect(str(home), ["model/*.txt"], work, 1)


def test_a_full_disk_leaves_nothing_half_copied(home: Path, work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs_module, "MOST_IN_VALUE", 0)
    (home / "large.bin").write_bytes(bytes(SMALL_BYTES + 1))
    monkeypatch.setattr(copying, "write_all", full)
    with pytest.raises(OSError, match="No space left"):
        collect(str(home), ["large.bin"], work, MOST)
    assert not list(work.blobs.iterdir()) and (home / "large.bin").exists()


def test_more_files_than_one_report_can_name_are_refused(
    home: Path, work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs_module, "MOST_IN_VALUE", 0)
    monkeypatch.setattr(outputs_module, "SMALL_BYTES", 0)
    monkeypatch.setattr(outputs_module, "MOST_NAMED", 100)
    with pytest.raises(ValueError, match="2 large files match; pack them into fewer"):
        collect(str(home), ["*.txt", "model/*.txt"], work, MOST)
