"""Bundles: a script with everything that it needs, from a file, a folder, a zip, or a git repository at a commit.

A bundle is files by their hash, and an entry: the script that is run. A folder may carry a manifest, ``bundle.json``::

    {"entry": "train.py", "files": {"train.py": {"size": 120, "hash": "<BLAKE2b-256, hex>"}, …}}

``entry`` spares the argument; ``files`` are checked against what is there, and a manifest that lies is refused. Paths stay
inside, and links are refused: what a link leads to on this machine was not meant to travel.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import stat
import subprocess
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from headway.blobs import FileSource
from headway_bus.copying import HASH_BYTES, READ_BYTES, stays_within
from headway_bus.errors import BundleError, PullFailed

MANIFEST = "bundle.json"
MOST_FILES = 100_000
MOST_UNPACKED = 64 * 1024**3
"""Bytes that a zip may unpack to; beyond it, it is taken for one that was made to fill a disk."""

DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
)
"""What reading a zip raises that is damaged, encrypted or packed in a way that is not known here, or writing its files."""

PULL_PATIENCE = 600.0
SKIPPED = frozenset({".git", "__pycache__"})


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file: where it will lie, and what it is here."""

    path: str
    source: FileSource

    @property
    def size(self) -> int:
        return self.source.blob.size

    @property
    def hash(self) -> bytes:
        """BLAKE2b-256."""
        return self.source.blob.hash


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files and an entry. ``version``: the first characters of a hash over all paths and contents."""

    entry: str
    files: tuple[BundleFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def version(self) -> str:
        digest = hashlib.blake2b(self.entry.encode(), digest_size=HASH_BYTES)
        for file in self.files:
            digest.update(b"\0" + file.path.encode() + b"\0" + file.hash)
        return digest.hexdigest()[:16]

    def manifest(self) -> dict[str, Any]:
        """What a ``bundle.json`` of it says."""
        files = {file.path: {"size": file.size, "hash": file.hash.hex()} for file in self.files}
        return {"entry": self.entry, "files": files}


@contextmanager
def opened(source: str | Path, entry: str = "", commit: str = "") -> Iterator[Bundle]:
    """The bundle in a file, a folder, a zip or (with ``commit``) a git repository, for as long as its files are needed.

    Raises BundleError for a bad bundle, with the file and what is wrong with it; PullFailed with what git said.
    """
    with tempfile.TemporaryDirectory(prefix="headway-bundle-") as temporary:
        yield _bundle_of(source, entry, commit, Path(temporary))


def _bundle_of(source: str | Path, entry: str, commit: str, temporary: Path) -> Bundle:
    if commit:
        pull(str(source), commit, temporary)
        return from_folder(temporary, entry)
    path = Path(source)
    if path.is_dir():
        return from_folder(path, entry)
    if not path.is_file():
        raise BundleError(f"{source}: no such file or folder (a git repository needs its commit as well)")
    if zipfile.is_zipfile(path):
        unpack(path, temporary)
        return from_folder(temporary, entry)
    if entry and entry != path.name:
        raise BundleError(f"{source} is one file, and the entry {entry!r} is not its name")
    return Bundle(path.name, (_file(path.name, path),))


def from_folder(folder: Path, entry: str = "") -> Bundle:
    """All files of the folder but ``.git`` and ``__pycache__``. Raises BundleError."""
    files: list[BundleFile] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if SKIPPED.intersection(name.parts):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise BundleError(f"{name} is a link to {path.readlink()}; put the file itself into the bundle")
        if stat.S_ISREG(mode):
            files.append(_file(name.as_posix(), path))
        elif not stat.S_ISDIR(mode):
            raise BundleError(f"{name} is neither a file nor a folder (a socket, a pipe, a device)")
        if len(files) > MOST_FILES:
            raise BundleError(f"{folder}: more than {MOST_FILES} files; pack the data into fewer")
    manifest = _read_manifest(folder)
    _check_manifest(manifest, files)
    entry = entry or manifest.get("entry", "")
    names = [file.path for file in files]
    if not entry:
        scripts = [name for name in names if name.endswith(".py") and "/" not in name]
        entry = scripts[0] if len(scripts) == 1 else "main.py" if "main.py" in scripts else ""
    if entry not in names:
        what = f"the entry {entry!r} is not among its files" if entry else "no entry: say which script is to be run"
        raise BundleError(f"{folder.name}: {what}; there are {', '.join(names[:10]) or 'none'}")
    return Bundle(entry, tuple(files))


def _file(name: str, path: Path) -> BundleFile:
    check_path(name)
    return BundleFile(name, FileSource(path))


def check_path(name: str) -> None:
    """Raises BundleError for a path that does not stay in the bundle."""
    if not stays_within(name):
        raise BundleError(
            f"the path {name!r} does not stay within the bundle; expected a relative path without '..', ':' and '\\'"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BundleError(f"the name {name!r} is not UTF-8; give the file another") from None


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise BundleError(f"{MANIFEST} cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("entry", ""), str):
        raise BundleError(f"{MANIFEST}: expected an object with 'entry', a path, and 'files', an object")
    return found


def _check_manifest(manifest: dict[str, Any], files: list[BundleFile]) -> None:
    claims = manifest.get("files", {})
    if not isinstance(claims, dict):
        raise BundleError(f"{MANIFEST}: 'files' is {type(claims).__name__}; expected an object of paths")
    there = {file.path: file for file in files}
    for name, claim in claims.items():
        check_path(name)
        if name not in there:
            raise BundleError(f"{MANIFEST} names {name!r}, which is not in the bundle")
        if not isinstance(claim, dict):
            raise BundleError(f"{MANIFEST}: of {name!r} expected an object with size and hash")
        file = there[name]
        for field, actual in (("size", file.size), ("hash", file.hash.hex())):
            if field in claim and claim[field] != actual:
                raise BundleError(f"{MANIFEST} says that {name!r} has the {field} {claim[field]}; it has {actual}")


def unpack(archive: Path, folder: Path) -> None:
    """A zip into an empty folder. Raises BundleError for paths that lead out of it, for links, and for one without end."""
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            if len(entries) > MOST_FILES or sum(each.file_size for each in entries) > MOST_UNPACKED:
                raise BundleError(f"{archive}: unpacks to more than {MOST_FILES} files or {MOST_UNPACKED} bytes")
            _check_names(archive, entries)
            for each in entries:
                check_path(each.filename.rstrip("/") or each.filename)
                if stat.S_ISLNK(each.external_attr >> 16):
                    raise BundleError(f"{archive}: {each.filename} is a link; put the file itself into the bundle")
                if not each.is_dir():
                    _unpack_one(packed, each, folder / each.filename)
    except DAMAGED as error:
        raise BundleError(f"{archive}: cannot be unpacked: {error or type(error).__name__}") from None


def _check_names(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raises BundleError where two entries are of one name, or a file is a folder as well: which of them was meant?"""
    files = {each.filename for each in entries if not each.is_dir()}
    if len(files) < sum(not each.is_dir() for each in entries):
        twice = next(name for name, count in Counter(each.filename for each in entries).items() if count > 1)
        raise BundleError(f"{archive}: {twice} is in it twice; pack it anew")
    for each in entries:
        for above in PurePosixPath(each.filename).parents if not each.is_dir() else [PurePosixPath(each.filename)]:
            if str(above) in files:
                raise BundleError(f"{archive}: {above} is a file in it and a folder as well; pack it anew")


def _unpack_one(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(entry) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, READ_BYTES)


def pull(url: str, commit: str, folder: Path) -> None:
    """A git repository at a commit into an empty folder. Raises PullFailed with everything that git said."""
    if url.startswith("-") or commit.startswith("-"):
        raise BundleError(f"{url} at {commit}: neither may begin with a dash, which git takes for an option")
    log: list[str] = []
    # No hooks and no helpers of the repository's choice: "ext::" URLs would run a command of theirs.
    git = ["git", "-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null"]
    for words in (
        [*git, "clone", "--quiet", "--no-checkout", "--", url, str(folder)],
        [*git, "-C", str(folder), "checkout", "--quiet", "--detach", commit],
    ):
        try:
            done = subprocess.run(
                words,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PULL_PATIENCE,
            )
        except FileNotFoundError:
            raise PullFailed(f"{url} at {commit}: there is no git on this machine", "") from None
        except subprocess.TimeoutExpired:
            raise PullFailed(f"{url} at {commit}: git took more than {PULL_PATIENCE:g} s", "\n".join(log)) from None
        log.append((done.stdout + done.stderr).strip())
        if done.returncode != 0:
            text = "\n".join(filter(None, log))
            raise PullFailed(f"pull_failed: {url} at {commit}: git ended with {done.returncode}:\n{text}", text)
