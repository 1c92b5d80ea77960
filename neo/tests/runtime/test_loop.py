import os
import socket
import struct
import time

import pytest

from neo.cluster import events
from neo.protocol import limits
from neo.protocol.codec import encode, preamble
from neo.protocol.packets import Error, Invalidate, Load, Ping, Sync, TakeOids
from neo.protocol.types import ErrorCode
from neo.runtime.addresses import ListenError
from neo.runtime.loop import Loop

from .peer import Peer, until
from .toys import Echo, Records, Toy, running


@pytest.fixture(params=['127.0.0.1', '::1', 'localhost'])
def host(request):
    if request.param == '::1':
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(('::1', 0))
        except OSError:
            pytest.skip('this machine has no IPv6')
    return request.param


@pytest.fixture
def echo():
    node = Echo()
    with running(node) as (address, loop, status):
        node.address, node.loop, node.status = address, loop, status
        yield node


def events_of(node, kind):
    return [event for event in node.trace if type(event) is kind]


# -- addresses ------------------------------------------------------------------------------
def test_kinds_of_addresses(host):
    with running(Echo(), host) as ((listening, port), loop, status):
        assert listening == host and port
        with Peer(('127.0.0.1' if host == 'localhost' else host, port)) as peer:
            assert peer.ask(Ping()) == Ping.Answer()


def test_a_port_in_use():
    with running(Echo()) as (address, loop, status):
        other = Loop(Records())
        with pytest.raises(ListenError, match='127.0.0.1:%d: Address already in use' % address[1]):
            other.listen(*address)
        with pytest.raises(ListenError, match='cannot listen at a..b:1'):
            other.listen('a..b', 1)
        other.close()


class Caller(Toy):
    """Connects to addresses, and leaves once each has been tried."""

    def __init__(self, *addresses):
        super().__init__()
        self.addresses = addresses

    def starting(self):
        for address in self.addresses:
            self.connect(address)

    def step(self, now, event):
        super().step(now, event)
        if type(event) is events.Connected:
            self.reply(event.connection, Ping(), 1)
        ended = events_of(self, events.ConnectFailed) + events_of(self, events.Received)
        if len(ended) == len(self.addresses):
            self.exit(0)


def test_connecting(echo):
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        refused = unused.getsockname()
        caller = Caller(echo.address, ('localhost', echo.address[1]), refused, ('a..b', 1))
        assert Loop(Records()).run(caller) == 0
    failed = {event.address: event.reason for event in events_of(caller, events.ConnectFailed)}
    assert failed.keys() == {refused, ('a..b', 1)}
    assert failed[refused] == 'Connection refused'
    assert {event.address for event in events_of(caller, events.Connected)} == {
        echo.address, ('localhost', echo.address[1])}


def test_an_address_that_does_not_answer():
    with socket.socket() as full:
        full.bind(('127.0.0.1', 0))
        full.listen(0)
        others = []
        try:
            for _ in range(3):      # more than the backlog takes
                others.append(socket.socket())
                others[-1].setblocking(False)
                others[-1].connect_ex(full.getsockname())
            caller = Caller(full.getsockname())
            started = time.monotonic()
            assert Loop(Records()).run(caller) == 0
            assert events_of(caller, events.ConnectFailed)[0].reason == 'it takes too long'
            assert time.monotonic() - started < limits.CONNECT_TIMEOUT + 5
        finally:
            for other in others:
                other.close()


# -- bytes ----------------------------------------------------------------------------------
def test_thousands_of_small_messages(echo):
    with Peer(echo.address) as peer:
        peer.socket.sendall(b''.join(encode(Load(1, 1), i) for i in range(1, 10_001)))
        answers = peer.packets()
        assert [next(answers)[1] for _ in range(10_000)] == list(range(1, 10_001))


def test_half_frames(echo):
    with Peer(echo.address, greet=False) as peer:
        for byte in preamble() + encode(Load(3, 1), 1):
            peer.socket.sendall(bytes([byte]))
        assert peer.receive()[0].data == b'xxx'


def test_big_frames_both_ways():
    class Keep(Echo):
        def received(self, connection, packet, request_id):
            if type(packet) is Load.Answer:
                self.reply(connection, packet, request_id)

    node = Keep()
    packet = Load.Answer(1, 1, None, 0, b'c' * 16, os.urandom(1 << 20) * 64, None)
    with running(node) as (address, loop, status), Peer(address) as peer:
        peer.send(packet)
        assert peer.receive()[0] == packet


def test_memory_is_taken_as_bytes_come(echo):
    with Peer(echo.address) as peer:
        peer.socket.sendall(struct.pack('>I', limits.MAX_FRAME) + b'x')
        connection, = until(lambda: list(echo.loop._connections.values()))
        until(lambda: connection.decoder._buffer)
        assert connection.decoder._buffer.__sizeof__() < 1 << 20


@pytest.mark.parametrize('bad', [
    b'GET / HTTP/1.0\r\n\r\n',
    preamble((7, 9)),
    preamble() + b'\0\0\0\x04\xc1\xc1\xc1\xc1',
    preamble() + struct.pack('>I', limits.MAX_FRAME + 1),
    preamble() + encode(Load(1, -1), 1),
])
def test_bad_bytes_close_that_connection_only(echo, bad):
    with Peer(echo.address) as good, Peer(echo.address, greet=False) as peer:
        peer.socket.sendall(bad)
        last = [packet for packet, _id in peer.packets()]
        assert all(type(packet) is Error for packet in last)
        assert len(last) == bad.startswith(preamble())
        assert good.ask(Ping()) == Ping.Answer()
    assert len(until(lambda: events_of(echo, events.Closed))) >= 1


def test_a_stranger_sends_short_frames_only():
    class Strict(Toy):
        def step(self, now, event):
            self.trace.append(event)
    with running(Strict()) as (address, loop, status), Peer(address) as peer:
        peer.socket.sendall(struct.pack('>I', limits.MAX_FRAME_UNIDENTIFIED + 1))
        (error, _id), = peer.packets()
        assert error.error == ErrorCode.PROTOCOL and 'above the limit' in error.message


# -- slow readers ---------------------------------------------------------------------------
def test_who_does_not_read_is_not_asked_for_more(echo):
    count, size = 150, 1 << 20
    with Peer(echo.address, buffer=1 << 16) as peer:
        peer.socket.sendall(b''.join(encode(Load(size, 1), i) for i in range(1, count + 1)))
        connection, = until(lambda: list(echo.loop._connections.values()))
        until(lambda: connection.paused and not connection.mask & 1)
        assert connection.queued <= limits.OUTPUT_PAUSE + limits.PACKETS_PER_TURN * (size + 100)
        with Peer(echo.address) as other:
            assert other.ask(Ping()) == Ping.Answer()
        answers = peer.packets()
        assert [next(answers)[1] for _ in range(count)] == list(range(1, count + 1))


def test_who_never_reads_is_closed():
    class Flood(Echo):
        def received(self, connection, packet, request_id):
            flood = Load.Answer(1, 1, None, 0, b'c' * 16, bytes(8 << 20), None)
            for _ in range(limits.OUTPUT_LIMIT // (8 << 20) + 2):
                self.reply(connection, flood)       # one frame in memory

    node = Flood()
    with running(node) as (address, loop, status), Peer(address) as peer:
        peer.send(Ping(), 1)
        lost = until(lambda: events_of(node, events.Closed))
        assert lost[0].reason == 'it does not read what it is sent'
        assert not loop._connections


def test_close_comes_after_what_was_sent():
    class Parting(Echo):
        def load(self, connection, packet, request_id):
            super().load(connection, packet, request_id)
            self.hang_up(connection)

    node = Parting()
    with running(node) as (address, loop, status):
        with Peer(address) as peer:
            peer.send(Load(32 << 20, 1), 1)
            (answer, _id), = peer.packets()
            assert len(answer.data) == 32 << 20
        with Peer(address) as peer:
            peer.send(Load(32 << 20, 1), 1)
            until(lambda: len(events_of(node, events.Received)) == 2)
            until(lambda: not loop._connections)    # it does not wait for ever
        assert not events_of(node, events.Closed)


def test_last_words_are_heard():
    """A peer that says why and closes, without reading what is on its way to it."""
    class Talker(Toy):
        def starting(self):
            self.connect(address)

        def step(self, now, event):
            super().step(now, event)
            if type(event) is events.Connected:
                self.set_timer(event.connection, now)
            elif type(event) is events.Closed:
                self.exit(0)

        def timer(self, connection):
            # Goes on until the sending fails.
            if not gone:
                for _ in range(1000):
                    self.reply(connection, Ping(), 1)
                self.set_timer(connection, self.now)
            else:
                self.reply(connection, Ping(), 1)

        def received(self, connection, packet, request_id):
            self.reply(connection, Ping(), 1)

    gone = []
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        address = server.getsockname()
        node = Talker()
        with running(node) as (_, loop, status):
            sock, _ = server.accept()
            until(lambda: any(c.output for c in list(loop._connections.values())))
            sock.sendall(preamble() + encode(Error(ErrorCode.REFUSED, 'go away')))
            sock.close()
            gone.append(True)
            until(lambda: status)
    assert [event.packet.message for event in events_of(node, events.Received)] == ['go away']


# -- turns ----------------------------------------------------------------------------------
def test_many_connections(echo):
    peers = [Peer(echo.address) for _ in range(200)]
    try:
        until(lambda: len(echo.connections()) == 200)
        peers[0].send(TakeOids(3), 9)
        for peer in peers[1:]:
            packets = peer.packets()
            assert [next(packets)[0] for _ in range(3)] == [Invalidate(tid, ()) for tid in range(3)]
        assert [p for _, p in zip(range(4), peers[0].packets())][3][1] == 9
    finally:
        for peer in peers:
            peer.socket.close()
    until(lambda: len(events_of(echo, events.Closed)) == 200)
    assert echo.committed == 1


def test_timers(echo):
    with Peer(echo.address) as peer:
        started = time.monotonic()
        assert peer.ask(Sync()) == Sync.Answer(7)
        assert 0.04 < time.monotonic() - started < 5


class Leaver(Echo):
    def __init__(self, status, message):
        super().__init__()
        self.leave = status, message

    def received(self, connection, packet, request_id):
        self.load(connection, Load(4 << 20, 1), request_id)
        self.exit(*self.leave)
        self.load(connection, Load(5, 1), request_id)


@pytest.mark.parametrize('leave', [(0, 'bye'), (3, 'the cluster is another one')])
def test_exit_comes_after_the_effects_before(leave):
    with running(Leaver(*leave)) as (address, loop, status), Peer(address) as peer:
        peer.send(Ping(), 1)
        assert [len(packet.data) for packet, _id in peer.packets()] == [4 << 20]
        assert until(lambda: status) == [leave[0]]
        assert loop._logs[-1][1] == leave[1]


@pytest.mark.parametrize('fails', ['step', 'commit'])
def test_an_error_undoes_the_turn(fails):
    class Failing(Echo):
        def received(self, connection, packet, request_id):
            self.reply(connection, Ping.Answer(), request_id)
            self.durable()
            if fails == 'step':
                raise RuntimeError('broken\nin two lines')

        def commit(self):
            raise RuntimeError('broken\nin two lines')

    with running(Failing()) as (address, loop, status), Peer(address) as peer:
        peer.send(Ping(), 1)
        assert list(peer.packets()) == []
        assert until(lambda: status) == [1]
        assert loop._logs[-1][1] == 'stopped by an error: RuntimeError: broken in two lines'
