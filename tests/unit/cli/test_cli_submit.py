"""From what was typed to the library's options."""

from __future__ import annotations

from typing import Any, cast

import pytest

from headway.cli import app, submit
from headway.options import NONE_CHOSEN, Choice


class Recorder:
    """Takes the place of a bus: keeps the options and the call, and submits nothing."""

    url: str | None = None
    choice: Choice = NONE_CHOSEN
    calls: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __init__(self, url: str | None = None, **_: Any) -> None:
        Recorder.url = url

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until_served(self, timeout: float) -> None:
        pass

    def options(self, **fields: Any) -> Recorder:
        Recorder.choice = NONE_CHOSEN.with_(fields)
        return self

    def task(self, prefix: str) -> str:
        return prefix.ljust(26, "0")

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        Recorder.calls = (args, kwargs)
        return cast(Any, type("Task", (), {"id": "an-id"}))


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.Client", Recorder)


def test_every_option_of_the_library_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    typed = (
        "submit m:f 1 --kw a=2 --name n --job j --queue q --priority 0 --slots 0.5 --cpu 1 --memory 2GiB --gpu 1 "
        "--resource licence=2 --label a=b --label c=d --runtime r --max-attempts 3 --max-losses 0 --backoff 500ms "
        "--retry-on ValueError --after abc --after-any --after-always --delay 0 --timeout-start 1h --timeout-run 2min "
        "--grace 1 --idempotent --retention 7d --output-limit 1MiB --meta rows=10 --meta kind=long --key k"
    )
    assert app.run(typed.split()) == 0
    assert capsys.readouterr().out == "an-id\n"
    assert Recorder.calls == (("m:f", 1), {"a": 2})
    values = dict(Recorder.choice.values)
    assert (values["priority"], values["max_losses"], values["delay"]) == (0, 0, 0.0)
    assert (values["memory"], values["output_limit"]) == (2**31, 2**20)
    assert (values["labels"], values["resources"]) == ({"a": "b", "c": "d"}, {"licence": 2.0})
    assert (values["after_count"], values["after_end"], len(values["after"])) == ("any", "always", 1)
    assert values["meta"] == {"rows": 10, "kind": "long"}
    assert (values["backoff"], values["timeout_start"], values["retention"]) == (0.5, 3600.0, 604800.0)
    assert (values["key"], values["idempotent"]) == ("k", True)


def test_what_is_not_typed_is_left_to_the_library() -> None:
    assert app.run(["submit", "m:f"]) == 0
    assert dict(Recorder.choice.values) == {}


@pytest.mark.parametrize("wrong", ["--memory=much", "--priority=high", "--meta=rows", "--delay=soon", "--slots=-1"])
def test_a_value_that_the_library_refuses_is_a_usage_error(wrong: str) -> None:
    assert app.run(["submit", "m:f", wrong]) == 2


def test_an_option_is_described_for_every_field() -> None:
    names = {name.removeprefix("--").replace("-", "_") for names, _ in submit._OPTIONS for name in names[-1:]}
    renamed = {
        "label": "labels",
        "merge_label": "merge_labels",
        "resource": "resources",
        "after_any": "after_count",
        "after_always": "after_end",
    }
    from headway.options import CHECKS

    here_only = {"on_log", "submit_timeout", "by_value", "backoff_max", "key"}
    assert {renamed.get(name, name) for name in names} == set(CHECKS) - here_only
