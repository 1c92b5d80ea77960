"""How a storage that was left behind becomes readable again, step by step."""
import pytest

from neo.protocol.packets import (DescribeIds, Error, Fill, Filled, FillProgress, Finish, Lock,
                                  Settle, TableChanged, TableInForce, TableTaken, Tweak,
                                  WriteTable)
from neo.protocol.types import CellState, ClusterState, TableKey

from .conversation import UP, grant, running, write, write_all
from .test_transactions import begin, finish, lock

OUT = int(CellState.OUT_OF_DATE)


def back(talk, storage):
    """The same storage, in another session; it has written the table."""
    again = talk.storage(identity=storage.identity, id=storage.id,
                         cluster_id=talk.node.cluster.id, history=talk.node.cluster.history, term=1)
    grant(again)
    write(again)
    assert again.reply(Settle, 0).keep == ()
    return again


def behind():
    """A cluster of two copies, one of which was away."""
    talk, (first, second) = running(2, replicas=1, partitions=2)
    client = talk.client()
    second.leave()
    write(first)
    return talk, client, first, back(talk, second)


def commit(client, storages, locking=None, oids=(1,), table=None):
    finish(client, begin(client), storages, oids=oids, table=table)
    for storage in storages if locking is None else locking:
        lock(storage)
    return client.take(Finish.Answer)[0].tid


def state(talk, storage):
    return {row[storage.id] for row in talk.node.tables.in_force.rows}


def test_who_comes_back_copies_what_was_told_and_is_up_to_date():
    talk, client, first, second = behind()
    order = second.take(Fill)[0]
    assert order.rows == (0, 1) and order.upto == talk.node.transactions.last_told
    assert order.key == talk.node.tables.in_force.key
    assert order.oid_mark >= talk.node.oids.asked > 0
    second.say(Filled((0, 1), order.upto))
    assert state(talk, second) == {OUT}         # not before that is in force
    client.heard.clear()
    assert write(first).table.rows == write(second).table.rows
    assert state(talk, second) == {UP} and client.hears(TableChanged)


def test_what_was_committed_without_it_is_copied_as_well():
    talk, client, first, second = behind()
    order = second.take(Fill)[0]
    tid = commit(client, [first], oids=(2,))    # row 0, and that of its ttid
    again = second.take(Fill)[0]
    assert again.upto == tid and 0 in again.rows
    second.say(Filled((0, 1), order.upto))      # it was said before
    assert not first.hears(WriteTable) or write(first).table.rows[0][1].state == OUT
    second.say(Filled(again.rows, tid))
    while first.hears(WriteTable):
        write(first)
    assert talk.node.tables.in_force.rows[0]['S2'] == UP


def test_what_misses_something_before_it_says_that_it_is_filled():
    talk, client, first, second = behind()
    order = second.take(Fill)[0]
    finish(client, begin(client), [first], oids=(2,))   # row 0
    second.say(Filled((0, 1), order.upto))
    assert talk.node.tables.newest.rows[0]['S2'] == OUT
    lock(first)
    while first.hears(WriteTable):
        write(first), write(second)
    assert talk.node.tables.in_force.rows[0]['S2'] == OUT
    again = second.last(Fill)[0]
    assert 0 in again.rows and again.upto == client.take(Finish.Answer)[0].tid


def test_what_misses_something_before_the_table_that_has_it_is_copied_again():
    """It is filled while another table is under way, for which a transaction waits."""
    talk, client, first, second = behind()
    order = second.take(Fill)[0]
    tables = talk.node.tables
    tables.write(talk.node, tables.newest.next(), lambda node: None)
    talk.act()
    second.say(Filled((0, 1), order.upto))
    finish(client, begin(client), [first], oids=(2,))
    assert not first.hears(Lock)
    write(first), write(second)
    assert first.hears(Lock) and tables.newest.rows[0]['S2'] == OUT
    lock(first)
    again = second.take(Fill)[0]
    assert 0 in again.rows and again.upto == client.take(Finish.Answer)[0].tid
    second.say(Filled(again.rows, again.upto))
    while first.hears(WriteTable):
        write(first)
    assert state(talk, second) == {UP}


def test_it_is_not_told_to_copy_what_nobody_was_told():
    talk, client, first, second = behind()
    second.take(Fill)
    finish(client, begin(client), [first], oids=(2,))
    assert not second.hears(Fill)
    lock(first)
    assert second.take(Fill)[0].upto == client.take(Finish.Answer)[0].tid


def test_what_is_in_finish_when_it_comes_is_copied_as_well():
    talk, (first, second) = running(2, replicas=1, partitions=2)
    client = talk.client()
    second.leave()
    write(first)
    finish(client, begin(client), [first], oids=(2,))
    second = back(talk, second)
    assert not second.hears(Fill)
    lock(first)
    assert second.take(Fill)[0].upto == client.take(Finish.Answer)[0].tid


def test_what_it_has_voted_it_need_not_copy():
    talk, client, first, second = behind()
    order = second.take(Fill)[0]
    commit(client, [first, second])
    assert not second.hears(Fill)
    second.say(Filled((0, 1), order.upto))
    write(first)
    assert state(talk, second) == {UP}


def test_from_then_on_its_vote_is_needed():
    talk, client, first, second = behind()
    ttid = begin(client)
    second.say(Filled((0, 1), second.take(Fill)[0].upto))
    finish(client, ttid, [first], oids=(1,))    # it waits for the table
    assert not first.hears(Lock)
    write(first)
    assert 'S2 has not voted' in client.take(Error)[0].message


@pytest.mark.parametrize('filled', [True, False])
def test_lost_again(filled):
    talk, client, first, second = behind()
    if filled:
        second.say(Filled((0, 1), second.take(Fill)[0].upto))
    second.leave()
    while first.hears(WriteTable):
        write(first)
    assert state(talk, second) == {OUT} and talk.node.phase == ClusterState.RUNNING
    commit(client, [first])
    second = back(talk, second)
    assert second.take(Fill)[0].upto == talk.node.transactions.last_told


def test_without_the_only_readable_copy_the_cluster_waits():
    talk, client, first, second = behind()
    first.leave()
    assert talk.node.phase == ClusterState.RECOVERING and not client.open


def test_who_does_not_lock_is_copied_to_again():
    talk, client, first, second = behind()
    second.take(Fill)
    finish(client, begin(client), [first, second], oids=(1,))
    lock(first)
    _, request_id = second.take(Lock)
    second.say(Error(3, 'the disk is full'), request_id)
    assert client.hears(Finish.Answer) and not second.open


# -- a cell that is new ----------------------------------------------------------------------------
def grown():
    """S2 has row 1, and is to have row 0 as well; one client has a transaction of before."""
    talk, (first, second) = running(2, partitions=2)
    client = talk.client()
    tables = talk.node.tables
    tables.write(talk.node, tables.newest._with([(0, 'S2')], CellState.OUT_OF_DATE),
                 lambda node: None)
    talk.act()
    write(first)
    write(second)
    return talk, client, first, second


def test_a_new_cell_is_copied_to_when_all_clients_write_there():
    talk, client, first, second = grown()
    other = talk.client()                       # begins with the new table
    assert not second.hears(Fill)
    # Routed by the table before: S2 votes, and has nothing of row 0.
    tid = commit(client, [first, second], oids=(0, 1), table=(1, 1))
    other.say(TableTaken(TableKey(1, 2)))
    assert not second.hears(Fill)
    client.say(TableTaken(TableKey(1, 2)))
    order = second.take(Fill)[0]
    assert order.rows == (0,) and order.upto == tid


def test_what_is_in_finish_when_the_last_client_has_taken_it_is_copied_too():
    talk, client, first, second = grown()
    finish(client, begin(client), [first, second], oids=(0, 1), table=(1, 1))
    client.say(TableTaken(TableKey(1, 2)))
    assert not second.hears(Fill)
    lock(first)
    lock(second)
    assert second.take(Fill)[0].upto == client.take(Finish.Answer)[0].tid


def test_a_vote_is_for_what_was_given_only():
    """S2 has voted, but was given nothing of row 0, which it is to have alone by now."""
    talk, client, first, second = grown()
    ttid = begin(client)
    client.say(TableTaken(TableKey(1, 2)))
    second.say(Filled((0,), second.take(Fill)[0].upto))
    write(first), write(second)
    finish(client, ttid, [first, second], oids=(0, 1), table=(1, 1))
    assert 'S2 has not voted' in client.take(Error)[0].message


def test_it_is_not_told_to_copy_before_it_knows_the_table():
    """Of three, two are enough for the table to be in force."""
    talk, storages = running(3, replicas=1, partitions=3)
    tables = talk.node.tables
    assert 'S3' not in tables.in_force.rows[0]
    tables.write(talk.node, tables.newest._with([(0, 'S3')], CellState.OUT_OF_DATE),
                 lambda node: None)
    talk.act()
    write(storages[0])
    write(storages[1])
    assert tables.in_force.rows[0]['S3'] == OUT and not storages[2].hears(Fill)
    write(storages[2])
    heard = [type(packet) for packet, _ in storages[2].heard]
    assert heard.index(Fill) > max(i for i, kind in enumerate(heard) if kind is TableInForce)


def test_who_is_gone_is_not_waited_for():
    talk, client, first, second = grown()
    client.leave()
    assert second.take(Fill)[0].rows == (0,)


def test_how_far_it_has_come_is_for_the_operator():
    talk, client, first, second = behind()
    admin = talk.admin()

    def told():
        admin.say(DescribeIds())
        return admin.take(DescribeIds.Answer)[0].filling

    assert told() == ()
    second.say(FillProgress(2, 0, 0))
    assert told() == ((second.id, 0, None),)
    talk.now += 100
    second.say(FillProgress(2, 1000, 250))
    (_, copied, seconds), = told()
    assert copied == 1000 and 299 <= seconds <= 301
    second.say(FillProgress(2, 0, 0))           # it begins again
    assert told() == ((second.id, 0, None),)
    second.leave()
    assert told() == ()


def test_who_does_not_hold_the_table_yet_is_not_told_to_fill_its_rows():
    talk, (first, second, third) = running(3, replicas=1, partitions=3)
    admin = talk.admin()
    admin.say(Tweak((third.id,), False))
    write(first), write(third)
    assert talk.node.tables.in_force.out_of_date.keys() == {first.id, second.id}
    assert first.hears(Fill) and not second.hears(Fill)
    write(second)
    assert second.take(Fill)[0].rows == tuple(talk.node.tables.in_force.out_of_date[second.id])


# -- a cell that is taken away meanwhile ---------------------------------------------------------
def taken_away():
    """Of three copies, that of S2 was away, and is told to copy.  Then it is to have no cell any
    more: the others have that in force before S2 has heard of it."""
    talk, (first, second, third) = running(3, replicas=2, partitions=1)
    client = talk.client()
    second.leave()
    write_all(first, third)
    again = talk.storage(identity=second.identity, id='S2', cluster_id=talk.node.cluster.id,
                         history=talk.node.cluster.history, term=1)
    grant(again)
    write(again)
    again.reply(Settle, 0)
    order = again.take(Fill)[0]
    change(talk, {'S1': UP, 'S3': UP})
    return talk, client, first, again, third, order


def change(talk, row):
    """Another table is sent, with such a row."""
    tables = talk.node.tables
    tables.write(talk.node, tables.newest.next([row]), lambda node: None)
    talk.act()


def test_a_cell_that_was_taken_away_does_not_come_back_when_it_is_filled():
    talk, client, first, second, third, order = taken_away()
    second.say(Filled((0,), order.upto))
    write_all(first, third)
    write_all(second)
    assert 'S2' not in talk.node.tables.newest.rows[0]


@pytest.mark.parametrize('missed', [False, True])
def test_a_cell_that_was_taken_away_and_given_back_is_a_new_one(missed):
    """S2 hears of nothing before all is done, and then of all at once."""
    talk, client, first, second, third, order = taken_away()
    write_all(first, third)
    if missed:
        second.say(Filled((0,), order.upto))    # it was on its way
    tid = commit(client, [first, third], oids=(2,))
    change(talk, {'S1': UP, 'S2': CellState.OUT_OF_DATE, 'S3': UP})
    write_all(first, third)
    client.say(TableTaken(talk.node.tables.in_force.key))
    if not missed:
        second.say(Filled((0,), order.upto))
    write_all(second)
    write_all(first, third)
    assert talk.node.tables.newest.rows[0]['S2'] == OUT
    again = second.take(Fill)[0]
    assert again.rows == (0,) and again.upto == tid
