"""Joining a bus by an invitation: a new key pair, of which the broker is sent the public half."""

from __future__ import annotations

import time

import zmq

from headway_bus.codec import Decoder, encode, for_client
from headway_bus.errors import BusError, NoBus, ProtocolError, Refused
from headway_bus.keyring import Invitation
from headway_bus.keys import Key, prepare_with
from headway_bus.link import BROKER
from headway_bus.messages import PROTOCOL_VERSION, Enrol, Enrolled, Rejected

RETRY = 0.5
"""Seconds between attempts: so long a broker may take to see an invitation."""


def enrol(invitation: Invitation, key: Key, timeout: float) -> Enrolled:
    """Have the broker put the key on its list. Raises NoBus within ``timeout`` seconds, Refused if it does not want to."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        answer = _try(invitation, key, left)
        if isinstance(answer, Enrolled):
            return answer
        if isinstance(answer, Rejected):
            raise Refused(answer.code, answer.text)
        time.sleep(min(RETRY, max(0.0, deadline - time.monotonic())))
    raise NoBus(
        f"no broker let us in at {invitation.url} within {timeout:g} s. Is it running, does it take keys (at 127.0.0.1 it "
        "does with require_keys = true only), can it be reached from here, and is the invitation still good? Ask for a new one "
        "with `headway keys invite`"
    )


def _try(invitation: Invitation, key: Key, timeout: float) -> Enrolled | Rejected | None:
    """One connection. None: it was not let in, or nobody answered."""
    prepare = prepare_with(key)
    assert prepare is not None
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.RECONNECT_IVL, -1)
    prepare(socket)
    monitor = socket.get_monitor_socket(zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED)
    try:
        socket.connect(invitation.url)
        # Not to wait: a broker that takes no keys may have closed the connection by now, and there will be no other.
        socket.send_multipart([BROKER, encode(Enrol(PROTOCOL_VERSION, invitation.token, key.name))], zmq.DONTWAIT)
        return _answer(socket, monitor, timeout)
    except zmq.Again:
        return None
    except zmq.ZMQError as error:
        raise BusError(
            f"cannot connect to {invitation.url!r}: {error}; ask for an invitation with another --url"
        ) from None
    finally:
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close(linger=0)


def _answer(socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes], timeout: float) -> Enrolled | Rejected | None:
    decoder: Decoder = for_client()
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    ready = dict(poller.poll(round(timeout * 1000)))
    if socket not in ready:
        return None  # the time is up, or the connection was closed: a broker that takes nobody at present does that
    frames = socket.recv_multipart()
    try:
        message = decoder.decode(frames[1]) if len(frames) > 1 else None
    except ProtocolError:
        return None
    return message if isinstance(message, Enrolled | Rejected) else None
