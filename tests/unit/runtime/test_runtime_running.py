"""Where a large result lies when its attempt counts as ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headway_bus.ids import TaskId
from headway_bus.payloads import encode_call
from headway_bus.records import AttemptEnd, Blob, Kind
from headway_runtime.orders import ChildSettings, ChildSpec
from headway_runtime.running import Runner

SPEC = ChildSpec(1, Kind.CALL, "builtins:bytes", "", "", False, 0, 0)
SIZE = 5_000


def run(blobs: Path, *, durable: bool) -> Path:
    """Run a call whose result is a large value; where that lies."""
    settings = ChildSettings([], {}, str(blobs), 1 << 20, 100, 1_000, durable=durable)
    record, frame = Runner(settings).run(SPEC, TaskId(bytes(16)), 1, encode_call([SIZE], {}))
    assert record.end is AttemptEnd.SUCCEEDED and frame is None and isinstance(record.result, Blob)
    path = blobs / record.result.hash.hex()
    assert path.stat().st_size == record.result.size > SIZE
    return path


def test_a_durable_result_is_on_the_disk_before_its_end_is_told(tmp_path: Path, synced: list[str]) -> None:
    path = run(tmp_path, durable=True)
    assert synced == [str(path), str(tmp_path)]


def test_without_need_nothing_waits_for_the_disk(tmp_path: Path, synced: list[str]) -> None:
    run(tmp_path, durable=False)
    assert not synced


@pytest.mark.parametrize("left", [0, 100])
def test_what_a_power_cut_left_of_the_same_value_is_written_anew(tmp_path: Path, left: int) -> None:
    path = run(tmp_path, durable=False)
    os.truncate(path, left)
    assert run(tmp_path, durable=False) == path


def test_a_result_that_is_a_pipe_or_a_device_is_refused_and_not_read(tmp_path: Path) -> None:
    """Reading it might never end."""
    os.mkfifo(tmp_path / "pipe")
    spec = ChildSpec(1, Kind.CALL, "headway_bus.file_result:FileResult", "", "", False, 0, 0)
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        settings = ChildSettings([], {}, str(tmp_path), 1 << 20, 100, 1_000)
        record, _ = Runner(settings).run(spec, TaskId(bytes(16)), 1, encode_call([str(path)], {}))
        assert record.end is AttemptEnd.FAILED and record.error is not None
        assert f"the file '{path}' cannot be kept as the result" in record.error.message
