"""GPUs by index: an attempt sees its own and no other, whichever kind it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import headway

SEES = "import os\nprint(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))\n"

MODULE = """
import os, pathlib, time

def sees(folder, name):
    place = pathlib.Path(folder)
    (place / name).touch()
    while len(list(place.iterdir())) < 2:  # until the other runs as well: then each must have a GPU of its own
        time.sleep(0.01)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")

def look():
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")
"""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> headway.Client:
    (tmp_path / "gpu_work.py").write_text(MODULE)
    monkeypatch.setenv("HEADWAY_RUNTIME_GPUS", '["7", "9"]')
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with headway.local(slots=2, path=[tmp_path]) as found:
        yield found


def test_each_attempt_sees_its_own_gpu(bus: headway.Client, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    pair = bus.options(gpu=1).map("gpu_work:sees", [str(meeting)] * 2, ["a", "b"])
    assert sorted(task.result(30) for task in pair) == ["7", "9"]
    assert bus.submit("gpu_work:look").result(30) == "all", "an attempt after it does not inherit the GPU"
    assert bus.options(gpu=2).submit("gpu_work:look").result(30) == "7,9"


def test_a_command_and_a_script_see_theirs(bus: headway.Client, tmp_path: Path) -> None:
    line = bus.options(gpu=1).command('echo "$CUDA_VISIBLE_DEVICES"')
    line.result(30)
    (tmp_path / "sees.py").write_text(SEES)
    script = bus.options(gpu=1).script(tmp_path / "sees.py")
    script.result(30)
    assert [record.text for task in (line, script) for record in task.logs()] == ["7", "7"]


def test_more_gpus_than_there_are_wait_and_say_so(bus: headway.Client) -> None:
    task = bus.options(gpu=3).submit("gpu_work:look")
    assert "gpu" in str(task.explain())
    task.cancel()
