"""The table of packets itself."""
from math import inf, nan

import pytest

from neo.protocol import declare, packets
from neo.protocol.codec import HEADER_SIZE, ProtocolError, decode, encode
from neo.protocol.packets import RequestTerm
from neo.protocol.types import ErrorCode, NodeKind, Oid

from .values import PACKETS

KINDS = set(map(int, NodeKind))


def test_codes_are_unique_and_answers_belong_to_their_requests():
    codes = [cls.code for cls in PACKETS]
    assert len(set(codes)) == len(codes) and max(codes) <= 0xff
    for cls in PACKETS:
        answer = getattr(cls, 'Answer', None)
        if answer is not None:
            assert answer.code == cls.code | declare.ANSWER and answer.is_answer
            assert not cls.is_answer
            assert answer.routes == {(receiver, sender) for sender, receiver in cls.routes}


def test_a_code_is_never_given_twice():
    class Intruder:
        oid: Oid
    with pytest.raises(ValueError, match='same code'):
        declare.packet(code=packets.Error.code, route='any -> any')(Intruder)


def test_every_packet_has_a_route_and_says_what_it_means():
    for cls in PACKETS:
        assert cls.routes, cls
        assert {kind for route in cls.routes for kind in route} <= KINDS
        assert cls.is_answer or cls.__doc__, '%s has no docstring' % cls


def test_routes():
    assert packets.Lock.routes == {(NodeKind.MASTER, NodeKind.STORAGE)}
    assert len(packets.Ping.routes) == len(KINDS) ** 2
    assert not any((NodeKind.CLIENT, NodeKind.ADMIN) in cls.routes for cls in PACKETS
                   if cls not in (packets.Error, packets.Identify, packets.Ping,
                                  packets.Identify.Answer, packets.Ping.Answer))


def test_kinds_are_those_of_routes():
    assert declare._parse('master -> storage, admin -> client, ctl -> ctl') == {
        (NodeKind.MASTER, NodeKind.STORAGE), (NodeKind.ADMIN, NodeKind.CLIENT),
        (NodeKind.CTL, NodeKind.CTL)}


def test_a_packet_is_small_and_readable():
    ping = packets.TakeTtids(5)
    assert not hasattr(ping, '__dict__')
    assert repr(ping) == 'TakeTtids(count=5)'
    assert ping == packets.TakeTtids(5) != packets.TakeTtids(6)
    long = packets.Error(ErrorCode.REFUSED, 'x' * 1000)
    assert len(repr(long)) < 200


@pytest.mark.parametrize('clock', [-1e18, -1.0, 1e11, inf, -inf, nan])
def test_a_moment_is_one_that_can_be(clock):
    """A master whose clock is ahead of all storages takes the time from them."""
    answer = RequestTerm.Answer(True, 1, None, None, (), 0, 0, (), (), clock, None, (0, (), ()))
    body = encode(answer)[HEADER_SIZE:]
    with pytest.raises(ProtocolError):
        decode(body)
