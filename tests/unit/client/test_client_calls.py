"""From what a person wrote to what travels: command lines, chunks, files, and options records that are shared."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls import Caller, chunks, command_line, script_files
from headway.options import NONE_CHOSEN


@pytest.mark.parametrize(
    ("line", "params", "expected"),
    [
        ("echo {who}", {"who": "you and me"}, "echo 'you and me'"),
        ("echo {who} {who}", {"who": 3}, "echo 3 3"),
        ("echo ${who} {who}", {"who": "x"}, "echo ${who} x"),
        ("cp f.{a,b} $HOME; awk '{print $1}'", {"a": 1}, "cp f.{a,b} $HOME; awk '{print $1}'"),
        ("echo {other}", {"who": "x"}, "echo {other}"),
        ("echo {a}", {"a": "{b}", "b": "never"}, "echo '{b}'"),
        ("echo {}", None, "echo {}"),
    ],
)
def test_parameters_of_a_line(line: str, params: dict[str, object] | None, expected: str) -> None:
    assert command_line(line, params) == expected


@settings(deadline=None)  # a process for each example
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30))
def test_a_parameter_is_one_word_to_the_shell_whatever_is_in_it(text: str) -> None:
    found = subprocess.run(
        ["/bin/sh", "-c", command_line("printf %s {x}", {"x": text})], capture_output=True, check=True
    )
    assert found.stdout == text.encode()


def test_chunks_take_no_more_from_their_source_than_they_give() -> None:
    taken: list[int] = []

    def source() -> object:
        for n in range(10**9):
            taken.append(n)
            yield n

    first = next(chunks(source(), 3))  # type: ignore[arg-type]
    assert (first, taken) == ([0, 1, 2], [0, 1, 2])
    with pytest.raises(ValueError, match="chunksize=0"):
        next(chunks([1], 0))


def test_the_same_target_has_the_same_record_until_an_option_differs() -> None:
    caller = Caller(NONE_CHOSEN, 1000)
    assert caller.call("math:sqrt") is caller.call("math:sqrt")
    assert caller.call(len) is caller.call(len)
    assert caller.with_({"job": "x"}).call("math:sqrt") is not caller.call("math:sqrt")
    for n in range(1000):
        caller.call(f"work:f{n}")
    assert len(caller._records) <= 256


def test_files_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text("pass")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a").write_text("a")
    name, files = script_files(script, [tmp_path / "data"])
    assert name == "run.py"
    assert files == {"run.py": script, "data/deep/a": tmp_path / "data/deep/a"}
    assert script_files(script, {"x/y": b"z"})[1] == {"run.py": script, "x/y": b"z"}
    for bad in ("/etc/passwd", "../up", "a/../../b", ""):
        with pytest.raises(ValueError, match="expected a relative path"):
            script_files(script, {bad: b""})
    with pytest.raises(FileNotFoundError):
        script_files(tmp_path / "none.py", None)
