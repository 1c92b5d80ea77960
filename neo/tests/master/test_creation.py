"""When a new cluster is created, and when not."""
import pytest

from neo.protocol.packets import (Error, RequestTerm, SetClusterState, Settle, TableInForce,
                                  WriteTable)
from neo.protocol.types import ClusterState, ErrorCode

from .conversation import Conversation, grant, table, write

RUNNING = ClusterState.RUNNING
KNOWS = {'cluster_id': b'c' * 16, 'history': b'h' * 16}


def order(admin):
    return admin.say(SetClusterState(RUNNING))


def test_not_before_all_who_have_joined_have_answered():
    """One of them may know a cluster, and say so a moment later."""
    talk = Conversation(autostart=1)
    empty, other = talk.storage(), talk.storage()
    grant(empty)
    assert not empty.hears(WriteTable)
    assert 'an answer of S2' in talk.node.reason
    grant(other)
    assert empty.hears(WriteTable) and other.hears(WriteTable)


def test_not_by_an_operator_either():
    talk = Conversation()
    empty, admin = talk.storage(), talk.admin()
    grant(empty)
    late = talk.storage()
    order(admin)
    assert not empty.hears(WriteTable)
    late.leave()
    assert empty.hears(WriteTable)


@pytest.mark.parametrize('first', ['old', 'empty'])
def test_not_while_somebody_knows_a_cluster(first):
    talk = Conversation(autostart=1)
    if first == 'old':
        old = talk.storage(id='S1', identity=b'\1' * 16, term=3, **KNOWS)
        empty = talk.storage()
    else:
        empty = talk.storage()
        old = talk.storage(id='S1', identity=b'\1' * 16, term=3, **KNOWS)
    if not empty.open:                          # it was called S1 meanwhile, and comes back
        empty = talk.storage(identity=empty.identity)
    grant(empty)
    admin = talk.admin()
    order(admin)
    assert admin.take(Error)[0].error == ErrorCode.NOT_READY
    assert not empty.hears(WriteTable)
    grant(old, table('S1'), members=[('S1', b'\1' * 16, '', None, True)])
    assert write(old).cluster_id == KNOWS['cluster_id']


def test_who_comes_before_the_table_is_in_force_and_knows_a_cluster_stops_it():
    talk = Conversation(autostart=1)
    empty = talk.storage()
    grant(empty)
    new, request_id = empty.last(WriteTable)
    old = talk.storage(id='S1', identity=b'\1' * 16, term=3, **KNOWS)
    empty.say(WriteTable.Answer(new.table[:2]), request_id)
    assert not empty.hears(TableInForce)
    grant(old, table('S1'), members=[('S1', b'\1' * 16, '', None, True)])
    written = write(old)
    assert written.cluster_id == KNOWS['cluster_id'] != new.cluster_id
    old.reply(Settle, 0)
    assert talk.node.phase == RUNNING


def test_a_cluster_of_which_no_table_was_in_force_was_not_created():
    """Its storages tell so: they are empty, and belong to whatever cluster there is."""
    talk = Conversation(autostart=1)
    empty = talk.storage(id='S1')
    grant(empty, table('S1', term=1, ptid=1), was_in_force=False,
          members=[('S1', empty.identity, '', None, True)])
    packet = write(empty)
    assert packet.table.ptid == 1 and empty.hears(TableInForce)


def test_a_storage_lost_while_the_first_table_is_written_changes_nothing():
    talk = Conversation(autostart=2)
    first, second = talk.storage(), talk.storage()
    grant(first), grant(second)
    one = write(first)
    second.leave()
    assert talk.node.phase == ClusterState.RECOVERING
    second = talk.storage(identity=second.identity)
    grant(first, one.table, was_in_force=False, members=one.members), grant(second)
    two = write(first)
    assert two.cluster_id != one.cluster_id and write(second) == two
    assert {member.id for member in two.members} == {'S1', 'S2'}


def test_a_stray_that_came_first_and_left_does_not_lock_the_others_out():
    talk = Conversation()
    stray = talk.storage(id='S1', identity=b'x' * 16, cluster_id=b'x' * 16, history=b'y' * 16)
    stray.leave()                               # before it has said anything
    first, second = talk.known(1), talk.known(2)
    write(first), write(second)
    assert first.hears(Settle)


def test_a_stray_without_a_table_does_not_make_the_master_fail():
    talk = Conversation(autostart=1)
    stray = talk.storage(id='S1', identity=b'x' * 16, cluster_id=b'x' * 16, history=b'y' * 16)
    empty = talk.storage()
    grant(stray), grant(empty)
    assert 'S1' in talk.node.reason and 'knows a cluster' in talk.node.reason
    stray.leave()
    # By itself nothing is created where a cluster is known of; an operator may know better.
    assert not empty.hears(WriteTable)
    order(talk.admin())
    assert empty.hears(WriteTable)


def test_a_refused_storage_leaves_no_trace():
    talk = Conversation(autostart=1)
    refused = talk.storage(address=None, id='S1', **KNOWS)
    assert refused.hears(Error)
    refused = talk.storage(id='A7', **KNOWS)
    assert 'A7 is no id of a storage' in refused.take(Error)[0].message
    empty = talk.storage()
    grant(empty)
    assert empty.hears(WriteTable)


def test_orders_that_can_not_be_done_are_refused_in_the_end():
    talk = Conversation()
    empty, late, admin = talk.storage(), talk.storage(), talk.admin()
    grant(empty)
    asked = order(admin)
    assert not admin.hears(Error)
    late.leave()
    old = talk.known(1)
    assert not old.hears(Error)
    assert talk.node.phase == ClusterState.RECOVERING
    error, request_id = admin.take(Error)
    assert request_id == asked and error.error == ErrorCode.NOT_READY


def test_the_master_asks_for_one_term_only_while_storages_come():
    talk = Conversation()
    storages = [talk.storage() for _ in range(20)]
    for storage in storages:
        grant(storage)
    assert talk.node.term == 1
    assert not any(storage.hears(RequestTerm) for storage in storages)
