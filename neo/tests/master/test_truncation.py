"""The operator brings the cluster back to a tid, step by step."""
import pytest

from neo.protocol.packets import (Error, Finish, Identify, Lock, RemoveAbove, Settle,
                                  TableInForce, Truncate, Unlock, WriteTable)
from neo.protocol.types import ClusterState, Cut, ErrorCode, RowTid, Unfinished

from .conversation import Conversation, grant, running, table, write
from .test_transactions import begin, finish, lock

RUNNING, RECOVERING = ClusterState.RUNNING, ClusterState.RECOVERING
HISTORY, NEW = b'h' * 16, b'n' * 16


def committing(count=2):
    """A cluster of two copies, its client and operator, and the tids of some commits."""
    talk, storages = running(2, replicas=1, partitions=2)
    client, admin = talk.client(), talk.admin()
    tids = []
    for _ in range(count):
        finish(client, begin(client), storages)
        for storage in storages:
            lock(storage)
        tids.append(client.take(Finish.Answer)[0].tid)
    return talk, storages, client, admin, tids


def ordered(talk, storages, admin, tid):
    """It is ordered, and in force; the table that says so."""
    before = talk.node.cluster.history
    admin.say(Truncate(tid))
    packet = [write(storage) for storage in storages][0]
    assert packet.history == before == packet.table.cuts[-1].former
    return packet.table


def recovered(talk, storages, written, last_tid, history, told=()):
    for storage in storages:
        grant(storage, table=written, last_tid=last_tid, told=told, history=history,
              members=talk.node.members.written())
    for storage in storages:
        write(storage)
    for storage in storages:
        storage.reply(Settle, last_tid)


def test_no_transaction_is_above_none():
    talk, _ = running()
    admin = talk.admin()
    admin.say(Truncate(5))
    assert admin.take(Error)[0].message == 'there is no transaction'


def test_a_table_is_in_force_before_anything_is_removed():
    talk, storages, client, admin, tids = committing()
    history = talk.node.cluster.history
    written = ordered(talk, storages, admin, tids[0])
    assert written.cuts == (Cut(history, written.cuts[0].history, tids[0], tids[1], ()),)
    assert talk.node.phase == RECOVERING and not client.open
    assert not any(storage.hears(RemoveAbove) for storage in storages)
    recovered(talk, storages, written, tids[1], history, (RowTid(0, tids[1]),))
    for storage in storages:
        assert not admin.hears(Truncate.Answer) and talk.node.phase != RUNNING
        assert storage.reply(RemoveAbove, tids[0]) == RemoveAbove(written.cuts[0].history, *tids)
    assert talk.node.phase == RUNNING
    assert 'is removed' in admin.take(Truncate.Answer)[0].message
    again = talk.client(cluster_id=talk.node.cluster.id, history=history)
    assert again.welcome.history == written.cuts[0].history
    assert again.welcome.last_tid == tids[0]    # not what was told in the former history
    assert talk.node.transactions.last_given >= tids[1]


def test_no_tid_is_given_once_it_is_ordered():
    talk, storages, client, admin, tids = committing()
    ttid = begin(client)
    admin.say(Truncate(tids[0]))
    finish(client, ttid, storages)
    assert not storages[0].hears(Lock)
    for storage in storages:
        write(storage)
    assert talk.node.phase == RECOVERING
    assert not any(storage.hears(Lock) for storage in storages)


def test_what_is_in_finish_is_settled_and_removed():
    talk, storages, client, admin, tids = committing()
    history = talk.node.cluster.history
    finish(client, begin(client), storages)
    packets = [storage.take(Lock)[0] for storage in storages]
    tid = packets[0].tid
    written = ordered(talk, storages, admin, tids[0])
    assert written.cuts[0].last == tid
    it = Unfinished(packets[0].ttid, tid, tid, packets[0].rows)
    for storage in storages:
        grant(storage, table=written, last_tid=tid, unfinished=(it,), history=history,
              members=talk.node.members.written())
    for storage in storages:
        write(storage)
    for storage in storages:
        assert storage.reply(Settle, tid).keep == (it,)
    for storage in storages:
        kinds = [type(packet) for packet, _ in storage.heard]
        assert kinds.index(Unlock) < kinds.index(RemoveAbove)
        storage.reply(RemoveAbove, tids[0])
    assert talk.node.transactions.last_told == tids[0]


@pytest.mark.parametrize('removed', ['S1', 'S2'])
def test_the_next_primary_goes_on(removed):
    """One storage has removed it already, and the other one has not."""
    cut = Cut(HISTORY, NEW, 100, 200, ())
    talk = Conversation()
    known = {}
    for number in (1, 2):
        known['S%d' % number] = talk.known(
            number, table=table('S1', 'S2', cuts=(cut,)), told=(RowTid(0, 200),),
            last_tid=100 if removed == 'S%d' % number else 200,
            history=NEW if removed == 'S%d' % number else HISTORY)
    for storage in known.values():
        write(storage)
    for storage in known.values():
        storage.reply(Settle, 200)
    for id, storage in known.items():
        if id == removed:
            assert not storage.hears(RemoveAbove)
        else:
            assert storage.reply(RemoveAbove, 100) == RemoveAbove(NEW, 100, 200)
    assert talk.node.phase == RUNNING and talk.node.transactions.last_given >= 200


def test_who_has_it_locked_still_keeps_it_to_remove_it():
    """It was settled before the other one has removed it."""
    cut = Cut(HISTORY, NEW, 100, 200, ())
    talk = Conversation()
    it = Unfinished(7, 200, 200, (0, 1))
    cells = table('S1', 'S2', cuts=(cut,))
    first = talk.known(1, table=cells, told=(RowTid(0, 200), RowTid(1, 200)), last_tid=100,
                       history=NEW)
    second = talk.known(2, table=cells, unfinished=(it,), last_tid=200, history=HISTORY)
    write(first), write(second)
    assert second.reply(Settle, 200).keep == (it,)
    first.reply(Settle, 100)
    second.reply(RemoveAbove, 100)
    assert talk.node.phase == RUNNING
    assert len(talk.node.tables.in_force.cells_of(['S1', 'S2'])) == 4


def test_what_only_one_of_former_days_has_locked_is_dropped():
    cut = Cut(HISTORY, NEW, 100, 200, ())
    cells = table('S1', cuts=(cut,))
    talk = Conversation()
    first = talk.known(1, ('S1', 'S2'), table=cells, last_tid=100, history=NEW)
    talk.known(2, table=cells, unfinished=(Unfinished(7, 200, 200, (0, 1)),), history=HISTORY)
    write(first)
    assert first.reply(Settle, 100).keep == ()
    assert talk.node.phase == RUNNING


def test_who_comes_late_settles_and_then_removes():
    talk, storages, client, admin, tids = committing()
    first, second = storages
    history = talk.node.cluster.history
    second.leave()
    write(first)
    written = ordered(talk, [first], admin, tids[0])
    recovered(talk, [first], written, tids[1], history)
    first.reply(RemoveAbove, tids[0])
    again = talk.storage(identity=second.identity, id='S2', cluster_id=talk.node.cluster.id,
                         history=history, term=1)
    grant(again, history=history)
    write(again)
    kinds = [type(packet) for packet, _ in again.heard]
    assert kinds.index(TableInForce) < kinds.index(Settle) < kinds.index(RemoveAbove)


def test_one_of_an_unknown_history_is_refused():
    talk, storages, client, admin, tids = committing()
    refused = talk.storage(identity=b'x' * 16, id='S7', cluster_id=talk.node.cluster.id,
                           history=b'?' * 16, term=1)
    assert refused.take(Error)[0].error == ErrorCode.ANOTHER_CLUSTER
    assert not refused.hears(Identify.Answer)


def test_one_of_an_unknown_history_that_came_first_is_not_served():
    talk = Conversation()
    talk.known(1, ('S1',), history=b'?' * 16)
    assert talk.node.phase == RECOVERING and 'it is of another history' in talk.node.reason


# -- what is refused ----------------------------------------------------------------------------
def refusal(talk, admin, storages, tid):
    before = talk.node.tables.newest
    admin.say(Truncate(tid))
    assert talk.node.tables.newest is before
    assert not any(storage.hears(WriteTable) for storage in storages)
    return admin.take(Error)[0].message


def test_above_the_last_one():
    talk, storages, client, admin, tids = committing()
    assert 'is above the last transaction' in refusal(talk, admin, storages, tids[1] + 1)


def test_while_it_does_not_run():
    talk = Conversation()
    admin = talk.admin()
    assert 'while the cluster runs only' in refusal(talk, admin, [], 0)


def test_nothing_is_changed_where_nothing_is_above():
    talk, storages, client, admin, tids = committing()
    admin.say(Truncate(tids[1]))
    assert 'nothing to remove' in admin.take(Truncate.Answer)[0].message
    assert not storages[0].hears(WriteTable) and talk.node.phase == RUNNING


def back(talk, storage, history, **state):
    again = talk.storage(identity=storage.identity, id=storage.id,
                         cluster_id=talk.node.cluster.id, history=history, term=1)
    grant(again, history=history, members=talk.node.members.written(), **state)
    return again


@pytest.mark.parametrize('overtaken', [False, True])
def test_an_order_that_was_sent_is_done_unless_others_have_led_since(overtaken):
    talk, storages, client, admin, tids = committing()
    history, before = talk.node.cluster.history, talk.node.tables.in_force.pack()
    admin.say(Truncate(tids[0]))
    for storage in storages:
        storage.leave()                 # they have not written it
    assert talk.node.phase == RECOVERING and not admin.hears(Truncate.Answer)
    known = before._replace(term=9) if overtaken else before
    again = [back(talk, storage, history, table=known, last_tid=tids[1]) for storage in storages]
    for storage in again:
        write(storage)
    for storage in again:
        storage.reply(Settle, tids[1])
    assert all(storage.hears(RemoveAbove) != overtaken for storage in again)
    if overtaken:
        assert 'nothing was removed' in admin.take(Error)[0].message
    else:
        for storage in again:
            storage.reply(RemoveAbove, tids[0])
        assert 'is removed' in admin.take(Truncate.Answer)[0].message
    assert talk.node.phase == RUNNING
    assert talk.node.transactions.last_told == tids[overtaken]
