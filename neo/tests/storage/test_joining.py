"""Who a storage is, whom it obeys and whom it lets in."""
import pytest

from neo.cluster import events, seek
from neo.protocol import limits
from neo.protocol.packets import (ClusterStateChanged, Identify, Load, Measure, RequestTerm,
                                  ReserveOids, TableInForce, Vote, WriteTable)
from neo.protocol.types import ClusterState, ErrorCode, NodeKind
from neo.storage.engine.interface import EngineError
from neo.storage.engine.memory import MemoryEngine
from neo.storage.state import State

from .script import (CANDIDATE, CLUSTER_ID, HISTORY, MASTER_ADDRESS, PARTITIONS, TTID, Error,
                     Script, record, table)


# -- identity -------------------------------------------------------------------------------
def test_a_new_storage_is_nobody_until_a_master_has_a_claim():
    script = Script()
    assert len(script.connecting) == 1
    script.join()
    assert script.identify.id is None and script.identify.cluster_id is None
    assert not script.engine.changed
    first = script.node.identity
    script.crash()
    assert script.engine.get('cluster') is None
    script.recover(script.join())
    assert script.node.identity == first        # the same seed here, another one in life
    script.crash()
    script.master()
    assert script.identify.id == 'S1' and script.identify.identity == first
    assert script.identify.cluster_id == CLUSTER_ID and script.identify.history == HISTORY
    assert script.identify.term == 1


def test_identity_is_for_life():
    engine = MemoryEngine()
    engine.put('cluster', 'test')
    engine.put('identity', b'x' * 16)
    assert Script(engine).node.identity == b'x' * 16


@pytest.mark.parametrize('name, value, message', [
    ('cluster', 'other', 'the database belongs to cluster other, not to test'),
    ('format', 99, 'a later version'),
])
def test_a_foreign_database(name, value, message):
    engine = MemoryEngine()
    engine.put(name, value)
    engine.commit()
    with pytest.raises(EngineError, match=message) as caught:
        Script(engine)
    assert '\n' not in str(caught.value)
    assert not engine.changed


@pytest.mark.parametrize('name', sorted(State.NAMES))
def test_a_broken_value_is_one_line(name):
    script = Script()
    script.serve()
    script.engine.commit()
    engine = script.engine.reopened()
    engine.broken.add(name)
    with pytest.raises(EngineError) as caught:
        Script(engine)
    assert name in str(caught.value) and '\n' not in str(caught.value)


# -- the master -----------------------------------------------------------------------------
def test_no_master_is_one_line_and_patience():
    script = Script()
    for _ in range(20):
        script.step(events.ConnectFailed(MASTER_ADDRESS, 'refused'))
        script.wait(limits.RECONNECT_DELAY_MAX)
    assert len(script.connecting) == 21
    # Again now and then, more and more rarely.
    assert len([line for line in script.logged if 'no connection' in line]) == 4
    script.serve()
    assert 'serving' in script.logged


def test_the_pause_grows():
    script = Script()
    pauses = []
    for _ in range(8):
        script.step(events.ConnectFailed(MASTER_ADDRESS, 'refused'))
        pauses.append(script.timers[seek.TIMER] - script.now)
        script.wait(limits.RECONNECT_DELAY_MAX)
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(limits.RECONNECT_DELAY)
    assert pauses[-1] == pytest.approx(limits.RECONNECT_DELAY_MAX)


@pytest.mark.parametrize('error', [ErrorCode.ANOTHER_CLUSTER, ErrorCode.REFUSED])
def test_a_refusal_is_final(error):
    script = Script()
    script.master().say(Error(error, 'this is cluster other'), 1)
    assert script.exit[0] == 1 and 'this is cluster other' in script.exit[1]


def test_not_ready_is_not():
    script = Script()
    for attempt in range(5):
        master = script.master()
        master.say(Error(ErrorCode.NOT_READY, 'S1 is connected already'), 1)
        assert script.exit is None and not master.open
        script.wait(limits.RECONNECT_DELAY_MAX)
        assert len(script.connecting) == attempt + 2
    # Again now and then, more and more rarely.
    assert len([line for line in script.logged if 'no connection' in line]) == 2


def test_a_master_of_another_cluster_of_the_same_name():
    script = Script()
    script.serve()
    script.crash()
    master = script.master()
    master.say(Identify.Answer('M1', 'S1', b'?' * 16, HISTORY, 1, 1, 0, 0), 1)
    assert script.exit[0] == 1 and 'another cluster' in script.exit[1]


def test_losing_the_master_ends_service():
    script = Script()
    master = script.serve()
    client = script.client()
    master.leave()
    assert script.node.phase == ClusterState.RECOVERING and not client.open
    script.wait(1)
    assert len(script.connecting) == 2
    script.recover(script.join(session=2), term=2)
    client = script.client('C1', term=2)
    assert client.open and script.session == 2


def test_stopping():
    script = Script()
    master = script.serve()
    script.engine.put('x', 1)
    master.say(ClusterStateChanged(ClusterState.STOPPING, ''))
    assert script.exit[0] == 0
    assert not script.engine.changed


def test_stop_commits():
    script = Script()
    script.serve()
    script.engine.put('x', 1)
    script.node.stop()
    script.turn()
    assert not script.engine.changed


# -- terms and tables -----------------------------------------------------------------------
def test_a_term_is_given_once():
    script = Script()
    master = script.join()
    assert master.ask(RequestTerm(5, CANDIDATE)).granted
    again = master.ask(RequestTerm(5, CANDIDATE))
    assert again.granted and again.promised == 5
    script.crash()
    master = script.join()
    assert not master.ask(RequestTerm(5, b'o' * 16)).granted
    refused = master.ask(RequestTerm(4, CANDIDATE))
    assert not refused.granted and refused.promised == 5
    assert master.ask(RequestTerm(6, b'o' * 16)).granted


def test_only_who_was_promised_the_term_commands():
    script = Script()
    script.serve()
    script.crash()
    master = script.join()
    written = master.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table(1, 2), ()))
    assert written.error == ErrorCode.REFUSED
    assert master.ask(ReserveOids(10)).error == ErrorCode.REFUSED
    master.say(ClusterStateChanged(ClusterState.RUNNING, ''))
    assert script.node.phase == ClusterState.RECOVERING
    assert not master.open


def test_what_table_is_kept():
    script = Script()
    master = script.serve()
    write = WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table(1, 3), ())
    assert master.ask(write).key == (1, 3)
    script.crash()
    state = script.join().ask(RequestTerm(2, CANDIDATE))
    assert state.table == table(1, 3) and state.in_force == table(1, 1)
    assert state.members == ()


@pytest.mark.parametrize('packet, error', [
    (WriteTable(b'?' * 16, HISTORY, PARTITIONS, table(1, 9), ()), ErrorCode.ANOTHER_CLUSTER),
    (WriteTable(CLUSTER_ID, b'?' * 16, PARTITIONS, table(1, 9), ()), ErrorCode.ANOTHER_CLUSTER),
    (WriteTable(CLUSTER_ID, HISTORY, 3, table(1, 9, 3), ()), ErrorCode.REFUSED),
    (WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table(1, 9, 3), ()), ErrorCode.REFUSED),
    (WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table(2, 9), ()), ErrorCode.REFUSED),
    (WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table(1, 0), ()), ErrorCode.REFUSED),
    (WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table(1, 9), [('S1', b'?' * 16, '', None, True)]),
     ErrorCode.REFUSED),
])
def test_tables_that_are_refused(packet, error):
    script = Script()
    master = script.serve()
    assert master.ask(packet).error == error
    assert script.node.state.table == table(1, 1)


def test_in_force_reaches_the_disk():
    script = Script()
    script.serve()
    script.wait(limits.LAZY_COMMIT)
    assert not script.engine.changed
    script.crash()
    state = script.join().ask(RequestTerm(2, CANDIDATE))
    assert state.in_force == table(1, 1)


def test_of_several_tables_the_one_in_force_is_kept():
    script = Script()
    master = script.serve()
    for ptid in (2, 3):
        assert master.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table(1, ptid), ()))
    master.say(TableInForce((1, 2)))
    script.wait(limits.LAZY_COMMIT)
    script.crash()
    state = script.join().ask(RequestTerm(2, CANDIDATE))
    assert state.table == table(1, 3) and state.in_force == table(1, 2)


def test_another_table_is_not_in_force():
    script = Script()
    script.serve().say(TableInForce((1, 7)))
    assert script.node.state.in_force == table(1, 1)


def test_oids_are_reserved_durably():
    script = Script()
    assert script.serve().ask(ReserveOids(1000)).mark == 1000
    script.crash()
    state = script.join().ask(RequestTerm(2, CANDIDATE))
    assert state.oid_mark == 1000


def test_a_committed_oid_raises_the_mark():
    script = Script()
    master = script.serve()
    script.commit(script.client(), master, TTID, 100, record(5000))
    script.crash()
    assert script.engine.get('oid_mark') == 5001
    assert script.join().ask(RequestTerm(2, CANDIDATE)).oid_mark == 5001


# -- clients --------------------------------------------------------------------------------
def test_a_client_is_served_once_it_was_announced():
    script = Script()
    script.serve()
    client = script.knock('C1')
    assert client.quiet()
    script.wait(limits.IDENTIFY_TIMEOUT * 2)    # it is not its fault
    assert client.open
    script.announce('C1')
    answer = client.take(Identify.Answer)
    assert (answer.id, answer.your_id, answer.session) == ('S1', 'C1', 1)
    assert type(client.ask(Measure())) is Measure.Answer


def test_a_client_is_parked_until_the_storage_serves():
    script = Script()
    client = script.knock('C1')
    script.serve()
    assert client.quiet()
    script.announce('C1')
    client.take(Identify.Answer)


def test_a_client_that_gives_up_waiting():
    script = Script()
    script.serve()
    script.knock('C1').leave()
    script.announce('C1')
    assert not script.node.waiting


def test_a_client_that_is_gone_does_not_come_back():
    script = Script()
    script.serve()
    client = script.client()
    script.announce('C2', removed=['C1'])
    assert not client.open
    assert script.knock('C1').take(Error).error == ErrorCode.NOT_READY
    script.announce(removed=['C3'])
    assert script.knock('C3').take(Error).error == ErrorCode.NOT_READY
    script.client('C2')


def test_clients_of_another_term():
    script = Script()
    master = script.serve()
    late, early = script.knock('C9', term=1), script.knock('C1', term=2)
    master.leave()
    script.recover(script.join(), term=2)
    assert late.take(Error).error == ErrorCode.NOT_READY
    assert early.quiet()
    script.announce('C1')
    early.take(Identify.Answer)
    assert script.knock('C1', term=1).take(Error).error == ErrorCode.NOT_READY


def test_a_client_that_comes_again_before_it_was_missed():
    script = Script()
    script.serve()
    first = script.client()
    first.store(TTID, record(1))
    second = script.client()
    assert not first.open and second.open
    assert script.nothing_left()


@pytest.mark.parametrize('who, error', [
    (dict(cluster='other'), ErrorCode.ANOTHER_CLUSTER),
    (dict(cluster_id=b'?' * 16), ErrorCode.ANOTHER_CLUSTER),
    (dict(id=None), ErrorCode.REFUSED),
    (dict(id='S2'), ErrorCode.REFUSED),
    (dict(kind=NodeKind.STORAGE), ErrorCode.NOT_READY),
    (dict(kind=NodeKind.STORAGE, id=None), ErrorCode.NOT_READY),    # it takes this one for a master
    (dict(kind=NodeKind.MASTER), ErrorCode.REFUSED),
])
def test_who_is_not_let_in(who, error):
    script = Script()
    script.serve()
    assert script.knock(**{'id': 'C1', **who}).take(Error).error == error


def test_nobody_speaks_before_it_was_let_in():
    script = Script()
    script.serve()
    for packet in Load(1, 2), Vote(TTID, (), (), (), ()):
        party = script.knock('C1')
        party.say(packet)
        assert not party.open


def test_a_cluster_of_which_no_table_was_in_force_does_not_keep_its_storages():
    """It was being created when that was stopped: another one may have them."""
    script = Script()
    master = script.join()
    master.ask(RequestTerm(1, CANDIDATE))
    dead = WriteTable(b'?' * 16, b'?' * 16, PARTITIONS + 1, table(1, 1, PARTITIONS + 1), ())
    assert master.ask(dead).key == (1, 1)
    script.crash()
    assert script.join(term=2) and script.identify.cluster_id is None
    script.crash()
    state = script.recover(script.join(id='S1'), 2)
    assert state.in_force is None
    script.crash()
    script.master()
    assert script.identify.cluster_id == CLUSTER_ID
