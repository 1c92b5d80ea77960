"""Transactions while storages are lost, left behind, and filled."""
import pytest
from transaction.interfaces import TransientError

from ...cluster.partition_table import PartitionTable
from ...client.exception import TransactionFailed
from ...protocol import limits
from ...protocol.packets import (Abort, Conflict, Error, Finish, GaveWay, Ping, Store, TableChanged,
                                 TableTaken, Vote)
from ...protocol.types import CellState, ErrorCode
from .conversation import METADATA, Conversation, record

UP, OUT = CellState.UP_TO_DATE, CellState.OUT_OF_DATE
BIG = bytes(limits.STORE_BATCH)


def begun(**options):
    """(conversation, transaction, storages): two copies of one row."""
    c = Conversation(storages=2, partitions=1, replicas=1, **options)
    storages = c.up(last_tid=10)
    return c, c.begin(), storages


def one_is_filled():
    """(conversation, storages): S2 lacks all of the only row."""
    c = Conversation(storages=2, partitions=1, replicas=1)
    c.table = c.table.without(['S2'])
    return c, c.up(last_tid=10)


def finishes(c, txn, *voted):
    """*Finish* names the votes of these."""
    finish = c.do('finish', txn)
    _, answer = c.master.hears(Finish, voted=tuple((id, 7) for id in voted))
    answer(Finish.Answer(txn.ttid, 20))
    assert finish.result == 20


@pytest.mark.parametrize('told', ['before', 'after'])
def test_a_storage_that_is_left_behind_is_done_without(told):
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    two.breaks()
    if told == 'before':
        c.outdates('S2')
        assert vote.result == []
    else:
        assert not vote.done
        c.wait(limits.SUSPENSION / 2)
        c.outdates('S2')
    assert vote.result == [] and txn.error is None
    finishes(c, txn, 'S1')


def test_a_storage_that_is_left_behind_while_nobody_has_seen_it_go():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    two.hears(Vote)
    c.outdates('S2')
    assert vote.result == []
    two.hears(Abort, ttids=(txn.ttid,))
    finishes(c, txn, 'S1')


def test_what_is_stored_later_goes_to_the_others_only():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5, BIG))
    two.breaks()
    c.outdates('S2')
    c.wait(limits.RECONNECT_DELAY)
    two = c.meet('S2')
    two.hears(Abort, ttids=(txn.ttid,))
    c.do('store', txn, record(2, 5))
    vote = c.do('vote', txn, METADATA)
    one.hears(Store)
    one.votes(oids=(1, 2))
    assert vote.result == [] and not two.heard
    finishes(c, txn, 'S1')


def test_a_sender_that_waits_for_room_goes_on():
    c, txn, (one, two) = begun()
    stores = []
    while not stores or stores[-1].done:
        stores.append(c.do('store', txn, record(len(stores), 0, BIG)))
    while one.heard:
        _, answer = one.hears(Store)
        answer(Store.Answer(txn.ttid))
    two.breaks()
    assert not stores[-1].done
    c.outdates('S2')
    assert stores[-1].done and stores[-1].error is None


def test_nobody_waits_for_room_at_who_has_gone_and_is_not_needed():
    c, txn, (one, two) = begun()
    two.breaks()
    c.outdates('S2')
    stores = []
    while len(stores) * len(BIG) < 2 * limits.STORE_WINDOW:
        stores.append(c.do('store', txn, record(len(stores), 0, BIG)))
        while one.heard:
            _, answer = one.hears(Store)
            answer(Store.Answer(txn.ttid))
        if not stores[-1].done:
            c.wait(limits.BLIND_GRACE)
        assert stores[-1].done and stores[-1].error is None
    vote = c.do('vote', txn, METADATA)
    one.votes()
    assert vote.result == []
    finishes(c, txn, 'S1')


@pytest.mark.parametrize('back', [False, True])
def test_what_is_stored_after_the_vote_where_the_connection_was_lost(back):
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    two.votes()
    assert vote.result == []
    two.breaks()
    if back:
        c.wait(limits.RECONNECT_DELAY)
        c.meet('S2')
    assert c.do('store', txn, record(1, 5, b'new')).done
    vote = c.do('vote', txn, METADATA)
    one.hears(GaveWay)
    one.votes(round=1)
    c.wait(limits.SUSPENSION)
    assert isinstance(vote.error, TransactionFailed)


@pytest.mark.parametrize('voted', [False, True])
def test_one_that_stays_readable_is_not_waited_for_for_long(voted):
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    if voted:
        two.votes()
    two.breaks()
    c.wait(limits.SUSPENSION * .9)
    assert not vote.done
    c.wait(limits.SUSPENSION * .2)
    assert isinstance(vote.error, TransactionFailed) and isinstance(vote.error, TransientError)


def test_what_was_voted_counts_though_the_connection_is_lost():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    two.votes()
    two.breaks()
    one.votes()
    assert vote.result == []
    c.wait(2 * limits.SUSPENSION)
    c.master.heard.clear()
    finishes(c, txn, 'S1', 'S2')


def test_a_vote_that_is_kept_is_given_again_on_the_next_connection():
    """That it was asked to give way may have been lost."""
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    two.votes()
    two.breaks()
    c.wait(limits.RECONNECT_DELAY)
    two = c.meet('S2')
    two.hears(GaveWay, ttid=txn.ttid, round=1)
    one.votes()
    assert not vote.done
    two.votes(round=1, records=(), oids=(1,))
    assert vote.result == []


def test_what_was_not_voted_is_forgotten_with_the_connection():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    two.breaks()
    c.wait(limits.RECONNECT_DELAY)
    c.meet('S2')
    assert isinstance(vote.error, TransactionFailed)


def test_what_is_resolved_after_the_loss_was_not_voted():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    two.votes()
    _, answer = one.hears(Vote)
    two.breaks()
    one.says(Conflict(txn.ttid, 0, ((1, 8),)))
    c.do('store', txn, record(1, 8))
    vote = c.do('vote', txn, METADATA)
    one.hears(Store)[1](Store.Answer(txn.ttid))
    answer(Vote.Answer(txn.ttid, 0))
    assert not vote.done
    c.outdates('S2')
    assert vote.result == []
    finishes(c, txn, 'S1')


def test_what_is_resolved_at_once_takes_the_place_of_what_was_voted():
    """It is so large that it is sent before the next vote."""
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    one.votes()
    _, answer = two.hears(Vote)
    two.says(Conflict(txn.ttid, 0, ((1, 8),)))
    c.do('store', txn, record(1, 8, BIG))
    one.hears(GaveWay, ttid=txn.ttid, round=1)
    for storage in one, two:
        storage.hears(Store)[1](Store.Answer(txn.ttid))
    vote = c.do('vote', txn, METADATA)
    answer(Vote.Answer(txn.ttid, 0))
    one.votes(round=1, oids=(1,))
    assert vote.result == []


def test_a_storage_that_knows_better_than_the_table_here():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    two.refuses(Vote, ErrorCode.NOT_HERE)
    assert not vote.done
    c.outdates('S2')
    assert vote.result == []
    two.hears(Abort, ttids=(txn.ttid,))
    finishes(c, txn, 'S1')


def test_silence_is_not_waited_for_where_there_is_a_copy():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    for _ in range(6):
        c.wait(1)
        for peer in one, c.master:
            c.client.peers[peer.connection].heard = c.now
    assert not vote.done
    c.wait(2)
    assert isinstance(vote.error, TransactionFailed) and 'says nothing' in str(vote.error)


# -- who is filled ------------------------------------------------------------------------------
def test_who_is_filled_is_written_to_and_its_vote_is_told():
    c, (one, two) = one_is_filled()
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    two.votes(oids=(1,))
    assert not vote.done
    one.votes(oids=(1,))
    assert vote.result == []
    finishes(c, txn, 'S1', 'S2')


def test_who_is_filled_and_away_is_not_written_to():
    c = Conversation(storages=2, partitions=1, replicas=1)
    c.table = c.table.without(['S2'])
    c.welcome(last_tid=10)
    c.gives_ids()
    one = c.meet('S1')
    txn = c.begin()
    two = c.meet('S2')
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    assert vote.result == [] and not two.heard      # all of it, or nothing
    finishes(c, txn, 'S1')


@pytest.mark.parametrize('error', [ErrorCode.NOT_HERE, ErrorCode.NOT_READY, ErrorCode.FULL])
def test_who_is_filled_may_refuse(error):
    c, (one, two) = one_is_filled()
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    two.refuses(Vote, error)
    two.hears(Abort, ttids=(txn.ttid,))
    one.votes()
    assert vote.result == []
    finishes(c, txn, 'S1')


def test_who_is_filled_tells_of_no_conflicts():
    c, (one, two) = one_is_filled()
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    two.says(Conflict(txn.ttid, 0, ((1, 3),)))
    assert not vote.done
    one.votes()
    c.wait(limits.BLIND_GRACE)
    assert vote.result == []


def test_who_is_filled_and_late_is_waited_for_once():
    c, (one, two) = one_is_filled()
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    _, answer = two.hears(Vote)
    c.wait(2 * limits.BLIND_GRACE)
    one.votes()
    assert not vote.done
    c.wait(limits.BLIND_GRACE)
    assert vote.result == []
    two.hears(Abort, ttids=(txn.ttid,))
    _, alive = two.hears(Ping)
    finishes(c, txn, 'S1')
    second = c.begin()
    c.do('store', second, record(1, 20))
    vote = c.do('vote', second, METADATA)
    one.votes()
    assert vote.result == [] and not two.heard
    answer(Error(ErrorCode.UNKNOWN_TTID, 'aborted'))
    alive(Ping.Answer())                            # it has caught up
    third = c.begin()
    c.do('store', third, record(1, 20))
    c.do('vote', third, METADATA)
    two.votes(ttid=third.ttid)


def test_a_storage_of_which_some_rows_are_filled_is_needed_for_the_others():
    c = Conversation(storages=2, partitions=2, replicas=1)
    c.table = PartitionTable(1, 2, 1, [{'S1': UP, 'S2': UP}, {'S1': UP, 'S2': OUT}])
    one, two = c.up(last_tid=10)
    txn = c.begin()                                 # its metadata are of row 0
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    c.wait(2 * limits.BLIND_GRACE)
    assert not vote.done
    two.votes(oids=(1,))
    assert vote.result == []


def test_a_storage_that_is_needed_is_given_what_it_is_filled_with_though_it_is_not_reached_yet():
    """Its vote is for both rows."""
    c = Conversation(storages=2, partitions=2, replicas=1)
    c.table = PartitionTable(1, 2, 1, [{'S1': UP, 'S2': UP}, {'S1': UP, 'S2': OUT}])
    c.welcome(last_tid=10)
    c.gives_ids()
    one = c.meet('S1')
    txn = c.begin()                                 # its metadata are of row 0
    two = c.meet('S2')
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    assert not vote.done
    two.votes(oids=(1,))
    assert vote.result == []
    finishes(c, txn, 'S1', 'S2')


@pytest.mark.parametrize('late', [False, True])
def test_a_vote_that_waits_for_what_is_resolved_where_other_rows_are_filled(late):
    c = Conversation(storages=2, partitions=2, replicas=1)
    c.table = PartitionTable(1, 2, 1, [{'S1': UP, 'S2': UP}, {'S1': UP, 'S2': OUT}])
    one, two = c.up(last_tid=10)
    txn = c.begin()
    c.do('store', txn, record(2, 5))
    vote = c.do('vote', txn, METADATA)
    for storage in (one, two):
        storage.heard.clear()
    told = [(one, 0), (two, 0)]
    for storage, _ in told[:1] if late else told:
        storage.says(Conflict(txn.ttid, 0, ((2, 7),)))
    assert vote.result == [(2, 5, 7, False)]
    c.do('store', txn, record(2, 7))
    vote = c.do('vote', txn, METADATA)
    one.hears(Store)
    assert two.hears(Store)[0].records[0].base == 7
    if late:
        two.says(Conflict(txn.ttid, 0, ((2, 7),)))
    assert not vote.done


def test_who_was_taken_out_of_the_table_forgets_what_it_has_voted():
    c, txn, (one, two) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    one.votes(), two.votes()
    c.master.says(TableChanged(PartitionTable(1, 2, 0, [{'S1': UP}]).pack()))
    finishes(c, txn, 'S1')
    two.hears(Abort, ttids=(txn.ttid,))


# -- which table is taken -------------------------------------------------------------------------
def taken(c):
    return [packet.key for packet, _ in c.master.heard if type(packet) is TableTaken]


def test_a_table_is_taken_when_nothing_is_routed_by_an_older_one():
    c, first, (one, two) = begun()
    c.do('store', first, record(1, 5))
    c.do('vote', first, METADATA)
    one.votes()
    two.votes()
    c.outdates('S2')
    second = c.begin()
    assert taken(c) == []
    finish = c.do('finish', first)
    assert taken(c) == []                           # that which is being finished counts
    _, answer = c.master.hears(Finish)
    answer(Finish.Answer(first.ttid, 20))
    assert finish.result == 20 and taken(c) == [(1, 2)]
    c.changes_table(PartitionTable(1, 3, 1, [{'S1': UP, 'S2': UP}]))
    third = c.begin()
    c.changes_table(PartitionTable(1, 4, 1, [{'S1': UP, 'S2': OUT}]))
    c.do('abort', second)
    assert taken(c) == [(1, 2), (1, 3)]
    c.do('abort', third)
    assert taken(c) == [(1, 2), (1, 3), (1, 4)]


def test_the_first_table_is_taken_without_words():
    c, txn, _ = begun()
    c.do('abort', txn)
    assert taken(c) == []
    c.outdates('S2')
    assert taken(c) == [(1, 2)]


def test_an_import_that_waits_for_who_is_filled_when_the_primary_is_lost():
    c, (one, two) = one_is_filled()
    done = c.do('import_batch', [(15, ' ', b'', b'', b'', [record(1, None, tid=15)])])
    one.votes()
    assert not done.done and two.heard
    c.master.breaks()
    assert isinstance(done.error, TransactionFailed)
