import logging
import os
import socket
import struct
import threading
import time

import pytest

from neo.cluster import events
from neo.local.process import poll
from neo.master.state import StateError
from neo.protocol import limits
from neo.protocol.codec import encode, preamble
from neo.protocol.packets import (Abort, Error, Invalidate, ListRecords, Load, Ping, Store, Sync,
                                  TakeOids)
from neo.protocol.types import ErrorCode, StoredRecord
from neo.runtime.addresses import ListenError
from neo.runtime.connection import Stream
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


class Generous(Echo):
    """Load of n: an answer of n objects, in one packet; Ping: a request; Sync: a notice."""

    def received(self, connection, packet, request_id):
        kind = type(packet)
        if kind is Load:
            record = StoredRecord(1, 1, 0, b'c' * 16, bytes(8 << 20), None)
            answer = ListRecords.Answer((record,) * packet.oid, None)
            self.reply(connection, answer, request_id)
        elif kind is Ping:
            self.reply(connection, Abort((1,)))
            self.reply(connection, Store(1, TOO_MANY, ()), 5)
        elif kind is Sync:
            self.reply(connection, Invalidate(1, TOO_MANY))


TOO_MANY = (b'x' * (64 << 20),) * 5     # bytes that take no memory until they are encoded


def test_an_answer_that_is_too_large_is_an_error_for_that_request():
    with running(Generous()) as (address, loop, status), Peer(address) as peer:
        peer.send(Load(40, 1), 1)
        peer.send(Load(2, 1), 2)
        answers = peer.packets()
        error, request_id = next(answers)
        assert request_id == 1 and error.error == ErrorCode.REFUSED
        assert 'ListRecords.Answer of ' in error.message and 'above the limit' in error.message
        answer, request_id = next(answers)
        assert request_id == 2 and len(answer.records) == 2
        assert loop._logs[-1] == (logging.CRITICAL, 'a packet is not sent: ' + error.message)


def test_a_request_that_is_too_large_is_refused_to_who_asks():
    node = Generous()
    with running(node) as (address, loop, status), Peer(address) as peer:
        peer.send(Ping(), 1)
        peer.receive()
        until(lambda: len(events_of(node, events.Received)) == 2)
        refusal = events_of(node, events.Received)[1]
        assert refusal.request_id == 5 and type(refusal.packet) is Error
        peer.send(Load(1, 1), 2)
        assert peer.receive()[1] == 2           # nothing else has come of it


def test_after_a_notice_that_is_too_large_the_peer_begins_anew():
    node = Generous()
    with running(node) as (address, loop, status), Peer(address) as peer:
        peer.send(Sync(), 1)
        assert list(peer.packets()) == []
        assert 'above the limit' in until(lambda: events_of(node, events.Closed))[0].reason


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


def test_a_state_that_is_not_written_undoes_the_turn_in_one_line():
    class Failing(Echo):
        def received(self, connection, packet, request_id):
            self.reply(connection, Ping.Answer(), request_id)
            self.durable()

        def commit(self):
            raise StateError('/x can\'t be written')

    with running(Failing()) as (address, loop, status), Peer(address) as peer:
        peer.send(Ping(), 1)
        assert list(peer.packets()) == []
        assert until(lambda: status) == [1]
        assert loop._logs[-1][1] == '/x can\'t be written'


def test_many_packets_in_one_read_that_need_no_answer():
    """More than a turn takes, and then nothing comes that could lead to another turn."""
    class Counts(Toy):
        def __init__(self):
            super().__init__()
            self.at = []

        def received(self, connection, packet, request_id):
            self.at.append(packet.tid)

    node, count = Counts(), 10 * limits.PACKETS_PER_TURN + 1
    with running(node) as (address, loop, status), Peer(address, greet=False) as peer:
        peer.socket.sendall(preamble() + b''.join(
            encode(Invalidate(tid, ())) for tid in range(count)))
        until(lambda: len(node.at) == count)
    assert node.at == list(range(count))


def test_a_frame_that_comes_slowly_shows_that_its_sender_lives(echo):
    with Peer(echo.address) as peer:
        assert peer.ask(Ping()) == Ping.Answer()
        frame = encode(Load.Answer(1, 1, None, 0, b'c' * 16, bytes(1 << 20), None), 1)
        peer.socket.sendall(frame[:1000])
        first = len(until(lambda: events_of(echo, events.Progress)))
        peer.socket.sendall(frame[1000:2000])
        until(lambda: len(events_of(echo, events.Progress)) > first)
        assert len(events_of(echo, events.Received)) == 1


def reads(peer, size):
    while size > 0:
        size -= len(peer.socket.recv(1 << 20))
    return True


def test_who_takes_a_long_answer_slowly_shows_that_it_lives():
    class Watching(Echo):
        """Has a timer, as each node has that watches its peers."""

        def starting(self):
            self.set_timer('watch', self.now)

        def timer(self, name):
            self.set_timer(name, self.now + 0.02)

    node = Watching()
    with running(node) as (address, loop, status), Peer(address, buffer=1 << 16) as peer:
        peer.send(Load(40 << 20, 1), 1)
        until(lambda: any(c.output for c in list(loop._connections.values())))
        for _ in range(3):
            node.trace.clear()
            # The system takes more from the node once a good part of what it holds is read: it may
            # hold many megabytes.
            assert any(reads(peer, 4 << 20) and poll(lambda: events_of(node, events.Progress), 1)
                       for _ in range(3))


# -- several addresses of a name ----------------------------------------------------------------
def full_listener():
    """Takes no connection: who connects waits.  Gives the sockets that keep it so."""
    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    listener.listen(0)
    sockets = [listener]
    for _ in range(3):                  # more than the backlog takes
        sockets.append(socket.socket())
        sockets[-1].setblocking(False)
        sockets[-1].connect_ex(listener.getsockname())
    return sockets


class Reaching(Toy):
    """Connects to one name again and again, till somebody answers a Ping."""

    def __init__(self, accepts=True):
        super().__init__()
        self.accepts = accepts

    def starting(self):
        self.connect(('name', 1))

    def step(self, now, event):
        super().step(now, event)
        kind = type(event)
        if kind is events.Connected:
            self.reply(event.connection, Ping(), 1)
        elif kind in (events.Closed, events.ConnectFailed):
            self.connect(('name', 1))

    def received(self, connection, packet, request_id):
        if self.accepts:
            self.batch.effects.append(events.Raise(connection, limits.MAX_FRAME))
        self.exit(0)


def names(*places):
    """A lookup by which each name stands for these socket addresses."""
    candidates = [(socket.AF_INET6 if ':' in place[0] else socket.AF_INET, place)
                  for place in places]
    return lambda address, done: done(list(candidates), None)


def test_the_second_address_of_a_name_when_the_first_does_not_answer(echo):
    sockets = full_listener()
    started = time.monotonic()
    node = Reaching()
    assert Loop(Records(), names(sockets[0].getsockname(), echo.address)).run(node) == 0
    assert not events_of(node, events.ConnectFailed)
    assert time.monotonic() - started < limits.CONNECT_TIMEOUT
    for sock in sockets:
        sock.close()


def test_the_second_address_when_something_else_listens_at_the_first(echo):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        place = other.getsockname()

        def hang_up():
            while True:
                try:
                    other.accept()[0].close()
                except OSError:
                    return
        threading.Thread(target=hang_up, daemon=True).start()
        node = Reaching()
        assert Loop(Records(), names(place, echo.address)).run(node) == 0
        assert len(events_of(node, events.Connected)) == 2
        other.shutdown(socket.SHUT_RDWR)


def test_the_address_where_it_went_well_is_the_first_one_next_time(echo):
    class Again(Reaching):
        def received(self, connection, packet, request_id):
            super().received(connection, packet, request_id)
            self.batch.effects.pop()                    # it does not leave yet
            if len(events_of(self, events.Connected)) == 3:
                self.exit(0)
            else:
                self.hang_up(connection)
                self.connect(('name', 1))

    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        tried = names(unused.getsockname(), echo.address)
        node = Again()
        assert Loop(Records(), tried).run(node) == 0
        assert len(events_of(node, events.Connected)) == 3


def test_a_name_server_that_does_not_answer_keeps_nobody_waiting(echo):
    """And what it says later does no harm."""
    asked, lookup = [], names(echo.address)

    def slow(address, done):
        asked.append(done)
        if len(asked) > 1:
            lookup(address, asked[0])
            lookup(address, done)
    node = Reaching()
    started = time.monotonic()
    assert Loop(Records(), slow).run(node) == 0
    failed, = events_of(node, events.ConnectFailed)
    assert 'look up' in failed.reason and len(events_of(node, events.Connected)) == 1
    assert time.monotonic() - started < 2 * limits.CONNECT_TIMEOUT


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'], indirect=True)
def test_a_name_that_stands_for_both_kinds_of_addresses_is_served_at_one(host):
    with running(Echo(), host) as ((_, port), loop, status):
        localhost = names(('::1', port), ('127.0.0.1', port))
        assert Loop(Records(), localhost).run(Reaching()) == 0


# -- another protocol on another port -------------------------------------------------------------
class Lines(Stream):
    """Gives each line back in capitals, till `bye`."""

    __slots__ = 'data',

    def __init__(self, number, socket):
        super().__init__(number, socket)
        self.data = b''

    def received(self, data):
        self.data += data

    def happened(self, now):
        *lines, self.data = self.data.split(b'\n')
        for line in lines:
            self.send(line.upper() + b'\n')
            if line == b'bye':
                self.ends = True
        return (), 'a long line' if len(self.data) > 1000 else None

    def refuse(self, reason):
        self.send(b'!\n')


def test_another_protocol_on_another_port():
    node, loop, status = Echo(), Loop(Records()), []
    address = loop.listen('127.0.0.1', 0)
    lines = loop.listen('127.0.0.1', 0, Lines)
    thread = threading.Thread(target=lambda: status.append(loop.run(node)), daemon=True)
    thread.start()
    with Peer(address) as peer, Peer(lines, greet=False) as page:
        assert peer.ask(Ping()) == Ping.Answer()
        page.socket.sendall(b'hello\nwor')
        assert page.socket.recv(100) == b'HELLO\n'
        page.socket.sendall(b'ld\nbye\nmore')
        file = page.socket.makefile('rb')
        assert list(file) == [b'WORLD\n', b'BYE\n']
        file.close()
        with Peer(lines, greet=False) as page, page.socket.makefile('rb') as file:
            page.socket.sendall(b'x' * 2000)
            assert list(file) == [b'!\n']
        with Peer(lines, greet=False) as page:
            pass                                # it is lost
        assert peer.ask(Ping()) == Ping.Answer()
    until(lambda: events_of(node, events.Closed))
    loop.stop()
    thread.join(10)
    assert status == [0]
    assert [type(event) for event in node.trace if type(event) in (
        events.Accepted, events.Closed)] == [events.Accepted, events.Closed]
