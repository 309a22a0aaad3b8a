"""File descriptors that come through a Unix socket."""

from __future__ import annotations

import array
import os
import socket

_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux: no other thread can start a program in between


def receive(stream: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """At most ``size`` bytes, none at the end of the stream, and at most ``most`` descriptors that came with them.

    No program that is started later inherits them. (``socket.recv_fds`` takes no heed of its flags, and gives inheritable ones.)
    """
    found = array.array("i")
    data, beside, _, _ = stream.recvmsg(size, socket.CMSG_LEN(most * found.itemsize), _FLAGS)
    for level, kind, content in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    descriptors = list(found)
    if not _FLAGS:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
    return data, descriptors
