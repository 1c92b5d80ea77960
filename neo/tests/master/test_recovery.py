"""From nothing to a running cluster and back, step by step."""
import pytest

from neo.cluster.partition_table import PartitionTable
from neo.master.tables import Tables
from neo.protocol.codec import encode
from neo.protocol.limits import ABSENT_GRACE, MAX_FRAME_UNIDENTIFIED
from neo.protocol.packets import (ClusterStateChanged, Error, Identify, NodesChanged,
                                  RequestTerm, SetClusterState, Settle, TableChanged,
                                  TableInForce, Unlock, WriteTable)
from neo.protocol.types import CellState, ClusterState, ErrorCode, NodeState

from .conversation import UP, Conversation, grant, running, table, write

RUNNING = ClusterState.RUNNING
OUT = int(CellState.OUT_OF_DATE)


def test_a_new_cluster_waits_for_the_operator():
    talk = Conversation(partitions=2)
    storage, admin = talk.storage(), talk.admin()
    grant(storage)
    assert talk.node.phase == ClusterState.RECOVERING
    assert 'neoctl start' in talk.node.reason
    asked = admin.say(SetClusterState(RUNNING))
    assert not admin.hears(SetClusterState.Answer)
    packet = write(storage)
    assert packet.table == (1, 1, 0, ((('S1', UP),), (('S1', UP),)), (), ())
    assert packet.members == (('S1', storage.identity, '', ('127.0.0.1', 20000), True),)
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
    assert 'no storage is there' in client.take(ClusterStateChanged)[0].reason
    assert 'an answer of S1' in client.take(ClusterStateChanged)[0].reason
    assert client.take(ClusterStateChanged)[0].state == ClusterState.VERIFYING
    assert not client.heard
    storage.reply(Settle, 0)
    assert client.take(Identify.Answer)[0].your_id == 'C1'
    assert [n[0] for n in client.take(NodesChanged)[0].nodes] == ['S1']
    assert client.take(TableChanged)[0].table == talk.node.tables.in_force.pack()
    # The storage hears of the client before the client can be there.
    told = [node[0] for packet, _ in storage.heard if type(packet) is NodesChanged
            for node in packet.nodes]
    assert 'C1' in told


def test_a_known_cluster_waits_for_all_its_storages():
    talk = Conversation()
    first = talk.known(1)
    assert talk.node.reason == (
        'waiting for S2 (storage_02, 10.0.0.2:1234), since 2001-09-09 01:46:40 UTC')
    assert not first.hears(WriteTable)
    second = talk.known(2)
    for storage in first, second:
        assert write(storage).table[:2] == (4, 6)       # above all promised before
    assert first.hears(Settle) and second.hears(Settle)


def test_a_reason_that_names_many_fits_in_what_anybody_takes():
    talk = Conversation()
    admin, client = talk.admin(), talk.client()
    talk.known(1, ['S%d' % number for number in range(1, 201)])
    for party in admin, client:
        reason = party.last(ClusterStateChanged)[0].reason
        assert reason.startswith('waiting for 100 of S2 (storage_02') and reason.endswith('…')
        assert len(encode(ClusterStateChanged(0, reason))) < MAX_FRAME_UNIDENTIFIED


def test_what_is_locked_anywhere_is_locked_everywhere_and_unlocked_after():
    talk = Conversation()
    first = talk.known(1, last_tid=1000, unfinished=(
        (50, 1000, 1000, ()), (51, None, None, ())))
    second = talk.known(2, unfinished=((50, None, None, ()),), last_tid=900)
    write(first), write(second)
    assert first.reply(Settle, 1000).keep == ((50, 1000, 1000, ()),)
    assert not first.hears(Unlock)
    assert second.reply(Settle, 1000).keep == ((50, 1000, 1000, ()),)
    assert first.take(Unlock)[0].ttid == second.take(Unlock)[0].ttid == 50
    assert talk.node.transactions.last_told == 1000


def test_a_storage_lost_while_settling_starts_over_with_another_term():
    talk = Conversation()
    first = talk.known(1, unfinished=((50, 1000, 1000, ()),))
    second = talk.known(2, unfinished=((50, None, None, ()),))
    write(first), write(second)
    first.reply(Settle, 1000)
    second.leave()
    assert talk.node.phase == ClusterState.RECOVERING
    assert not first.hears(Unlock)              # it can still tell the tid
    assert first.heard[-1][0].term == 5


def test_an_answer_of_an_earlier_term_is_not_counted():
    talk = Conversation()
    first = talk.known(1)
    second = talk.known(2)
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
    first = talk.known(1)
    assert first.id == 'S1' and not second.open
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
    assert not newcomer.hears(WriteTable)       # its id is kept by those who have cells first
    written = write(storage)
    assert [member.id for member in written.members] == ['S1', 'S2']
    assert write(newcomer) == written
    assert newcomer.hears(TableInForce)
    assert newcomer.take(Settle)[0].keep == ()
    assert newcomer.take(ClusterStateChanged)[0].state == RUNNING
    assert talk.admin().take(NodesChanged)[0].nodes[-1].state == NodeState.PENDING
    newcomer.leave()
    assert talk.node.phase == RUNNING


def test_losing_the_only_copy_stops_serving():
    talk, (first, second) = running(2)
    client = talk.client()
    first.leave()
    assert talk.node.phase == ClusterState.RECOVERING
    assert not client.open
    assert second.hears(RequestTerm)


def test_a_cluster_waits_a_little_for_who_is_away_and_goes_on():
    talk = Conversation()
    names = 'S1', 'S2', 'S3'
    first, second = [talk.known(i, names, table=table(*names)) for i in (1, 2)]
    assert not first.hears(WriteTable)
    assert 'waiting for S3 (storage_03' in talk.node.reason and 'for 3 s' in talk.node.reason
    talk.wait(ABSENT_GRACE)
    write(first), write(second)                 # rewritten under this term
    assert not first.hears(Settle)
    assert {('S3', OUT)} == {cell for row in write(first).table.rows for cell in row[2:]}
    write(second)                               # two of three
    assert first.hears(Settle) and second.hears(Settle)


def test_who_was_silent_before_it_was_lost_is_waited_for_the_shorter():
    """What it said last was a while ago."""
    talk = Conversation()
    names = 'S1', 'S2', 'S3'
    third = talk.known(3, names, table=table(*names))
    talk.wait(ABSENT_GRACE - 1)
    third.leave()
    first, second = [talk.known(i, names, table=table(*names)) for i in (1, 2)]
    assert not first.hears(WriteTable)
    talk.wait(1)
    assert write(first) and write(second)


def test_half_of_the_voters_is_not_enough():
    talk = Conversation()
    first = talk.known(1)
    talk.wait(3 * ABSENT_GRACE)
    assert not first.hears(WriteTable) and 'waiting for S2' in talk.node.reason


@pytest.mark.parametrize('there, needed, number, others', [
    ('S1 M1', '', 2, 'S2 S3 M2 M3'),            # 4 of 6 voters
    ('S1 S2 M1', '', 1, 'S3 M2 M3'),
    ('S1 M1 M2', '', 1, 'S2 S3 M3'),            # for row 1 as well
    ('M1 M2 M3', 'S1', 1, 'S2 S3'),             # row 2 is on S1 only
    ('S3 M1 M2 M3', 'S1', 0, '')])
def test_who_is_needed(there, needed, number, others):
    rows = (('S1', 'S2'), ('S2', 'S3'), ('S1',))
    tables = Tables()
    tables.base = PartitionTable(1, 1, 1, [dict.fromkeys(row, CellState.UP_TO_DATE)
                                           for row in rows], ('M1', 'M2', 'M3'))
    assert tables.lacking(set(there.split())) == (needed.split(), number, others.split())


def test_a_table_that_may_be_in_force_counts_as_well():
    """S2 was sent a table without S1: perhaps it is in force, and the cluster has gone on so."""
    talk = Conversation()
    before, later = table('S1', 'S2', 'S3'), table('S2', 'S3', ptid=6)
    talk.known(1, ('S1', 'S2', 'S3'), table=before)
    storage = talk.storage(identity=b'\2' * 16, id='S2', cluster_id=b'c' * 16, history=b'h' * 16)
    packet, request_id = storage.take(RequestTerm)
    storage.say(RequestTerm.Answer(True, packet.term, later, before, (), 0, 0, (), (), talk.now,
                                   None, (0, (), ())), request_id)
    talk.wait(3 * ABSENT_GRACE)
    assert not storage.hears(WriteTable) and 'waiting for S3' in talk.node.reason


def test_a_clock_far_ahead_is_not_used_for_tids():
    talk = Conversation(autostart=1)
    storage = talk.storage(clock=talk.now - 1e6)
    packet, request_id = storage.take(RequestTerm)
    storage.say(RequestTerm.Answer(True, 1, None, None, (), 0, 0, (), (), talk.now - 1e6,
                                   None, (0, (), ())), request_id)
    write(storage)
    storage.reply(Settle, 0)
    assert talk.node.clock.time(talk.now) == pytest.approx(talk.now - 1e6, abs=1)


def test_a_known_cluster_is_never_taken_for_a_new_one():
    talk, (storage,) = running()
    storage.leave()
    assert 'waiting for S1' in talk.node.reason
    grant(talk.storage())                       # a new one; autostart is 1
    assert 'waiting for S1' in talk.node.reason
    admin = talk.admin()
    admin.say(SetClusterState(RUNNING))
    assert 'waiting for S1' in admin.take(Error)[0].message


def test_a_newcomer_that_obeys_another_master_does_not_disturb():
    talk, (storage,) = running()
    newcomer = talk.storage(term=9)
    newcomer.reply(RequestTerm, False, 9, None, None, (), 0, 0, (), (), talk.now, None, (0, (), ()))
    assert newcomer.open and talk.node.phase == RUNNING
    storage.leave()
    assert newcomer.take(RequestTerm)[0].term == 10


def test_a_stranger_who_comes_first_does_not_drive_the_others_away():
    talk = Conversation()
    stranger = talk.storage(id='S1', cluster_id=b'x' * 16, history=b'y' * 16)
    grant(stranger, table('S1', 'S2'))
    refused = talk.storage(id='S1', cluster_id=b'c' * 16, history=b'h' * 16)
    assert refused.take(Error)[0].error == ErrorCode.NOT_READY      # it tries again
    stranger.leave()
    first, second = talk.known(1), talk.known(2)
    write(first), write(second)
    first.reply(Settle, 0), second.reply(Settle, 0)
    assert talk.node.phase == RUNNING
    stranger = talk.storage(cluster_id=b'x' * 16, history=b'y' * 16)
    assert stranger.take(Error)[0].error == ErrorCode.ANOTHER_CLUSTER


def test_a_newcomer_lost_while_the_table_is_written_changes_nothing():
    talk = Conversation()
    newcomer = talk.storage(identity=b'n' * 16, id='S9')
    grant(newcomer)
    first, second = talk.known(1), talk.known(2)
    newcomer.leave()
    write(first), write(second)
    assert not first.hears(WriteTable) and not second.hears(WriteTable)
    first.reply(Settle, 1000)
    assert talk.node.phase == ClusterState.VERIFYING
    second.reply(Settle, 900)
    assert talk.node.phase == RUNNING and talk.node.transactions.last_told == 1000


def test_the_first_table_of_a_term_is_held_by_half_of_the_voters_of_each_that_may_be_in_force():
    """S3 was filled, and then it left.  Nobody here has heard whether the table in which it votes
    was in force: who has may be elected by S2 and S3 later, and one of these has to know more."""
    former, with_s3, newest = (
        table('S1', 'S2'), table('S1', 'S2', 'S3', ptid=6), table('S1', 'S2', ptid=7))
    talk, all_three = Conversation(), ('S1', 'S2', 'S3')
    third = talk.known(3, all_three, table=with_s3, in_force=former)
    second = talk.known(2, all_three, table=with_s3, in_force=former)
    first = talk.known(1, all_three, table=newest, in_force=former)
    for number, storage in enumerate((first, third)):
        assert not first.hears(TableInForce), number
        assert write(storage).table[:2] == (4, 8)
    assert first.take(TableInForce)[0].key == (4, 8)
    assert not second.hears(TableInForce)               # it does not hold that yet
