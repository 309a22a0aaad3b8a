"""Who may say what to whom: every role, every message, every receiver, against the unions of the wire."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from headway_broker.core import Broker
from headway_broker.permissions import ALLOWED, ROLES
from headway_bus import messages as m
from headway_bus.link import BROKER, CONTROLLER
from headway_bus.records import Code

ALL = sorted(
    {m.tag_of(each.__name__) for union in (m.CONTROLLER_RECEIVES, m.CLIENT_RECEIVES, m.RUNTIME_RECEIVES, m.BROKER_RECEIVES)
     for each in get_args(union)}
)  # fmt: skip
CLIENTS = ROLES - {"runtime", "edge", "controller"}
RUNTIMES = frozenset({"runtime", "edge"})


def direction_of(sender: str, receiver: str) -> Any:
    """The union of what can be said in that direction at all; None: nothing."""
    if receiver == "controller":
        return m.ClientToController if sender in CLIENTS else m.RuntimeToController if sender in RUNTIMES else None
    if sender != "controller":
        return None
    return m.ControllerToClient if receiver in CLIENTS else m.ControllerToRuntime


@pytest.mark.parametrize("sender", sorted(ROLES))
@pytest.mark.parametrize("receiver", sorted(ROLES))
def test_a_role_may_say_to_another_what_the_table_has_and_nothing_else(sender: str, receiver: str) -> None:
    allowed = ALLOWED.get((sender, receiver), frozenset())
    broker = Broker(b"broker", 0.0)
    # A second of each role, so that one may speak to its own like. There is one controller, which speaks to itself.
    for role in sorted(ROLES - {"controller"}):
        broker.on_local_peer(b"to-" + role.encode(), role, b"\0to-" + role.encode(), b"x", 0.0)
        broker.on_local_peer(b"from-" + role.encode(), role, b"\0from-" + role.encode(), b"x", 0.0)
    broker.on_local_peer(CONTROLLER, "controller", b"\0controller", b"x", 0.0)
    target = CONTROLLER if receiver == "controller" else b"to-" + receiver.encode()
    source = b"\0controller" if sender == "controller" else b"\0from-" + sender.encode()
    for name in ALL:
        header = msgspec.msgpack.encode([name, 7])
        (delivery,) = broker.on_message([source, target, header], 0.0)
        if name in allowed:
            assert (delivery.route, delivery.header) == (b"\0" + target, header), name
        else:
            assert delivery.route == source, name
            assert isinstance(delivery.header, m.Rejected) and delivery.header.code == Code.FORBIDDEN
            assert delivery.header.request == 7
            assert name in delivery.header.text


def test_the_table_allows_nothing_that_the_receiver_could_not_read() -> None:
    for (sender, receiver), names in ALLOWED.items():
        direction = direction_of(sender, receiver)
        assert direction is not None, (sender, receiver)
        assert names <= {m.tag_of(each.__name__) for each in get_args(direction)}


def test_everything_that_can_be_said_may_be_said_by_somebody() -> None:
    said = frozenset().union(*ALLOWED.values())
    unions = (m.ClientToController, m.RuntimeToController, m.ControllerToClient, m.ControllerToRuntime)
    assert said == {m.tag_of(each.__name__) for union in unions for each in get_args(union)}


def test_nobody_forges_the_brokers_own_words() -> None:
    own = {m.tag_of(each.__name__) for each in get_args(m.FromBroker)} | {
        m.tag_of(each.__name__) for each in get_args(m.ToBroker)
    }
    assert not own & set().union(*ALLOWED.values())


@pytest.mark.parametrize("name", ALL)
def test_the_broker_itself_hears_what_is_meant_for_it(name: str) -> None:
    broker = Broker(b"broker", 0.0)
    broker.on_local_peer(b"me", "client", b"\0me", b"x", 0.0)
    heard = name in {m.tag_of(each.__name__) for each in get_args(m.ToBroker)}
    (delivery,) = broker.on_message([b"\0me", BROKER, msgspec.msgpack.encode([name, {"no": "sense"}])], 0.0) or [None]
    if heard:
        # It was known, and what it carried made no sense. A goodbye carries nothing that must make sense but its reason.
        assert delivery is not None and isinstance(delivery.header, m.Rejected) and name in delivery.header.text
    else:
        assert delivery is not None and isinstance(delivery.header, m.Rejected)
        assert delivery.header.code == Code.UNKNOWN_MESSAGE


def test_a_target_is_looked_up_before_the_permission() -> None:
    broker = Broker(b"broker", 0.0)
    broker.on_local_peer(b"me", "client", b"\0me", b"x", 0.0)
    (delivery,) = broker.on_message([b"\0me", CONTROLLER, msgspec.msgpack.encode(["assign", 1])], 0.0)
    assert isinstance(delivery.header, m.Undeliverable) and delivery.header.code == Code.NO_CONTROLLER
