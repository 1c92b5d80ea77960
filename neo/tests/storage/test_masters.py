"""Which of several masters a storage follows, and what it says of that to the others."""
import pytest

from neo.protocol.limits import CANDIDATE_TIME
from neo.protocol.packets import (Canvass, ClusterStateChanged, ConfirmTerm, Error, RequestTerm,
                                  WriteTable)
from neo.protocol.types import ClusterState, ErrorCode

from .script import CANDIDATE, CLUSTER_ID, HISTORY, MASTER_ADDRESS, PARTITIONS, Script, table

OTHER = '127.0.0.1', 10001


@pytest.fixture
def script():
    """It has joined two, and has promised its term to one of them."""
    script = Script(masters=(MASTER_ADDRESS, OTHER))
    script.first, script.second = script.join(), script.join(address=OTHER)
    assert script.first.ask(RequestTerm(1, CANDIDATE)).granted
    return script


def led(master):
    return master.ask(Canvass()).led


def test_a_candidate_that_does_not_get_on_is_in_nobody_s_way(script):
    assert led(script.second) and not led(script.first)
    script.wait(CANDIDATE_TIME + 1)
    assert not led(script.second)


def test_a_primary_is_as_long_as_it_is_there(script):
    assert script.first.ask(WriteTable(
        CLUSTER_ID, HISTORY, PARTITIONS, table(),
        [('S1', script.node.identity, '', None, True)])).key == (1, 1)
    script.wait(10 * CANDIDATE_TIME)
    assert led(script.second)
    script.first.leave()
    assert not led(script.second)


def test_one_that_recovers_is_none(script):
    script.first.say(ClusterStateChanged(ClusterState.RECOVERING, 'test'))
    assert not led(script.second)


def test_who_is_promised_a_higher_term_is_followed(script):
    assert script.second.ask(RequestTerm(2, b'o' * 16)).granted
    assert not script.first.open and not led(script.second)
    assert script.second.ask(ConfirmTerm(2)).confirmed
    assert not script.second.ask(ConfirmTerm(1)).confirmed


@pytest.mark.parametrize('led', [True, False])
def test_a_stranger_in_the_place_of_one_of_them(script, led):
    """Who has served the cluster is not stopped by it: the others may be right."""
    if led:
        assert script.first.ask(WriteTable(
            CLUSTER_ID, HISTORY, PARTITIONS, table(),
            [('S1', script.node.identity, '', None, True)])).key == (1, 1)
    script.second.leave()
    script.first.leave()
    stranger = script.master(OTHER)
    stranger.say(Error(ErrorCode.ANOTHER_CLUSTER, 'this one is called other'), 1)
    assert (script.exit is None) == led
    if led:
        assert any('this one is called other' in line for line in script.logged)
        script.join()
