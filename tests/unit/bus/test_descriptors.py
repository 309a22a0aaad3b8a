"""Descriptors that come through a socket."""

from __future__ import annotations

import os
import socket

import pytest

from headway_bus.descriptors import receive

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "CMSG_LEN"), reason="descriptors travel where there are Unix sockets"
)


def test_what_comes_is_the_same_file_and_no_program_inherits_it() -> None:
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs:
        socket.send_fds(ours, [b"two"], [reading, writing])
        data, found = receive(theirs, 100, 10)
        ours.close()
        assert receive(theirs, 100, 10) == (b"", [])
    assert data == b"two"
    assert [os.get_inheritable(each) for each in found] == [False, False]
    assert [os.fstat(each).st_ino for each in found] == [os.fstat(each).st_ino for each in (reading, writing)]
    for descriptor in (reading, writing, *found):
        os.close(descriptor)
