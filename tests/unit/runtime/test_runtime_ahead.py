"""A nursery that was forked before its runtime knew what it is to be."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import msgspec
import pytest

from headway_bus.forked import Forked
from headway_runtime import ahead, keeper, nursery

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked where there is a fork")


def test_it_has_exactly_the_environment_that_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "environment"

    def tell(_descriptor: int) -> None:
        file.write_text(json.dumps(dict(os.environ)))

    monkeypatch.setattr(nursery, "main", tell)
    monkeypatch.setenv("HEADWAY_BUS_KEY_FILE", "of the bus")
    ours, theirs = socket.socketpair()
    child = Forked(lambda: nursery.serve_later(theirs), [ours.fileno()])
    theirs.close()
    data = msgspec.msgpack.encode({"A": "one two"})
    ours.sendall(len(data).to_bytes(nursery.LENGTH_BYTES, "big") + data)
    assert child.wait(10) == 0
    ours.close()
    assert json.loads(file.read_text()) == {"A": "one two"}


def test_one_that_was_killed_while_it_waited_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    child = Forked(signal.pause, [ours.fileno()])
    theirs.close()
    monkeypatch.setattr(ahead, "_waiting", [ahead.NurseryAhead(child, ours)])
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert keeper._waiting_nursery({}) is None
    assert child.returncode is not None
    assert ours.fileno() < 0
    assert ahead.take() is None
