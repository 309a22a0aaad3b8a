"""The flows that document 001 asks for, C-34 to C-41, by the library and by the command line: real processes, two edges."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from acceptance_shell import PATIENCE, Shell, make_shell, start_up
from flow_faces import CommandLine, Face, Library, Refusal, end

import headway

SETTINGS = """
[bus]
heartbeat = 0.5

[edge]
heartbeat = 0.5
plugins = ["shop_plugin"]
"""

PLUGIN = """
import headway

@headway.on_message
def take(value):
    headway.tell({"was": value})
    return ["taken", value]
"""

TRAIN = """
import json, pathlib, sys
for number in range(5):
    print("开始训练", number)
for number in range(5):
    print("测试训练错误的情况", number, file=sys.stderr)
rows = json.loads(pathlib.Path("config.json").read_text())["rows"]
values = pathlib.Path("data/rows.csv").read_text().split(",")[:rows]
pathlib.Path("model").mkdir()
pathlib.Path("model/weights.txt").write_text(str(sum(map(int, values))))
"""

HOLD = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, sys.argv[1])
while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.02)
child.kill()
"""

OWN = """
import os, pathlib
print("here is", pathlib.Path(os.environ["HEADWAY_EDGE_FILES"]).parent.name)  # each edge's own disk
"""

PREDICT = "import headway; print('predicts', headway.deployed('best').read_text())"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell with a bus, a runtime beside it, and two edges."""
    made = make_shell(tmp_path_factory.mktemp("flows") / "home")
    settings = made.home / ".config/headway/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(SETTINGS)
    (made.home / "shop_plugin.py").write_text(PLUGIN)
    running = start_up(made, "--slots", "2", "--state", made.home / "state")
    made.bus = running.url
    agents = []
    try:
        for name, region in (("e1", "north"), ("e2", "south")):
            words = ["--name", name, "--label", f"region={region}", "--spool", made.home / name, "--path", made.home]
            with (made.home / f"{name}.log").open("a") as log:
                agents.append(made.start("edge", *words, stdout=log, stderr=log))
        yield made
        for agent in agents:
            agent.terminate()
        assert [agent.wait(timeout=PATIENCE) for agent in agents] == [0, 0]
        assert running.interrupt() == 0, running.log.read_text()
    finally:
        made.end_all()
        for process in (running.process, *agents):
            process.wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def library(shell: Shell) -> Iterator[Library]:
    with headway.Client(shell.bus, timeout=30.0) as bus:
        for edge in ("e1", "e2"):
            assert bus.options(runtime=edge).command("true").result(PATIENCE) == 0
        yield Library(bus)


@pytest.fixture(params=["by the library", "by the command line"])
def face(request: pytest.FixtureRequest, library: Library, shell: Shell) -> Face:
    return library if request.param == "by the library" else CommandLine(shell)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a client sends: scripts, a configuration, a training set."""
    home = tmp_path / "work"
    (home / "data").mkdir(parents=True)
    for name, content in (("train.py", TRAIN), ("hold.py", HOLD), ("own.py", OWN), ("predict.py", PREDICT)):
        (home / name).write_text(content)
    (home / "config.json").write_text('{"rows": 3}')
    (home / "data" / "rows.csv").write_text("1,2,39,1000")
    return home


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Path]:
    """Whatever holds goes on when this file is there; afterwards it is."""
    yield tmp_path / "go"
    (tmp_path / "go").touch()


def first_line(face: Face, task: str) -> list[str]:
    """What a script says first; it runs then."""
    for record in face.records(task, follow=True):
        if record["stream"] == "stdout":
            return str(record["text"]).split()
    raise AssertionError(f"{task} has said nothing: {face.show(task)}")


def until_ended(face: Face, task: str) -> list[dict[str, Any]]:
    """All that it said; it has ended then."""
    return list(face.records(task, follow=True))


def lines(records: list[dict[str, Any]], stream: str) -> list[str]:
    return [each["text"] for each in records if each["stream"] == stream]


def is_gone(pid: str) -> bool:
    return not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def statuses(shown: dict[str, Any]) -> list[str]:
    return [step["status"] for step in shown["story"]]


def test_c34_run(face: Face, folder: Path) -> None:
    """C-34, C-A3: script, configuration and training set become a task; its output is kept line by line, UTF-8 whole."""
    task = face.run(folder, "train.py", name="train", runtime="e1", outputs="model/*")
    records = until_ended(face, task)
    assert lines(records, "stdout") == [f"开始训练 {number}" for number in range(5)]
    assert lines(records, "stderr") == [f"测试训练错误的情况 {number}" for number in range(5)]
    assert [each["sequence"] for each in records] == list(range(10))
    shown = face.show(task)
    assert (shown["status"], shown["runtime"], shown["name"]) == ("succeeded", "e1", "train")
    assert face.outputs(task) == {"model/weights.txt": b"42"}


def test_c34_a_run_that_fails_has_its_exit_code(face: Face, folder: Path) -> None:
    (folder / "bad.py").write_text(TRAIN + "\nsys.exit(3)")
    task = face.run(folder, "bad.py")
    assert len(until_ended(face, task)) == 10
    shown = face.show(task)
    assert (shown["status"], shown["error"]["reason"], shown["error"]["exit_code"]) == ("failed", "exit", 3)


def test_c35_information(face: Face, folder: Path, release: Path, request: pytest.FixtureRequest) -> None:
    """C-35: created, started, ended, modified, the length of the run, logs with their times, and all tasks by name."""
    name = f"informs-{request.node.callspec.id.replace(' ', '-')}"
    task = face.run(folder, "hold.py", "x", str(release), name=name)
    assert first_line(face, task)[2] == "x"
    shown = face.show(task)
    created, started = shown["submitted_seconds"], shown["started_seconds"]
    assert shown["status"] == "running" and shown["ended"] is None and shown["ran"] == 0
    assert created <= started <= shown["modified_seconds"]
    released = time.time()
    release.touch()
    records = until_ended(face, task)
    shown, after = face.show(task), time.time()
    assert shown["submitted_seconds"] == created <= shown["started_seconds"] < shown["ended_seconds"] <= after
    assert released <= shown["ended_seconds"]
    assert created <= records[0]["at_seconds"] <= released
    assert shown["modified_seconds"] == shown["ended_seconds"]
    assert released - records[0]["at_seconds"] <= shown["ran"] <= after - created
    assert statuses(shown) == ["submitted", "running", "succeeded"]
    (listed,) = face.listed(name)
    assert (listed["id"], listed["status"], listed["ran"]) == (task, "succeeded", shown["ran"])
    with pytest.raises(Refusal, match="no task 'zzzz'"):
        face.show("zzzz")


def test_c36_stop(face: Face, folder: Path, release: Path) -> None:
    """C-36, C-A6: nothing of it survives, the status is not that of a failure, and the log says that it was stopped."""
    task = face.run(folder, "hold.py", "x", str(release))
    pid, child, _ = first_line(face, task)
    assert face.stop(task)
    assert is_gone(pid) and is_gone(child)
    shown = face.show(task)
    assert shown["status"] == "cancelled" and shown["ran"] > 0
    assert lines(until_ended(face, task), "system") == ["[stop]"]


def test_c37_modify(face: Face, folder: Path, release: Path) -> None:
    """C-37, C-A7: the new version is there before the old one is stopped, begins when it is gone, and both are kept."""
    old = face.run(folder, "hold.py", "one", str(release), name="v1")
    pid, child, _ = first_line(face, old)
    (folder / "hold.py").write_text(HOLD.replace("sys.argv[1])", "sys.argv[1], 'anew')"))
    new = face.run(folder, "hold.py", "two", str(release), name="v2", replaces=old)
    assert first_line(face, new)[2:] == ["two", "anew"]
    assert is_gone(pid) and is_gone(child)
    first, second = face.show(old), face.show(new)
    assert (first["status"], second["status"]) == ("cancelled", "running")
    assert (
        first["submitted_seconds"] < second["submitted_seconds"] < first["ended_seconds"] <= second["started_seconds"]
    )
    assert second["options"]["replaces"] == old
    assert lines(until_ended(face, old), "stdout")[0].endswith("one")


def test_c38_union_run(face: Face, folder: Path) -> None:
    """C-38: the edges pull the task and run it, each by itself, with a status and logs of its own."""
    union = face.union(folder / "own.py", "region", job="union")
    until_ended(face, union)
    edges = face.edges_of(union)
    assert {edge: status for edge, (_, status) in edges.items()} == {"e1": "succeeded", "e2": "succeeded"}
    for edge, (part, _) in edges.items():
        assert lines(until_ended(face, part), "stdout") == [f"here is {edge}"]
        assert face.show(part)["runtime"] == edge
    shown = face.show(union)
    assert shown["status"] == "succeeded" and shown["ran"] > 0


def test_c39_a_description_alone(face: Face, folder: Path, release: Path) -> None:
    """C-39: of a task that waits, runs, or has ended. Nothing starts anew, and the history tells each change."""
    task = face.run(folder, "hold.py", "x", str(release), description="first", runtime="e2")
    pid, _, _ = first_line(face, task)
    waiting = face.run(folder, "train.py", after=task)
    before = face.show(task)
    assert before["options"]["description"] == "first"
    face.describe(task, "zweitens, für das Papier 试")
    face.describe(waiting, "comes after it")
    after = face.show(task)
    assert after["options"]["description"] == "zweitens, für das Papier 试"
    assert {name for name in after if after[name] != before[name]} <= {
        "options",
        "story",
        "modified",
        "modified_seconds",
    } | TIME
    assert after["modified_seconds"] > before["modified_seconds"] and after["attempt"] == 1
    assert after["story"][-1]["status"] == "described" and "zweitens" in after["story"][-1]["reason"]
    assert face.show(waiting)["status"] == "waiting"
    assert face.show(waiting)["options"]["description"] == "comes after it"
    assert not is_gone(pid)
    release.touch()
    assert lines(until_ended(face, task), "stdout")[0].startswith(pid)
    ended = face.show(task)
    face.describe(task, "it is over")
    described = face.show(task)
    assert statuses(described) == ["submitted", "running", "described", "succeeded", "described"]
    assert (described["status"], described["ended_seconds"]) == ("succeeded", ended["ended_seconds"])
    assert described["options"]["description"] == "it is over"


TIME = {"start_estimate", "end_estimate"}
"""What changes by itself while a task runs."""


def test_c39_of_a_union_and_of_a_part(face: Face, folder: Path, release: Path) -> None:
    union = face.union(folder / "own.py", "region", description="both")
    until_ended(face, union)
    part, _ = face.edges_of(union)["e2"]
    face.describe(part, "the southern one")
    face.describe(union, "all of them")
    told = {task: face.show(task)["options"]["description"] for task in (union, part, face.edges_of(union)["e1"][0])}
    assert list(told.values()) == ["all of them", "the southern one", "both"]


def test_c39_what_is_refused(face: Face, folder: Path) -> None:
    task = face.run(folder, "train.py", description="as it was")
    with pytest.raises(Refusal, match="no task 'zzzz'"):
        face.describe("zzzz", "x")
    with pytest.raises(Refusal, match="100001 characters; at most 100000"):
        face.describe(task, "x" * 100_001)
    with pytest.raises(Refusal, match="none that UTF-8 has"):
        face.describe(task, "half of a pair \udcff")
    assert face.show(task)["options"]["description"] == "as it was"


def test_c40_deploy(face: Face, folder: Path) -> None:
    """C-40: a file that a task left goes to an edge, and a script there uses it."""
    task = face.run(folder, "train.py", outputs="model/*")
    script = face.deploy(task, "model/weights.txt", "region=south", "best", folder / "predict.py")
    until_ended(face, script)
    ((edge, (part, status)),) = face.edges_of(script).items()
    assert (edge, status) == ("e2", "succeeded")
    assert lines(until_ended(face, part), "stdout") == ["predicts 42"]


def test_c41_messages_both_ways(face: Face) -> None:
    """C-41: to the plugins of an edge, whose answer comes back; and from an edge to whoever listens."""
    with face.listening("e1") as messages:
        assert face.tell("e1", {"schwelle": 0.7}) == ["taken", {"schwelle": 0.7}]
        assert next(messages) == {"was": {"schwelle": 0.7}}


EDGE_COLUMNS = ["EDGE", "STATE", "SINCE", "SEEN", "RUNNING", "HELD", "UNDELIVERED", "SPOOL", "VERSION", "LABELS", "WHY"]


def test_the_edges_are_listed(library: Library, shell: Shell) -> None:
    """Name, state, since when, last seen, what is held, the spool's size, version, labels: for people and for programs."""
    ran = library.bus.options(runtime="e1").command("true")
    assert ran.result(PATIENCE) == 0
    shell.ok("drain", "e2")
    heading, *rows = shell.ok("edges").lines
    assert heading.split() == EDGE_COLUMNS
    assert [row.split()[:2] for row in rows] == [["e1", "online"], ["e2", "draining"]]
    listed = {each["runtime"]: each for each in shell.ok("edges", "--json").json}
    first = listed["e1"]
    assert (first["state"], first["labels"], first["version"]) == ("online", {"region": "north"}, headway.__version__)
    assert first["since_seconds"] <= first["last_seen_seconds"] and first["load"]["spool_bytes"] > 0
    assert (listed["e2"]["state"], first["running"], first["assigned"]) == ("draining", 0, 0)
    shell.ok("drain", "e2", "--resume")
    assert library.bus.options(runtime="e2").command("true").result(PATIENCE) == 0


def test_whoever_asks_an_edge_that_is_not_there_is_told(shell: Shell) -> None:
    asking = shell.start("edge", "run", "e9", "true")
    assert asking.stderr is not None
    why = "headway: no edge 'e9' is known: this waits until one of that name comes; known: e1, e2\n"
    assert asking.stderr.readline() == why
    end(asking)
    (waiting,) = [each for each in shell.ok("ps", "--status", "queued", "--json").json if each["target"] == "true"]
    shell.ok("cancel", waiting["id"])


def test_bundles_that_lie_or_lead_out_never_reach_the_bus(folder: Path, library: Library, shell: Shell) -> None:
    count = len(list(library.bus.tasks()))
    evil = folder / "evil.zip"
    with zipfile.ZipFile(evil, "w") as packed:
        packed.writestr("main.py", "print(1)")
        packed.writestr("../outside.txt", "x")
    manifest = folder / "bundle.json"
    for source, content, why in [
        (evil, None, "'../outside.txt' does not stay within the bundle"),
        (folder, {"files": {"train.py": {"size": 5}}}, "has the size 5"),
        (folder, {"files": {"train.py": {"hash": "00" * 32}}}, "has the hash 00"),
        (folder, {"files": {"../x": {}}}, "without '..'"),
    ]:
        if content is not None:
            evil.unlink(missing_ok=True)
            manifest.write_text(json.dumps(content))
        done = shell("bundle", source, "--entry", "train.py")
        assert (done.status, done.out) == (1, "") and why in done.err and "Traceback" not in done.err
    assert not (folder.parent / "outside.txt").exists()
    assert len(list(library.bus.tasks())) == count
