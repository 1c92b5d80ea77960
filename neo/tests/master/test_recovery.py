"""From nothing to a running cluster and back, step by step."""
import pytest

from neo.protocol.packets import (ClusterStateChanged, Error, Identify, Lock, NodesChanged,
                                  RequestTerm, SetClusterState, Settle, TableChanged,
                                  TableInForce, Unlock, WriteTable)
from neo.protocol.types import CellState, ClusterState, ErrorCode, NodeState

from .conversation import Conversation, grant, running, write

RUNNING = ClusterState.RUNNING
UP = int(CellState.UP_TO_DATE)


def table(*storages, term=3, ptid=5, replicas=0, partitions=2):
    return term, ptid, replicas, tuple(tuple((s, UP) for s in storages)
                                       for _ in range(partitions))


def test_a_new_cluster_waits_for_the_operator():
    talk = Conversation(partitions=2)
    storage, admin = talk.storage(), talk.admin()
    grant(storage)
    assert talk.node.phase == ClusterState.RECOVERING
    assert 'neoctl start' in talk.node.reason
    asked = admin.say(SetClusterState(RUNNING))
    assert not admin.hears(SetClusterState.Answer)
    packet = write(storage)
    assert packet.table == (1, 1, 0, ((('S1', UP),), (('S1', UP),)))
    assert packet.members == (('S1', storage.identity),)
    assert storage.take(TableInForce)[0].key == (1, 1)
    storage.reply(Settle, 0)
    assert talk.node.phase == RUNNING
    assert admin.take(SetClusterState.Answer)[1] == asked
    assert storage.take(ClusterStateChanged)[0].state == RUNNING


def test_replicas_need_storages():
    talk = Conversation(replicas=1)
    storage, admin = talk.storage(), talk.admin()
    grant(storage)
    admin.say(SetClusterState(RUNNING))
    error, _ = admin.take(Error)
    assert error.error == ErrorCode.NOT_READY and 'at least 2 storages' in error.message
    assert not storage.hears(WriteTable)


def test_clients_wait_until_it_runs():
    talk = Conversation(partitions=2, autostart=1)
    client = talk.client()
    assert client.id is None
    storage = talk.storage()
    grant(storage)
    write(storage)
    # It is told why it has to wait, and no more.
    assert client.take(ClusterStateChanged)[0].reason == 'no storage is there'
    assert client.take(ClusterStateChanged)[0].state == ClusterState.VERIFYING
    assert not client.heard
    storage.reply(Settle, 0)
    assert client.take(Identify.Answer)[0].your_id == 'C1'
    assert [n[0] for n in client.take(NodesChanged)[0].nodes] == ['S1']
    assert client.take(TableChanged)[0].table == talk.node.table.pack()
    # The storage hears of the client before the client can be there.
    told = [node[0] for packet, _ in storage.heard if type(packet) is NodesChanged
            for node in packet.nodes]
    assert 'C1' in told


def known_storage(talk, number, unfinished=(), last_tid=0, mark=0, storages=('S1', 'S2')):
    members = tuple((s, bytes([int(s[1:])]) * 16) for s in storages)
    storage = talk.storage(identity=bytes([number]) * 16, id='S%d' % number,
                           cluster_id=b'c' * 16, history=b'h' * 16, term=3)
    grant(storage, table(*storages), (3, 5), members, last_tid, mark, unfinished)
    return storage


def test_a_known_cluster_waits_for_all_its_storages():
    talk = Conversation()
    first = known_storage(talk, 1)
    assert talk.node.reason == 'waiting for S2'
    assert not first.hears(WriteTable)
    second = known_storage(talk, 2)
    for storage in first, second:
        assert write(storage).table[:2] == (4, 6)       # above all promised before
    assert first.hears(Settle) and second.hears(Settle)


def test_what_is_locked_anywhere_is_locked_everywhere_and_unlocked_after():
    talk = Conversation()
    first = known_storage(talk, 1, last_tid=1000, unfinished=(
        (50, 1000, 1000, ()), (51, None, None, ())))
    second = known_storage(talk, 2, unfinished=((50, None, None, ()),), last_tid=900)
    write(first), write(second)
    assert first.reply(Settle, 1000).keep == ((50, 1000, 1000, ()),)
    assert not first.hears(Unlock)
    assert second.reply(Settle, 1000).keep == ((50, 1000, 1000, ()),)
    assert first.take(Unlock)[0].ttid == second.take(Unlock)[0].ttid == 50
    assert talk.node.transactions.last_told == 1000


def test_a_storage_lost_while_settling_starts_over_with_another_term():
    talk = Conversation()
    first = known_storage(talk, 1, unfinished=((50, 1000, 1000, ()),))
    second = known_storage(talk, 2, unfinished=((50, None, None, ()),))
    write(first), write(second)
    first.reply(Settle, 1000)
    second.leave()
    assert talk.node.phase == ClusterState.RECOVERING
    assert not first.hears(Unlock)              # it can still tell the tid
    assert first.heard[-1][0].term == 5


def test_an_answer_of_an_earlier_term_is_not_counted():
    talk = Conversation()
    first = known_storage(talk, 1)
    second = known_storage(talk, 2)
    write(first)
    packet, request_id = second.take(WriteTable)
    first.leave()
    second.say(WriteTable.Answer(packet.table[:2]), request_id)
    assert talk.node.phase == ClusterState.RECOVERING
    assert not second.hears(Settle)


def test_a_storage_that_does_not_know_its_id_is_known_by_its_identity():
    talk = Conversation()
    second = talk.storage(identity=b'\2' * 16)      # was written nothing when the others were
    grant(second)
    assert second.id == 'S1'                        # until the table is known
    first = talk.storage(identity=b'\1' * 16, id='S1', cluster_id=b'c' * 16, history=b'h' * 16)
    assert first.id == 'S1' and not second.open
    grant(first, table('S1', 'S2'), None, (('S1', b'\1' * 16), ('S2', b'\2' * 16)))
    again = talk.storage(identity=b'\2' * 16)
    assert again.id == 'S2'


def test_a_storage_of_another_cluster_is_refused():
    talk, _ = running()
    stranger = talk.storage(cluster_id=b'x' * 16, history=b'y' * 16)
    assert stranger.take(Error)[0].error == ErrorCode.ANOTHER_CLUSTER
    stranger = talk.arrive(1, cluster='other')
    assert 'cluster test, not of other' in stranger.take(Error)[0].message


def test_a_newcomer_gets_the_table_and_no_cells():
    talk, (storage,) = running()
    newcomer = talk.storage()
    grant(newcomer)
    assert write(newcomer).table == talk.node.table.pack()
    assert newcomer.hears(TableInForce)
    assert talk.node.node_info('S2')[3] == NodeState.PENDING
    newcomer.leave()
    assert talk.node.phase == RUNNING


@pytest.mark.parametrize('replicas', [0, 1])
def test_losing_a_storage_stops_serving(replicas):
    talk, (first, second) = running(2, replicas=replicas)
    client = talk.client()
    first.leave()
    assert talk.node.phase == ClusterState.RECOVERING
    assert not client.open
    assert second.hears(RequestTerm)


def test_stop_lets_commits_end():
    talk, (storage,) = running()
    admin, client = talk.admin(), talk.client()
    from .test_transactions import begin, finish
    finish(client, begin(client), [storage], oids=(1,))
    admin.say(SetClusterState(ClusterState.STOPPING))
    assert not admin.hears(SetClusterState.Answer)
    lock, request_id = storage.take(Lock)
    storage.say(Lock.Answer(lock.ttid), request_id)
    assert admin.hears(SetClusterState.Answer)
    assert storage.heard[-1][0].state == ClusterState.STOPPING
    storage.leave()
    admin.leave()
    assert talk.exit == 0


def test_a_clock_far_ahead_is_not_used_for_tids():
    talk = Conversation(autostart=1)
    storage = talk.storage(clock=talk.now - 1e6)
    packet, request_id = storage.take(RequestTerm)
    storage.say(RequestTerm.Answer(True, 1, None, None, (), 0, 0, (), (), talk.now - 1e6),
                request_id)
    write(storage)
    storage.reply(Settle, 0)
    assert talk.node.clock() == pytest.approx(talk.now - 1e6, abs=1)


def test_a_known_cluster_is_never_taken_for_a_new_one():
    talk, (storage,) = running()
    storage.leave()
    assert talk.node.reason == 'waiting for S1'
    grant(talk.storage())                       # a new one; autostart is 1
    assert talk.node.reason == 'waiting for S1'
    admin = talk.admin()
    admin.say(SetClusterState(RUNNING))
    assert 'waiting for S1' in admin.take(Error)[0].message


def test_a_newcomer_that_obeys_another_master_does_not_disturb():
    talk, (storage,) = running()
    newcomer = talk.storage(term=9)
    newcomer.reply(RequestTerm, False, 9, None, None, (), 0, 0, (), (), talk.now)
    assert newcomer.open and talk.node.phase == RUNNING
    storage.leave()
    assert newcomer.take(RequestTerm)[0].term == 10


def test_a_stranger_who_comes_first_does_not_drive_the_others_away():
    talk = Conversation()
    stranger = talk.storage(id='S1', cluster_id=b'x' * 16, history=b'y' * 16)
    grant(stranger, table('S1', 'S2'), (3, 5))
    refused = talk.storage(id='S1', cluster_id=b'c' * 16, history=b'h' * 16)
    assert refused.take(Error)[0].error == ErrorCode.NOT_READY      # it tries again
    stranger.leave()
    first, second = known_storage(talk, 1), known_storage(talk, 2)
    write(first), write(second)
    first.reply(Settle, 0), second.reply(Settle, 0)
    assert talk.node.phase == RUNNING
    stranger = talk.storage(cluster_id=b'x' * 16, history=b'y' * 16)
    assert stranger.take(Error)[0].error == ErrorCode.ANOTHER_CLUSTER


def test_a_newcomer_lost_while_the_table_is_written_changes_nothing():
    talk = Conversation()
    newcomer = talk.storage(identity=b'n' * 16, id='S9')
    grant(newcomer)
    first, second = known_storage(talk, 1), known_storage(talk, 2)
    newcomer.leave()
    write(first), write(second)
    assert not first.hears(WriteTable) and not second.hears(WriteTable)
    first.reply(Settle, 1000)
    assert talk.node.phase == ClusterState.VERIFYING
    second.reply(Settle, 900)
    assert talk.node.phase == RUNNING and talk.node.transactions.last_told == 1000
