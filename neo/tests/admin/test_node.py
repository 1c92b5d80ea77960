"""An admin node, step by step: what the master says goes in, what neoctl hears comes out."""
import random
import re

import pytest

from neo.admin.node import Admin
from neo.cluster import events, seek
from neo.protocol import limits
from neo.protocol.packets import (ClusterStateChanged, DescribeCluster, DescribeIds, Error,
                                  Identify, NodesChanged, Ping, SetClusterState, TableChanged)
from neo.protocol.types import ClusterState, ErrorCode, NodeInfo, NodeKind, NodeState

MASTER_ADDRESS = '10.0.0.1', 10000
M1 = NodeInfo('M1', NodeKind.MASTER, MASTER_ADDRESS, NodeState.RUNNING, '', '', '')
S1 = NodeInfo('S1', NodeKind.STORAGE, ('10.0.0.2', 1), NodeState.RUNNING, 'left', '', '')
S1_DOWN = NodeInfo('S1', NodeKind.STORAGE, None, NodeState.DOWN, '', '', '')
TABLE = 1, 4, 0, ((('S1', 0),),)
MASTER, CTL = 1, 2              # connections


class World:
    """Drives one admin node by hand; `effects` are those of the last step."""

    def __init__(self, *masters):
        self.now = 1e9
        self.admin = Admin(random.Random(1), 'test', masters or [MASTER_ADDRESS],
                           ('10.0.0.9', 9999), 'a')
        self.requests = 0
        self.admin.start(self.now)
        self.effects = self.admin.ready().effects

    def step(self, event):
        self.admin.step(self.now, event)
        batch = self.admin.ready()
        assert not batch.commit
        self.effects = batch.effects
        return self.effects

    def hear(self, connection, packet, request_id=0):
        return self.step(events.Received(connection, packet, request_id))

    def sent(self, connection=None):
        return [effect for effect in self.effects if type(effect) is events.Send
                and connection in (None, effect.connection)]

    def of(self, kind):
        return [effect for effect in self.effects if type(effect) is kind]

    # -- the master
    def join(self):
        self.step(events.Connected(MASTER, MASTER_ADDRESS))
        identify, = self.sent(MASTER)
        self.hear(MASTER, Identify.Answer('M1', 'A3', b'c' * 16, b'h' * 16, 5, 0, 9, 1),
                  identify.request_id)
        self.hear(MASTER, NodesChanged((M1, S1), ()))
        self.hear(MASTER, TableChanged(TABLE))
        self.hear(MASTER, ClusterStateChanged(ClusterState.RUNNING, ''))
        return identify.packet

    # -- neoctl
    def come(self, kind=NodeKind.CTL):
        self.step(events.Accepted(CTL))
        self.hear(CTL, Identify(kind, None, b'i' * 16, 'any', None, None, 0, '', None, 1.0, ''), 1)

    def ask(self, packet):
        """Send as neoctl; the answer, or the request that the master gets for it."""
        self.requests += 1
        self.hear(CTL, packet, 100 + self.requests)
        sent, = self.sent()
        if sent.connection == CTL:
            assert sent.request_id == 100 + self.requests
            return sent.packet
        return sent

    def answer(self, asked, packet):
        """The master answers; what neoctl is told then."""
        self.hear(MASTER, packet, asked.request_id)
        sent, = self.sent(CTL)
        assert sent.request_id == 100 + self.requests
        return sent.packet


@pytest.fixture
def world():
    return World()


def test_it_says_who_it_is(world):
    connect, = world.of(events.Connect)
    assert connect.address == MASTER_ADDRESS
    identify = world.join()
    assert (identify.kind, identify.cluster, identify.name, identify.address) == (
        NodeKind.ADMIN, 'test', 'a', ('10.0.0.9', 9999))


def test_it_describes_what_it_was_told(world):
    world.join()
    world.come()
    assert type(world.sent(CTL)[0].packet) is Identify.Answer
    asked = world.ask(DescribeCluster())
    assert type(asked.packet) is DescribeIds
    found = world.answer(asked, DescribeIds.Answer(b'c' * 16, 77, 8, (('S1', 5, None),)))
    assert (found.state, found.reason, found.cluster, found.primary) == (
        ClusterState.RUNNING, '', 'test', 'M1')
    assert (found.nodes, found.table, found.partitions) == ((M1, S1), TABLE, 1)
    assert (found.last_tid, found.last_oid) == (77, 8)
    assert found.filling == (('S1', 5, None),)


def test_nodes_change_and_go(world):
    world.join()
    world.come()
    client = NodeInfo('C7', NodeKind.CLIENT, None, NodeState.RUNNING, '', '', '')
    world.hear(MASTER, NodesChanged((S1_DOWN, client), ()))
    found = world.answer(world.ask(DescribeCluster()), DescribeIds.Answer(b'c' * 16, 0, 0, ()))
    assert found.nodes == (client, M1, S1_DOWN)
    world.hear(MASTER, NodesChanged((), ('C7',)))
    found = world.answer(world.ask(DescribeCluster()), DescribeIds.Answer(b'c' * 16, 0, 0, ()))
    assert found.nodes == (M1, S1_DOWN)


def test_without_ids_the_rest_is_described(world):
    world.join()
    world.come()
    found = world.answer(world.ask(DescribeCluster()), Error(ErrorCode.NOT_READY, 'no ids'))
    assert type(found) is DescribeCluster.Answer and found.last_tid == 0


def test_without_a_primary_it_says_so(world):
    world.come()
    world.step(events.ConnectFailed(MASTER_ADDRESS, 'Connection refused'))
    world.now += 7
    found = world.ask(DescribeCluster())
    reason = 'no primary master at 10.0.0.1:10000: Connection refused (for 7 s)'
    assert (found.state, found.reason, found.primary, found.nodes, found.table) == (
        ClusterState.RECOVERING, reason, None, (), None)
    refused = world.ask(SetClusterState(ClusterState.RUNNING))
    assert (refused.error, refused.message) == (ErrorCode.NOT_READY, reason)


def test_what_it_knew_of_a_lost_primary_is_not_told_any_more(world):
    world.join()
    world.come()
    world.step(events.Closed(MASTER, 'reset'))
    found = world.ask(DescribeCluster())
    assert (found.state, found.primary, found.nodes) == (ClusterState.RECOVERING, None, ())


def test_questions_to_a_lost_primary_are_answered(world):
    world.join()
    world.come()
    world.ask(SetClusterState(ClusterState.RUNNING))
    world.ask(DescribeCluster())
    world.step(events.Closed(MASTER, 'reset'))
    first, second = world.sent(CTL)
    assert first.packet.error == ErrorCode.NOT_READY and 'reset' in first.packet.message
    assert type(second.packet) is DescribeCluster.Answer
    assert 'no primary master' in second.packet.reason


def test_a_silent_primary_is_named_at_once(world):
    """Who asks is not kept waiting for what may come never; what is known is told."""
    world.join()
    world.come()
    asked = world.ask(DescribeCluster())
    order = world.ask(SetClusterState(ClusterState.RUNNING))
    while not world.sent(CTL):
        world.hear(CTL, Ping(), 7)
        world.now += limits.WATCH_INTERVAL
        world.step(events.TimerFired('peers'))
        assert world.now < 1e9 + limits.PEER_TIMEOUT
    found = world.sent(CTL)[-1].packet
    silent, storage = found.nodes
    assert found.primary == silent.id == 'M1' and storage == S1
    assert re.fullmatch('it says nothing, since 2001-09-09 01:4.* UTC', silent.condition)
    assert re.fullmatch(r'M1 at 10.0.0.1:10000 says nothing \(for \d+ s\)', found.reason)
    assert world.ask(DescribeCluster()) == found
    world.hear(MASTER, DescribeIds.Answer(b'c' * 16, 0, 0, ()), asked.request_id)
    assert not world.sent(CTL)                          # it was answered
    world.hear(MASTER, SetClusterState.Answer('done'), order.request_id)
    assert world.sent(CTL)[0].packet.message == 'done'
    found = world.answer(world.ask(DescribeCluster()), DescribeIds.Answer(b'c' * 16, 0, 0, ()))
    assert found.reason == '' and found.nodes == (M1, S1)


def test_it_comes_back_more_and_more_slowly_and_warns_once(world):
    delays, logs = [], 0
    for _ in range(6):
        world.step(events.ConnectFailed(MASTER_ADDRESS, 'refused'))
        timer, = world.of(events.SetTimer)
        delays.append(round(timer.at - world.now, 6))
        logs += len(world.of(events.Log))
        world.now = timer.at
        world.step(events.TimerFired(seek.TIMER))
        assert world.of(events.Connect)
    assert delays[:3] == [0.1, 0.2, 0.4] and delays[-1] == limits.RECONNECT_DELAY_MAX
    assert logs == 1
    world.join()
    world.step(events.Closed(MASTER, 'reset'))
    assert world.of(events.SetTimer)[0].at == world.now + limits.RECONNECT_DELAY


@pytest.mark.parametrize('error', [ErrorCode.ANOTHER_CLUSTER, ErrorCode.REFUSED])
def test_refused_for_good(world, error):
    world.step(events.Connected(MASTER, MASTER_ADDRESS))
    world.hear(MASTER, Error(error, 'this is another'), world.sent()[0].request_id)
    left, = world.of(events.Exit)
    assert left.status == 1 and left.message == (
        'refused by the master at 10.0.0.1:10000: this is another')


def test_a_stranger_in_the_place_of_one_of_several_masters():
    world = World(MASTER_ADDRESS, ('10.0.0.3', 10000))
    world.join()
    world.step(events.Closed(MASTER, 'reset'))
    world.step(events.TimerFired(seek.TIMER))
    world.step(events.Connected(MASTER + 2, ('10.0.0.3', 10000)))
    world.hear(MASTER + 2, Error(ErrorCode.ANOTHER_CLUSTER, 'a stranger'),
               world.sent()[0].request_id)
    assert not world.of(events.Exit)
    world.step(events.TimerFired(seek.TIMER))
    world.join()
    assert world.admin.primary.id == 'M1'


def test_refused_for_now(world):
    world.step(events.Connected(MASTER, MASTER_ADDRESS))
    world.hear(MASTER, Error(ErrorCode.NOT_READY, 'busy'), world.sent()[0].request_id)
    assert not world.of(events.Exit) and world.of(events.Close) and world.of(events.SetTimer)


@pytest.mark.parametrize('answer', [
    SetClusterState.Answer('done'), Error(ErrorCode.REFUSED, 'no')])
def test_orders_are_passed_on(world, answer):
    world.join()
    world.come()
    asked = world.ask(SetClusterState(ClusterState.RUNNING))
    assert asked.packet == SetClusterState(ClusterState.RUNNING)
    assert world.answer(asked, answer) == answer


def test_an_answer_for_somebody_who_has_left_is_dropped(world):
    world.join()
    world.come()
    asked = world.ask(SetClusterState(ClusterState.RUNNING))
    world.step(events.Closed(CTL, 'bored'))
    world.hear(MASTER, SetClusterState.Answer('done'), asked.request_id)
    assert not world.sent()


def test_only_neoctl_is_served(world):
    world.come(NodeKind.CLIENT)
    refusal, = world.sent(CTL)
    assert refusal.packet.error == ErrorCode.REFUSED


def test_it_leaves_after_the_master(world):
    """So that who waits for it can start the cluster again at once."""
    world.join()
    world.hear(MASTER, ClusterStateChanged(ClusterState.STOPPING, 'commits end'))
    world.hear(MASTER, ClusterStateChanged(ClusterState.STOPPING, 'storages leave'))
    world.hear(MASTER, NodesChanged((S1_DOWN,), ()))
    world.hear(MASTER, ClusterStateChanged(ClusterState.STOPPING, ''))
    assert not world.of(events.Exit)
    world.step(events.Closed(MASTER, 'closed'))
    assert world.of(events.Exit)[0].status == 0


def test_the_same_state_is_said_once(world):
    world.join()
    world.hear(MASTER, ClusterStateChanged(ClusterState.RUNNING, ''))
    assert not world.of(events.Log)


def test_it_does_not_wait_for_the_master_for_ever(world):
    world.join()
    world.hear(MASTER, ClusterStateChanged(ClusterState.STOPPING, ''))
    timer, = world.of(events.SetTimer)
    world.now = timer.at
    world.step(events.TimerFired(timer.name))
    assert world.of(events.Exit)[0].status == 0
