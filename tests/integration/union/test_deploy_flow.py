"""C-38 and C-40 by the command line: a script on every edge, its output deployed to edges, and a script that uses it there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from union_plant import UnionPlant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[UnionPlant]:
    plant = UnionPlant(tmp_path)
    plant.environment["HEADWAY_DEPLOYED"] = str(tmp_path / "deployed")
    try:
        plant.start("e1", kind="edge", region="north")
        plant.start("e2", kind="edge", region="south")
        yield plant
    finally:
        plant.close()


def test_a_union_of_a_script_and_its_result_deployed(plant: UnionPlant) -> None:
    (plant.folder / "train.py").write_text("open('weights.txt', 'w').write('42'); print('done')")
    (plant.folder / "predict.py").write_text("import headway; print('predicts', headway.deployed('best').read_text())")
    union = plant.cli("script", "train.py", "--edges", "kind=edge", "--job", "all").strip()
    plant.cli("union", union)
    trained = plant.cli("bundle", "train.py", "--output", "*.txt", "--runtime", "e1").strip()
    plant.cli("logs", "-f", trained)
    assert plant.cli("outputs", trained, "here").split() == ["PATH", "SIZE", "weights.txt", "2", "B"]
    assert (plant.folder / "here" / "weights.txt").read_text() == "42"
    words = ["deploy", trained, "weights.txt", "--to", "region=south", "--as", "best", "--run", "predict.py", "--json"]
    deployed = json.loads(plant.cli(*words))
    assert [(each["edge"], each["status"], each["size"]) for each in deployed["edges"]] == [("e2", "succeeded", 2)]
    assert Path(deployed["edges"][0]["path"]).read_text() == "42"
    plant.cli("logs", "-f", deployed["script"])
    shown = json.loads(plant.cli("union", deployed["script"], "--json"))
    (part, status) = shown["edges"]["e2"]
    assert (shown["status"], status) == ("succeeded", "succeeded")
    assert plant.cli("logs", part).strip() == "predicts 42"
    finished = json.loads(plant.cli("union", union, "--json"))
    assert sorted(finished["edges"]) == ["e1", "e2"] and finished["missing"] == []
    assert "left no 'gone'" in plant.cli("deploy", trained, "gone", "--to", "*", code=1)
    assert "character 3" in plant.cli("deploy", trained, "weights.txt", "--to", "a=", code=2)
