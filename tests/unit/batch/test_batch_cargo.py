"""What a machine gets, what it may answer, and how its shell is spoken to."""

from __future__ import annotations

import asyncio
import io
import json
import platform
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from headway.batch.config import Connection, Machine
from headway.batch.remote import cargo
from headway.batch.remote.errors import MachineError, MachineRefused
from headway.batch.remote.frames import frame, inner_path, read_frame
from headway.batch.remote.jobs import working_word
from headway.batch.remote.machine import SIZE_CHARACTERS, bootstrap, tar_parts
from headway.batch.remote.machines import names_of


def hello(**fields: Any) -> dict[str, Any]:
    here = {
        "python": list(sys.version_info[:3]),
        "abi": str(sysconfig.get_config_var("SOABI")),
        "system": [platform.system(), platform.machine(), *platform.libc_ver()],
        "missing": [],
    }
    return here | fields


def names_in(data: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return set(tar.getnames())


def test_headway_itself_goes_along() -> None:
    names = names_in(cargo.own_code())
    assert {"headway/hyperctl.py", "headway_bus/errors.py", "headway_runtime/__main__.py"} <= names
    assert not any("__pycache__" in name or name.startswith("headway_broker") for name in names)


def test_packages_are_lent_where_they_fit_and_named_where_they_do_not() -> None:
    assert cargo.missing_packages(hello()) == b""
    assert any(name.startswith("msgspec/") for name in names_in(cargo.missing_packages(hello(missing=["msgspec"]))))
    for other in ({"abi": "cpython-399"}, {"system": ["Darwin", "arm64", "", ""]}):
        with pytest.raises(MachineRefused, match=r"lacks pyzmq, msgspec(.|\n)*python3 -m pip install pyzmq msgspec"):
            cargo.missing_packages(hello(missing=["zmq", "msgspec"], **other))
        assert cargo.missing_packages(hello(**other)) == b""
    with pytest.raises(MachineRefused, match=r"its Python is 3\.9\.2, expected 3\.11"):
        cargo.missing_packages(hello(python=[3, 9, 2]))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "", ".", "a\0b", None, 3])
def test_a_machine_cannot_write_outside_of_the_jobs_folder(path: Any) -> None:
    with pytest.raises(MachineError, match="outside"):
        inner_path(path)


def test_a_machine_writes_inside_of_it() -> None:
    assert inner_path("out/model.bin") == PurePosixPath("out/model.bin")


def read(data: bytes) -> tuple[dict[str, Any], bytes]:
    async def work() -> tuple[dict[str, Any], bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_frame(reader)

    return asyncio.run(work())


def test_frames_arrive_as_they_were_sent_and_nonsense_is_told() -> None:
    assert read(frame("data", b"abc", job="ü"))[0]["job"] == "ü"
    assert read(frame("data", b"abc"))[1] == b"abc"
    with pytest.raises(MachineError, match="start-up file of its shell"):
        read(b"Welcome to host1!\n")
    for header in (b"[]", b"{}", b"{", b'{"op":1,"size":0}', b'{"op":"x","size":-1}', b'{"op":"x","size":99999999999}'):
        with pytest.raises(MachineError, match="no answer of headway"):
            read(len(header).to_bytes(4, "big") + header)
    with pytest.raises(asyncio.IncompleteReadError):
        read(frame("data", b"abc")[:-1])


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_the_first_line_reads_the_program_and_no_byte_more(shell: str, tmp_path: Path) -> None:
    program = b"import os, sys; print(os.read(0, 100), sys.argv)"
    said = f"{len(program):>{SIZE_CHARACTERS}}".encode() + program + b"what follows"
    line = bootstrap(sys.executable)
    assert "\n" not in line
    done = subprocess.run([shell, "-c", line], input=said, capture_output=True, check=True)
    assert done.stdout == b"b'what follows' ['-c']\n"
    cut = subprocess.run([shell, "-c", line], input=said[:20], capture_output=True)
    assert cut.returncode == 1


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (None, "/root/jobs/j"),
        ("/a b", "'/a b'"),
        ("~", '"$HOME"'),
        ("~/x y", "\"$HOME\"/'x y'"),
        ("work/$X", "\"$HOME\"/'work/$X'"),
    ],
)
def test_the_working_folder_there(given: str | None, word: str) -> None:
    assert working_word(given, PurePosixPath("/root/jobs/j")) == word


def test_machines_of_one_name_get_numbers() -> None:
    machines = [Machine(connection=Connection(hostname=name)) for name in ("a", "b b", "a", "a")]
    assert list(names_of(machines)) == ["a", "b-b", "a-2", "a-3"]


def test_a_folder_is_packed_part_by_part_and_an_error_is_not_swallowed(tmp_path: Path) -> None:
    (tmp_path / "folder" / "empty").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_bytes(b"x" * 1_000_000)

    async def packed(path: Path) -> list[bytes]:
        return [part async for part in tar_parts(path)]

    parts = asyncio.run(packed(tmp_path / "folder"))
    assert len(parts) > 3
    assert {"folder/empty", "folder/file"} <= names_in(b"".join(parts))
    with pytest.raises(FileNotFoundError):
        asyncio.run(packed(tmp_path / "none"))


def test_what_is_said_is_json() -> None:
    data = frame("put", b"\0", path='a"b')
    assert json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")]) == {"op": "put", "size": 1, "path": 'a"b'}
