"""The option ``secret``: it travels, and is refused where a secret would be shown or stored readable."""

from __future__ import annotations

import pytest

from headway.calls import SECRET_BYTES, Caller
from headway.options import NONE_CHOSEN
from headway_bus.errors import TooLarge
from headway_bus.records import Kind


@pytest.fixture
def caller() -> Caller:
    return Caller(NONE_CHOSEN, 1 << 30).with_({"secret": True})


def test_it_travels_with_the_task(caller: Caller) -> None:
    assert caller.other(Kind.COMMAND, "true").secret
    assert not Caller(NONE_CHOSEN, 1 << 30).other(Kind.COMMAND, "true").secret


def test_secrets_are_refused_in_a_command_line(caller: Caller) -> None:
    for args, extras in ((("word",), {}), ((), {"params": {"a": 1}})):
        with pytest.raises(ValueError, match=r"ps; hand the secret over by env"):
            caller.encode_extras(args, extras)
    assert caller.encode_extras((), {"env": {"A": "word"}})


def test_what_would_lie_in_a_file_is_refused(caller: Caller) -> None:
    with pytest.raises(TooLarge, match="not encrypted"):
        caller.encode("a:f", ["x" * (SECRET_BYTES + 1)], {})
