"""Who is there: silence, signs of life, and those who do not say who they are."""
import random

import pytest

from neo.cluster import events
from neo.cluster.node import Node
from neo.protocol import limits
from neo.protocol.packets import Error, Identify, Ping, Sync
from neo.protocol.types import NodeKind

IDENTIFY = Identify(NodeKind.CLIENT, None, b'i' * 16, 'cluster', None, None, 0, '', None, 0.0,
                    '')


class Host(Node):
    """Accepts who comes, but those in `waiting`."""

    kind = NodeKind.MASTER

    def __init__(self):
        super().__init__(random.Random(1))
        self.told = []
        self.waiting = set()
        self.start(0)

    def identify(self, peer, packet, request_id):
        if peer.connection not in self.waiting:
            self.accept(peer, NodeKind.CLIENT, 'C%d' % peer.connection)

    def waits(self, peer):
        return peer.connection in self.waiting

    def silent(self, peer):
        self.told.append(('silent', str(peer), self.now))

    def heard_again(self, peer):
        self.told.append(('heard', str(peer), self.now))

    def lost(self, peer, reason):
        self.told.append(('lost', reason, self.now))

    # -- for tests ------------------------------------------------------------------------
    def pass_time(self, seconds, happens=None):
        """Let the watch fire when it is due, and `happens()` after each time; the effects."""
        end, effects = self.now + seconds, self.ready().effects
        while self.now < end:
            self.step(min(end, self.now + limits.WATCH_INTERVAL), events.TimerFired('peers'))
            if happens is not None:
                happens()
            effects += self.ready().effects
        return effects

    def receive(self, connection, packet, request_id=0):
        self.step(self.now, events.Received(connection, packet, request_id))


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def identified(host):
    """Connection 1 is that of C1."""
    host.step(0, events.Accepted(1))
    host.receive(1, IDENTIFY, 1)
    host.ready()
    return host


def of(kind, effects):
    return [effect for effect in effects if type(effect) is kind]


def pings(effects):
    return [effect for effect in of(events.Send, effects) if type(effect.packet) is Ping]


def closed(effects):
    return [effect.connection for effect in of(events.Close, effects)]


def test_silence_is_asked_about_then_told_then_the_end(identified):
    host = identified
    effects = host.pass_time(limits.SILENCE_TOLD)
    assert len(pings(effects)) == 1 and not closed(effects)
    log, = of(events.Log, effects)
    assert log.message == ('C1 has said nothing for 5 s: it is stopped, cut off, or waits for its '
                           'disk')
    assert host.told == [('silent', 'C1', limits.SILENCE_TOLD)]
    assert not closed(host.pass_time(limits.PEER_TIMEOUT - limits.SILENCE_TOLD))
    assert closed(host.pass_time(limits.WATCH_INTERVAL)) == [1]
    assert [what for what, *_ in host.told] == ['silent', 'lost']


def test_it_is_told_within_seconds_and_a_slow_fsync_is_no_death():
    """What people are promised, whoever changes the numbers."""
    assert limits.SILENCE_TOLD + limits.WATCH_INTERVAL < 8
    assert limits.PING_INTERVAL + limits.WATCH_INTERVAL < limits.SILENCE_TOLD
    assert limits.PEER_TIMEOUT >= 20


def test_who_is_heard_again_is_told_once(identified):
    host = identified
    host.pass_time(limits.SILENCE_TOLD + 3)
    host.receive(1, Ping(), 9)
    host.receive(1, Ping(), 10)
    assert [log.message for log in of(events.Log, host.ready().effects)] == ['C1 is heard again']
    assert [what for what, *_ in host.told] == ['silent', 'heard']
    host.pass_time(limits.SILENCE_TOLD)
    assert [what for what, *_ in host.told] == ['silent', 'heard', 'silent']


def test_who_answers_pings_is_left_alone_at_one_ping_per_interval(identified):
    host = identified
    asked = [0]

    def answer():
        peer = host.peers[1]
        for number in range(asked[0] + 1, peer.last_request + 1):
            host.receive(1, Ping.Answer(), number)
        asked[0] = peer.last_request

    effects = host.pass_time(100, answer)
    assert not closed(effects) and not host.told
    assert len(pings(effects)) <= 100 / limits.PING_INTERVAL


def test_a_large_frame_on_its_way_is_a_sign_of_life(identified):
    host = identified
    effects = host.pass_time(100, lambda: host.step(host.now, events.Progress(1)))
    assert not closed(effects) and not host.told and not pings(effects)
    host.pass_time(limits.SILENCE_TOLD)
    host.step(host.now, events.Progress(1))
    assert [what for what, *_ in host.told] == ['silent', 'heard']
    host.step(host.now, events.Progress(77))        # gone meanwhile


def test_nobody_is_blamed_for_what_was_not_heard_while_this_process_stood_still(identified):
    host = identified
    host.pass_time(1)
    host.step(host.now + 500, events.TimerFired('peers'))
    effects = host.pass_time(1)
    assert not closed(effects) and not host.told
    assert closed(host.pass_time(limits.PEER_TIMEOUT)) == [1]


# -- who does not say who it is -----------------------------------------------------------------
def test_who_does_not_identify(host):
    host.step(0, events.Accepted(1))
    host.step(0, events.Accepted(2))
    host.receive(2, Ping(), 1)          # that does not say it
    assert not closed(host.pass_time(limits.IDENTIFY_TIMEOUT))
    assert closed(host.pass_time(limits.WATCH_INTERVAL)) == [1, 2]


def test_who_is_kept_waiting_stays_as_long_as_it_lives(host):
    host.waiting = {1, 2}
    for connection in 1, 2:
        host.step(0, events.Accepted(connection))
        host.receive(connection, IDENTIFY, 1)
    effects = host.pass_time(2 * limits.PEER_TIMEOUT, lambda: host.receive(1, Ping(), 5))
    assert closed(effects) == [2]


def test_who_was_called_and_is_mute(host):
    host.step(0, events.Connected(1, ('m', 1)))
    host.step(0, events.Connected(2, ('m', 2)))
    effects = host.pass_time(limits.IDENTIFY_TIMEOUT + limits.WATCH_INTERVAL,
                             lambda: host.step(host.now, events.Progress(2)))
    assert closed(effects) == [1]       # the other lets us wait, and lives


def test_who_it_is_is_said_once(host):
    host.waiting = {1}
    host.step(0, events.Accepted(1))
    host.receive(1, IDENTIFY, 1)
    host.receive(1, IDENTIFY, 2)
    assert closed(host.ready().effects) == [1]
    assert host.told[0][:2] == ('lost', 'Identify was not expected')


def test_many_strangers_take_the_place_of_the_oldest_of_them(host):
    most = limits.MAX_UNIDENTIFIED
    host.waiting = set(range(2, most + 1))
    for connection in range(1, most + 1):
        host.step(0, events.Accepted(connection))
        if connection in host.waiting:
            host.receive(connection, IDENTIFY, 1)
    assert not closed(host.ready().effects)
    host.step(0, events.Accepted(most + 1))         # 1 has not said who it is
    assert closed(host.ready().effects) == [1]
    host.receive(most + 1, IDENTIFY, 1)             # room again: it is accepted
    host.step(0, events.Accepted(most + 2))
    host.step(0, events.Accepted(most + 3))
    assert closed(host.ready().effects) == [most + 2]
    host.waiting.add(most + 3)
    host.step(0, events.Accepted(most + 4))         # all others are rightly here
    assert closed(host.ready().effects) == [most + 4]
    host.step(0, events.Closed(5, 'gone'))
    host.step(0, events.Accepted(most + 5))
    assert not closed(host.ready().effects)
    assert len(host.strangers) == most


def test_who_says_what_before_it_says_who_it_is(host):
    host.step(0, events.Accepted(1))
    host.receive(1, Sync(), 1)
    effects = host.ready().effects
    assert closed(effects) == [1]
    assert [type(effect.packet) for effect in of(events.Send, effects)] == [Error]
