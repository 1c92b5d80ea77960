import pytest

from ...client.exception import ClusterRefused, ClusterUnavailable
from ...cluster import events
from ...protocol import limits
from ...protocol.packets import (ClusterStateChanged, Error, Identify, Invalidate, NodesChanged,
                                 Sync, TableChanged, TakeOids, TakeTtids)
from ...protocol.types import MAX_ID, MAX_OID, ClusterState, ErrorCode, NodeKind, NodeState
from .conversation import CLUSTER_ID, HISTORY, MASTER, Conversation


def test_it_greets_the_primary_and_takes_ids_ahead():
    c = Conversation()
    ready = c.do('when_ready')
    assert c.connecting == [MASTER] and not ready.done
    master = c.accepts(MASTER)
    _, answer = master.hears(Identify, kind=NodeKind.CLIENT, id=None, cluster='test',
                             cluster_id=None, history=None, term=0)
    answer(Identify.Answer('M1', 'C1', CLUSTER_ID, HISTORY, 1, 0, 5, 2))
    assert not ready.done and c.client.last_tid == 5
    master.says(NodesChanged(
        (('S1', NodeKind.STORAGE, ('s1', 1), NodeState.RUNNING, '', '', ''),), ()))
    assert c.connecting == [('s1', 1)]
    master.says(TableChanged(c.table.pack()))
    assert ready.done and ready in c.client.completed
    master.hears(TakeTtids, count=limits.TTIDS_AHEAD)
    master.hears(TakeOids, count=limits.OIDS_AHEAD)


def test_ids_are_given_without_asking_and_refilled_before_they_run_out():
    c = Conversation()
    c.up()
    oids = [c.do('new_oid').result for _ in range(limits.OIDS_AHEAD // 2)]
    assert oids == list(range(100, 100 + len(oids))) and not c.master.heard
    assert c.do('new_oid').done
    c.master.hears(TakeOids)


def test_who_empties_the_pool_waits_and_more_is_taken_from_then_on():
    c = Conversation()
    c.up()
    for _ in range(limits.OIDS_AHEAD):
        assert c.do('new_oid').done
    late = c.do('new_oid')
    assert not late.done
    c.gives_ids()
    assert late.result == 100 + limits.OIDS_AHEAD
    assert c.client.oids.amount > limits.OIDS_AHEAD


def test_ids_that_an_import_has_used_are_not_given():
    c = Conversation()
    c.up()
    c.master.says(Invalidate(10, (99, 120)))
    assert c.do('new_oid').result == 121


def test_attempts_get_rarer_and_what_waits_is_told_why():
    c = Conversation(wait_timeout=10.0)
    ready = c.do('when_ready')
    delays = []
    for _ in range(8):
        c.connecting.remove(MASTER)
        c.step(events.ConnectFailed(MASTER, 'refused'))
        delays.append(round(c.timers['primary'] - c.now, 3))
        c.wait(delays[-1])
    assert delays[:3] == [.1, .2, .4] and delays[-1] == limits.RECONNECT_DELAY_MAX
    c.wait(5)
    assert isinstance(ready.error, ClusterUnavailable)
    assert 'refused' in str(ready.error) and "'test'" in str(ready.error)


@pytest.mark.parametrize('error', [ErrorCode.ANOTHER_CLUSTER, ErrorCode.REFUSED])
def test_a_cluster_that_does_not_want_us_is_told_at_once(error):
    c = Conversation()
    ready = c.do('when_ready')
    c.accepts(MASTER).refuses(Identify, error, 'the cluster here is called other')
    assert isinstance(ready.error, ClusterRefused) and 'other' in str(ready.error)
    c.wait(1)
    assert c.connecting == [MASTER]


def test_an_address_that_is_wrong_hides_no_other_one():
    other = '127.0.0.1', 10001
    c = Conversation(masters=[other, MASTER])
    ready = c.do('when_ready')
    for _ in range(2):
        c.accepts(other).refuses(Identify, ErrorCode.ANOTHER_CLUSTER, 'this one is called other')
        c.wait(0)
        c.connecting.remove(MASTER)
        c.step(events.ConnectFailed(MASTER, 'refused'))
        assert not ready.done
        c.wait(1)
    c.accepts(other).refuses(Identify, ErrorCode.ANOTHER_CLUSTER, 'this one is called other')
    c.wait(0)
    c.welcome()
    assert ready.done and ready.error is None


def test_where_all_masters_refuse_for_good_each_of_them_is_named():
    other = '127.0.0.1', 10001
    c = Conversation(masters=[other, MASTER])
    ready = c.do('when_ready')
    c.accepts(other).refuses(Identify, ErrorCode.ANOTHER_CLUSTER, 'this one is called other')
    c.wait(0)
    c.accepts(MASTER).refuses(Identify, ErrorCode.REFUSED, 'this is a storage')
    assert isinstance(ready.error, ClusterRefused)
    assert str(ready.error) == ('127.0.0.1:10001: this one is called other; '
                                '127.0.0.1:10000: this is a storage')


def test_another_cluster_of_the_same_name_is_not_used():
    c = Conversation()
    c.up()
    c.master.breaks()
    c.wait(1)
    waiting = c.do('sync')
    _, answer = c.accepts(MASTER).hears(Identify, cluster_id=CLUSTER_ID, history=HISTORY, term=1)
    answer(Identify.Answer('M1', 'C1', b'x' * 16, HISTORY, 1, 0, 5, 2))
    assert isinstance(waiting.error, ClusterRefused)
    assert c.client.phase == ClusterState.RECOVERING


def test_a_primary_whose_term_is_over_is_not_used():
    c = Conversation()
    c.up()
    c.client.term = 4
    c.master.breaks()
    c.wait(1)
    _, answer = c.accepts(MASTER).hears(Identify)
    answer(Identify.Answer('M1', 'C1', CLUSTER_ID, HISTORY, 3, 0, 5, 2))
    assert c.client.primary is None
    c.wait(1)
    assert c.connecting == [MASTER]


def test_all_connections_are_dropped_with_the_primary_and_made_again():
    c = Conversation(storages=2)
    storages = c.up()
    c.master.breaks()
    assert c.client.phase == ClusterState.RECOVERING
    assert sorted(c.closed) == sorted(s.connection for s in storages)
    c.wait(1)
    c.welcome()
    assert sorted(c.connecting) == [c.address('S1'), c.address('S2')]


def test_a_lost_storage_is_tried_again_and_a_removed_one_is_not():
    c = Conversation(storages=2)
    one, two = c.up()
    one.breaks()
    c.wait(limits.RECONNECT_DELAY)
    assert c.connecting == [c.address('S1')]
    c.master.says(NodesChanged((), ('S2',)))
    assert c.closed == [two.connection]
    c.wait(5)
    assert c.connecting == [c.address('S1')]


def test_a_storage_that_moves_is_followed():
    c = Conversation()
    one, = c.up()
    c.master.says(NodesChanged(
        (('S1', NodeKind.STORAGE, ('new', 1), NodeState.RUNNING, '', '', ''),), ()))
    assert c.closed == [one.connection] and c.connecting == [('new', 1)]


def test_a_sync_is_asked_again_after_the_primary_was_lost():
    c = Conversation()
    c.up()
    sync = c.do('sync')
    c.master.breaks()
    c.wait(1)
    c.welcome(last_tid=9)
    c.gives_ids()
    c.catches_up([(9, (1,))])
    _, answer = c.master.hears(Sync)
    answer(Sync.Answer(9))
    assert sync.result == 9


def test_what_the_primary_says_at_the_end_is_the_reason():
    c = Conversation(wait_timeout=3.0)
    c.up()
    c.master.says(Error(ErrorCode.PROTOCOL, 'the cluster stops'))
    late = c.do('sync')
    c.wait(6)
    assert 'the cluster stops' in str(late.error)


def test_another_master_is_asked_when_one_does_not_serve():
    other = '127.0.0.1', 10001
    c = Conversation(masters=[MASTER, other])
    c.accepts(MASTER).refuses(Identify, ErrorCode.NOT_READY, 'M2 is the primary')
    c.wait(0)
    _, answer = c.accepts(other).hears(Identify)
    answer(Identify.Answer('M2', 'C1', CLUSTER_ID, HISTORY, 1, 0, 5, 2))
    assert c.client.primary.id == 'M2'


@pytest.mark.parametrize('masters', [1, 2])
def test_a_master_that_keeps_it_waiting_is_left_if_there_is_another_one(masters):
    """It may be cut off from those that serve."""
    other = '127.0.0.1', 10001
    c = Conversation(masters=[MASTER, other][:masters])
    ready = c.do('when_ready')
    master = c.accepts(MASTER)
    _, answer = master.hears(Identify)
    master.says(ClusterStateChanged(ClusterState.RECOVERING, 'waiting for M2'))
    for _ in range(int(limits.KEPT_WAITING)):
        assert not c.connecting
        c.wait(1)
        if master.open and master.connection in c.parties:
            c.client.peers[master.connection].heard = c.now
    if masters == 1:
        assert not c.connecting
        answer(Identify.Answer('M1', 'C1', CLUSTER_ID, HISTORY, 1, 0, 5, 2))
        assert c.client.primary.id == 'M1'
    else:
        assert c.connecting == [other]
        c.connecting.clear()
        c.step(events.ConnectFailed(other, 'refused'))
        assert 'RECOVERING: waiting for M2' in c.client.missing()
        c.wait(1)
        assert c.connecting == [MASTER] and not ready.done


# -- answers that make no sense -----------------------------------------------------------------
@pytest.mark.parametrize('cls, first', [
    (TakeTtids, 2 << 43), (TakeTtids, (2 << 43) - 10), (TakeOids, 0), (TakeOids, MAX_OID)])
def test_ids_that_are_not_for_this_client(cls, first):
    c = Conversation()
    c.welcome()
    packet, request_id = next(heard for heard in c.master.heard if type(heard[0]) is cls)
    c.master.says(cls.Answer(first, packet.count), request_id)
    assert c.client.primary is None
    c.wait(1)
    c.welcome()                         # the client as such is as good as before
    c.gives_ids()
    assert c.do('new_oid').done and c.do('begin').done


@pytest.mark.parametrize('fields, message', [
    ({'last_tid': 4}, 'the cluster has lost transactions'),
    ({'last_tid': MAX_ID}, 'makes no sense'),
    ({'cluster_id': None}, 'makes no sense')])
def test_a_primary_that_knows_less_or_nonsense_is_not_used(fields, message):
    c = Conversation(wait_timeout=5.0)
    c.up(last_tid=5)
    c.master.breaks()
    c.wait(1)
    sync = c.do('sync')
    _, answer = c.accepts(MASTER).hears(Identify)
    greeting = {'cluster_id': CLUSTER_ID, 'last_tid': 5, **fields}
    answer(Identify.Answer('M1', 'C1', greeting['cluster_id'], HISTORY, 1, 0,
                           greeting['last_tid'], 2))
    assert c.client.primary is None
    c.wait(6)
    assert isinstance(sync.error, ClusterUnavailable) and message in str(sync.error)
    c.welcome(last_tid=5)
    assert c.client.primary is not None


def test_a_sync_of_what_was_not_heard():
    c = Conversation()
    c.up(last_tid=5)
    sync = c.do('sync')
    _, answer = c.master.hears(Sync)
    answer(Sync.Answer(6))
    assert not sync.done and c.client.primary is None


def test_it_says_which_process_it_is():
    c = Conversation(name='web1:4711')
    c.accepts(MASTER).hears(Identify, name='web1:4711')
