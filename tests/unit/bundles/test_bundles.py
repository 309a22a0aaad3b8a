"""Bundles on the client's side: what is taken in from files, folders, zips and repositories, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from headway.bundle import check_path, from_folder, opened, unpack
from headway_bus.errors import BundleError, PullFailed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "work"
    (home / "data").mkdir(parents=True)
    (home / "train.py").write_text("print('läuft')")
    (home / "data" / "rows.csv").write_bytes(b"1,2\n")
    (home / "__pycache__").mkdir()
    (home / "__pycache__" / "train.pyc").write_bytes(b"x")
    return home


def test_a_folder_is_its_files_by_hash_and_an_entry(folder: Path) -> None:
    bundle = from_folder(folder)
    assert bundle.entry == "train.py"
    assert [file.path for file in bundle.files] == ["data/rows.csv", "train.py"]
    rows = bundle.files[0]
    assert (rows.size, rows.hash) == (4, hashlib.blake2b(b"1,2\n", digest_size=32).digest())
    assert from_folder(folder).version == bundle.version
    (folder / "data" / "rows.csv").write_bytes(b"1,3\n")
    assert from_folder(folder).version != bundle.version


def test_its_own_manifest_is_true_of_it(folder: Path) -> None:
    manifest = from_folder(folder).manifest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert from_folder(folder).entry == "train.py"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": 5}, "has the size 5; it has 4"),
        ({"hash": "00" * 32}, "has the hash 00"),
    ],
)
def test_a_manifest_that_lies_is_refused(folder: Path, change: dict[str, object], word: str) -> None:
    manifest = from_folder(folder).manifest()
    manifest["files"]["data/rows.csv"] |= change
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=word):
        from_folder(folder)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "cannot be read"),
        ("[]", "expected an object"),
        ('{"files": []}', "expected an object of paths"),
        ('{"files": {"../x": {}}}', "without '..'"),
        ('{"files": {"gone": {}}}', "not in the bundle"),
        ('{"files": {"train.py": 1}}', "size and hash"),
        ('{"entry": "gone.py"}', "not among its files"),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str, word: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=word):
        from_folder(folder)


def test_links_and_pipes_do_not_travel(folder: Path) -> None:
    (folder / "secret").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="secret is a link to /etc/passwd"):
        from_folder(folder)
    (folder / "secret").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(BundleError, match="pipe is neither"):
        from_folder(folder)


@pytest.mark.parametrize("path", ["", "/x", "../x", "a/../../x", "a\\..\\x", "C:x", "a\0b"])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    with pytest.raises(BundleError, match="does not stay within"):
        check_path(path)


def test_which_script_is_the_entry(folder: Path) -> None:
    (folder / "other.py").write_text("")
    with pytest.raises(BundleError, match="no entry"):
        from_folder(folder)
    assert from_folder(folder, "other.py").entry == "other.py"
    (folder / "main.py").write_text("")
    assert from_folder(folder).entry == "main.py"


def test_a_zip_is_its_files(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "work.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(folder / "train.py", "train.py")
        packed.writestr("data/rows.csv", b"1,2\n")
    with opened(archive) as bundle:
        assert bundle.entry == "train.py" and [file.path for file in bundle.files] == ["data/rows.csv", "train.py"]
        assert bundle.files[1].source.path.read_text() == "print('läuft')"
        place = bundle.files[1].source.path
    assert not place.exists()


@pytest.mark.parametrize("name", ["../train.py", "/train.py", "a/../../train.py"])
def test_a_zip_that_leads_out_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "inner" / "bad.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(name, "print()")
    with pytest.raises(BundleError, match="does not stay within"), opened(archive):
        pass
    assert not (tmp_path / "train.py").exists()


def test_a_zip_with_a_link_or_without_sense_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "link.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(BundleError, match="link is a link"), opened(archive):
        pass
    whole = archive.read_bytes()
    archive.write_bytes(whole[:20] + b"\0\0\0\0" + whole[24:])
    with pytest.raises(BundleError), opened(archive, "link"):
        pass


def test_a_zip_that_is_damaged_anywhere_is_whole_or_refused(tmp_path: Path) -> None:
    archive = tmp_path / "work.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("main.py", "print(1)\n" * 40)
        packed.writestr("data/größe.csv", b"1,2\n" * 40)
    whole = archive.read_bytes()
    refused = 0
    for at in range(len(whole)):
        for changed in (whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :], whole[:at] + whole[at + 9 :]):
            archive.write_bytes(changed)
            folder = tmp_path / "out"
            try:
                unpack(archive, folder)
            except BundleError:
                refused += 1
            shutil.rmtree(folder, ignore_errors=True)
    assert refused > len(whole)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["main.py", "main.py"], "main.py is in it twice"),
        (["a", "a/b", "main.py"], "a is a file in it and a folder as well"),
        (["a/b", "a", "main.py"], "a is a file in it and a folder as well"),
        (["a", "a/", "main.py"], "a is a file in it and a folder as well"),
        (["main.py", "./main.py"], "cannot be unpacked"),
        (["x" * 300 + "/y", "main.py"], "cannot be unpacked"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_whose_names_contradict_each_other_is_refused(tmp_path: Path, names: list[str], words: str) -> None:
    archive = tmp_path / "odd.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in names:
            packed.writestr(name, "")
    with pytest.raises(BundleError, match=words), opened(archive):
        pass


def test_one_file_is_a_bundle_and_nothing_is_none(folder: Path) -> None:
    with opened(folder / "train.py") as bundle:
        assert bundle.entry == "train.py" and len(bundle.files) == 1
    with pytest.raises(BundleError, match="no such file"), opened(folder / "gone"):
        pass


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_repository_at_a_commit(folder: Path) -> None:
    git(folder, "init")
    git(folder, "add", "train.py", "data")
    git(folder, "commit", "-m", "one")
    first = git(folder, "rev-parse", "HEAD")
    (folder / "train.py").write_text("print('two')")
    git(folder, "commit", "-am", "two")
    with opened(f"file://{folder}", commit=first) as bundle:
        sources = {file.path: file.source.path.read_text() for file in bundle.files}
    assert sources == {"train.py": "print('läuft')", "data/rows.csv": "1,2\n"}
    with pytest.raises(PullFailed, match="pull_failed") as caught, opened(f"file://{folder}", commit="0" * 40):
        pass
    assert caught.value.log
    with pytest.raises(PullFailed), opened(f"file://{folder}/nowhere", commit=first):
        pass
    with pytest.raises(BundleError, match="dash"), opened("--upload-pack=x", commit=first):
        pass


@pytest.mark.parametrize("name", [b"caf\xe9.csv", b"12:30.csv", b"back\\slash.csv"])
def test_names_that_not_every_system_has_are_refused_with_the_name(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "main.py").write_text("print(1)")
    (tmp_path / os.fsdecode(name)).write_text("1")
    with pytest.raises(BundleError, match=r"^the (name|path) '.*csv' (is not UTF-8|does not stay within the bundle)"):
        from_folder(tmp_path)
