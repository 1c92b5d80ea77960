"""The node that neoctl is, step by step."""
import random

import pytest

from neo.cluster import events
from neo.ctl.node import Ctl
from neo.protocol.packets import DescribeCluster, Error, Identify, Ping, SetClusterState
from neo.protocol.types import ClusterState, ErrorCode

ADDRESS = '127.0.0.1', 9999


def asked(request):
    """A node that has asked; and a function that steps it, and gives its Exit or None."""
    node = Ctl(random.Random(1), ADDRESS, request, timeout=5)

    def step(event):
        node.step(1e9, event)
        effects = node.ready().effects
        step.sent = [effect for effect in effects if type(effect) is events.Send]
        return next((effect for effect in effects if type(effect) is events.Exit), None)

    node.start(1e9)
    node.ready()
    return node, step


def greeted(request):
    node, step = asked(request)
    step(events.Connected(1, ADDRESS))
    step(events.Received(1, Identify.Answer('A1', 'A0', None, None, 0, 0, 0, 0),
                         step.sent[0].request_id))
    assert step.sent[0].packet == request
    return node, step, step.sent[0].request_id


def test_an_order():
    node, step, request_id = greeted(SetClusterState(ClusterState.RUNNING))
    left = step(events.Received(1, SetClusterState.Answer('it runs'), request_id))
    assert left.status == 0 and node.result.message == 'it runs' and node.failure is None


def test_a_sign_of_life_while_the_answer_takes_its_time():
    node, step, request_id = greeted(SetClusterState(ClusterState.RUNNING))
    assert step(events.Received(1, Ping(), 7)) is None
    assert type(step.sent[0].packet) is Ping.Answer
    assert step(events.Received(1, SetClusterState.Answer('it runs'), request_id)).status == 0


def test_to_stop_is_done_when_the_admin_has_gone():
    node, step, request_id = greeted(SetClusterState(ClusterState.STOPPING))
    assert step(events.Received(1, SetClusterState.Answer('it stops'), request_id)) is None
    assert step(events.Closed(1, 'closed')).status == 0 and node.failure is None


def test_a_cluster_that_does_not_stop():
    node, step, request_id = greeted(SetClusterState(ClusterState.STOPPING))
    step(events.Received(1, SetClusterState.Answer('it stops'), request_id))
    assert step(events.TimerFired('timeout')).status == 1
    assert node.failure == 'it stops, and this has not ended within 5 s'


def test_another_node_is_no_admin():
    node, step = asked(DescribeCluster())
    step(events.Connected(1, ADDRESS))
    step(events.Received(1, Error(ErrorCode.REFUSED, 'this is a master'), step.sent[0].request_id))
    assert node.failure == 'no admin node at 127.0.0.1:9999: this is a master'


@pytest.mark.parametrize('event, said', [
    (events.ConnectFailed(ADDRESS, 'Connection refused'),
     'no admin node at 127.0.0.1:9999: Connection refused'),
    (events.TimerFired('timeout'), 'no answer from 127.0.0.1:9999 within 5 s')])
def test_nobody_is_there(event, said):
    node, step = asked(DescribeCluster())
    assert step(event).status == 1 and node.failure == said


def test_a_refusal_is_one_line():
    node, step, request_id = greeted(SetClusterState(ClusterState.RUNNING))
    left = step(events.Received(1, Error(ErrorCode.NOT_READY, 'no\nstorage'), request_id))
    assert left.status == 1 and node.failure == 'no storage'


def test_the_admin_closes_the_connection():
    node, step, request_id = greeted(SetClusterState(ClusterState.STOPPING))
    assert step(events.Closed(1, 'reset')).status == 1
    assert node.failure == ('the admin node at 127.0.0.1:9999 was lost, and this was done or not:'
                            ' look, and say it again: reset')


def test_an_order_that_is_not_answered_may_have_been_done():
    node, step, _ = greeted(SetClusterState(ClusterState.RUNNING))
    assert step(events.TimerFired('timeout')).status == 1
    assert node.failure == ('no answer from 127.0.0.1:9999 within 5 s, and this was done or not:'
                            ' look, and say it again')


def test_a_question_that_is_not_answered_was_none():
    node, step, _ = greeted(DescribeCluster())
    assert step(events.Closed(1, 'reset')).status == 1
    assert node.failure == 'the admin node at 127.0.0.1:9999 was lost: reset'
