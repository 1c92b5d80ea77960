"""However a request ends, its context learns of it, once."""
import random

import pytest

from neo.cluster import events
from neo.cluster.context import Context, Gathering
from neo.cluster.node import Node, handles
from neo.protocol import limits
from neo.protocol.packets import Error, Ping, Sync
from neo.protocol.types import ErrorCode, NodeKind


class Notes(Context):
    def __init__(self):
        self.ends = []

    def answered(self, node, peer, answer):
        self.ends.append(answer)

    def refused(self, node, peer, error):
        self.ends.append(error.message)

    def lost(self, node, peer):
        self.ends.append('lost')


@handles(Sync.Answer, Error, sender=NodeKind.MASTER)
def handled(node, peer, packet, context):
    node.handled.append((packet, context))


class Asker(Node):
    """Connected to some masters."""

    kind = NodeKind.CLIENT
    handlers = {key: handled for key in handled.handled}

    def __init__(self, count=1):
        super().__init__(random.Random(1))
        self.lost_peers = []
        self.handled = []
        for number in range(1, count + 1):
            self.step(0, events.Connected(number, ('m', number)))
            self.peers[number].kind = NodeKind.MASTER

    def lost(self, peer, reason):
        self.lost_peers.append(peer)

    def answer_from(self, peer, packet, request_id=1):
        self.step(0, events.Received(peer.connection, packet, request_id))


@pytest.fixture
def node():
    return Asker()


def asked(node, context):
    peer = node.peers[1]
    node.ask(peer, Sync(), context)
    return peer


def test_an_answer(node):
    notes = Notes()
    peer = asked(node, notes)
    node.answer_from(peer, Sync.Answer(5))
    node.step(0, events.Closed(1, 'gone'))
    assert notes.ends == [Sync.Answer(5)]


def test_a_refusal(node):
    notes = Notes()
    node.answer_from(asked(node, notes), Error(ErrorCode.REFUSED, 'no'))
    assert notes.ends == ['no']


def test_what_a_context_does_not_take_the_handlers_do(node):
    plain = Context()
    peer = asked(node, plain)
    node.answer_from(peer, Sync.Answer(5))
    asked(node, plain)
    node.answer_from(peer, Error(ErrorCode.REFUSED, 'no'), 2)
    asked(node, plain)
    node.step(0, events.Closed(1, 'gone'))
    assert node.handled == [(Sync.Answer(5), plain), (Error(ErrorCode.REFUSED, 'no'), plain)]


def lose(node, peer):
    node.step(0, events.Closed(peer.connection, 'gone'))


def send_nonsense(node, peer):
    node.answer_from(peer, Ping.Answer(), 77)


def be_silent(node, peer):
    for second in range(int(2 * limits.PEER_TIMEOUT)):
        node.step(second, events.TimerFired('peers'))


def be_closed(node, peer):
    node.close(peer)
    node.ready()            # nothing else may happen for long


@pytest.mark.parametrize('end', [lose, send_nonsense, be_silent, be_closed])
def test_the_peer_is_lost(node, end):
    one, two = Notes(), Notes()
    peer = asked(node, one)
    asked(node, None)
    asked(node, two)
    end(node, peer)
    end(node, peer)
    assert one.ends == two.ends == ['lost']
    assert node.lost_peers == ([] if end is be_closed else [peer])


def test_the_peer_was_lost_before(node):
    peer = node.peers[1]
    lose(node, peer)
    node.ready()
    notes = Notes()
    node.ask(peer, Sync(), notes)
    assert notes.ends == []
    assert not node.ready().effects
    assert notes.ends == ['lost']


def test_the_node_hears_of_the_loss_before_the_contexts_and_they_may_ask_on():
    class Persistent(Context):
        def __init__(self):
            self.told = []

        def lost(self, node, peer):
            self.told.append((peer, list(node.lost_peers)))
            if node.peers:
                node.ask(next(iter(node.peers.values())), Sync(), self)

    node, context = Asker(3), Persistent()
    peers = list(node.peers.values())
    node.ask(peers[0], Sync(), context)
    for peer in peers:
        lose(node, peer)
    assert context.told == [(peers[0], peers[:1]), (peers[1], peers[:2]), (peers[2], peers)]


# -- several peers ----------------------------------------------------------------------------
def answer(node, peer):
    node.answer_from(peer, Sync.Answer(peer.connection))
    return Sync.Answer(peer.connection)


def refuse(node, peer):
    node.answer_from(peer, Error(ErrorCode.NOT_READY, 'no'))
    return Error(ErrorCode.NOT_READY, 'no')


@pytest.mark.parametrize('seed', range(30))
def test_all_have_answered_or_are_lost(seed):
    """Any end for each peer, in any order: told once, when the last one is known."""
    rnd = random.Random(seed)
    node, told = Asker(rnd.randint(1, 4)), []
    peers = list(node.peers.values())
    if rnd.random() < .2:
        lose(node, peers[0])                # it is gone when it is asked
    gathering = Gathering(node, {peer: Sync() for peer in peers},
                          lambda node, answers: told.append(dict(answers)))
    node.ready()
    expected = dict.fromkeys(peers)
    for peer in rnd.sample(peers, len(peers)):
        if peer.connection in node.peers:
            assert told == [] and peer in gathering.waiting
            expected[peer] = rnd.choice([answer, refuse, lose, send_nonsense, be_closed])(
                node, peer)
    assert told == [expected] and list(told[0]) == peers and not gathering.waiting
    for peer in peers:
        lose(node, peer)
    assert len(told) == 1


def test_nobody_to_be_asked(node):
    told = []
    Gathering(node, {}, lambda node, answers: told.append(answers))
    assert told == [{}]


def test_a_gathering_that_is_not_wanted_any_more(node):
    told = []
    peer = node.peers[1]
    gathering = Gathering(node, {peer: Sync()}, lambda node, answers: told.append(answers))
    gathering.cancel()
    answer(node, peer)
    assert told == []


def test_the_last_answer_may_lead_to_the_next_question(node):
    told = []
    peer = node.peers[1]

    def first(node, answers):
        told.append(answers[peer])
        Gathering(node, {peer: Sync()}, lambda node, answers: told.append(answers[peer]))

    Gathering(node, {peer: Sync()}, first)
    answer(node, peer)
    node.answer_from(peer, Sync.Answer(9), 2)
    assert told == [Sync.Answer(1), Sync.Answer(9)]
