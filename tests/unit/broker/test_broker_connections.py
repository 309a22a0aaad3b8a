"""Which connections are one too many, and which send without end."""

from __future__ import annotations

from headway_broker.connections import Connections
from headway_broker.state import Peer


def peer(route: bytes, heard: float = 0.0) -> Peer:
    return Peer(route, "client", route, b"instance", 0.0, heard)


def opened(count: int, limit: int = 10) -> Connections:
    connections = Connections(limit)
    for number in range(count):
        connections.on_opened(number, 0.0)
    return connections


def test_who_opens_many_is_in_nobodys_way_but_its_own() -> None:
    connections = opened(10)
    connections.on_opened(10, 1.0, "192.0.2.1")
    connections.on_opened(11, 1.0, "192.0.2.2")
    assert connections.beyond() == [9, 8]


class TestHalfOpen:
    def test_up_to_the_limit_all_may_stay(self) -> None:
        assert opened(10).beyond() == []

    def test_beyond_it_the_newest_go(self) -> None:
        assert opened(13).beyond() == [12, 11, 10]

    def test_of_those_who_have_as_many_the_newest_goes(self) -> None:
        connections = opened(0)
        for number in range(12):
            connections.on_opened(number, 1.0, f"192.0.2.{number % 4}")
        assert connections.beyond() == [11, 10]
        for number in range(12, 15):
            connections.on_opened(number, 2.0, f"192.0.2.{number}")
        assert connections.beyond() == [11, 10, 9, 8, 7]

    def test_all_of_one_address_if_it_must_be(self) -> None:
        connections = Connections(2)
        for number, address in enumerate(["a", "b", "c", "a"]):
            connections.on_opened(number, 1.0, address)
        assert connections.beyond() == [3, 2]

    def test_who_says_nothing_for_too_long_goes_though_there_is_room(self) -> None:
        connections = opened(3)
        connections.on_opened(3, 5.0)
        connections.on_spoken(1, b"a", 1.0)
        assert connections.overdue(5.0) == [0, 2]

    def test_who_spoke_is_not_silent_but_no_peer_either(self) -> None:
        connections = opened(14)
        for number in range(8):
            connections.on_spoken(number, b"%d" % number, 1.0)
        greeted = {b"%d" % number: peer(b"%d" % number) for number in range(3)}
        assert connections.beyond() == [] and len(connections.silent) == 6
        assert connections.beyond_with(greeted) == [3]

    def test_a_peer_that_is_one_no_more_is_a_stranger_again(self) -> None:
        connections = opened(11)
        connections.on_spoken(0, b"a", 1.0)
        assert connections.beyond_with({b"a": peer(b"a")}) == []
        assert connections.beyond_with({}) == [0]

    def test_what_ended_is_not_counted(self) -> None:
        connections = opened(11)
        connections.on_spoken(3, b"a", 1.0)
        for number in (3, 4, 4, 77):
            connections.on_closed(number)
        assert len(connections.silent) == len(connections.opened) == 9

    def test_a_number_that_is_given_out_again_is_a_new_connection(self) -> None:
        connections = opened(2)
        connections.on_spoken(0, b"a", 1.0)
        connections.on_closed(0)
        connections.on_opened(0, 5.0)
        assert connections.of([b"a"]) == [] and len(connections.silent) == 2
        assert list(connections.silent) == [1, 0], "and the youngest"

    def test_a_message_of_one_that_has_ended_opens_nothing(self) -> None:
        connections = opened(1)
        connections.on_spoken(5, b"late", 1.0)
        assert list(connections.opened) == [0] and len(connections.silent) == 1

    def test_connections_are_found_by_their_peers(self) -> None:
        connections = opened(3)
        connections.on_spoken(1, b"a", 1.0)
        connections.on_spoken(2, b"b", 1.0)
        assert connections.of([b"b", b"c"]) == [2]


class TestEndless:
    def test_one_that_sends_more_than_any_message_may_have_and_ends_none(self) -> None:
        connections = opened(2)
        connections.on_spoken(0, b"a", 1.0)
        connections.on_spoken(1, b"b", 1.0)
        endless, honest = peer(b"a", 1.0), peer(b"b", 1.0)
        greeted = {b"a": endless, b"b": honest}
        assert connections.unheard(greeted) == [], "they have just been heard"
        honest.heard = 2.0
        assert connections.unheard(greeted) == [0]
        assert connections.on_received({0: 5_000}, 100) == [], "what came before it fell silent says nothing"
        assert connections.unheard(greeted) == [0, 1]
        assert connections.on_received({0: 5_200, 1: 900}, 100) == []
        assert connections.on_received({0: 5_201, 1: 1_100}, 100) == [0]

    def test_a_whole_message_begins_the_count_anew(self) -> None:
        connections = opened(1)
        connections.on_spoken(0, b"a", 1.0)
        one = peer(b"a", 1.0)
        connections.unheard({b"a": one})
        connections.on_received({0: 0}, 100)
        one.heard = 2.0
        assert connections.unheard({b"a": one}) == []
        assert connections.unheard({b"a": one}) == [0]
        assert connections.on_received({0: 100_000}, 100) == []

    def test_a_stranger_too(self) -> None:
        connections = opened(1)
        assert connections.unheard({}) == []
        assert connections.unheard({}) == [0]
        assert connections.on_received({0: 0}, 100) == []
        connections.on_spoken(0, b"a", 1.0)
        assert connections.unheard({}) == []
        assert connections.unheard({}) == [0]
        assert connections.on_received({0: 300}, 100) == []
        assert connections.on_received({0: 501}, 100) == [0]

    def test_while_the_broker_stood_still_nobody_was_silent(self) -> None:
        connections = opened(1)
        connections.unheard({})
        connections.on_received({0: 0}, 100)
        connections.forget_silence()
        assert connections.on_received({0: 500}, 100) == []
        assert connections.on_received({0: 701}, 100) == [0]
