import pytest
from transaction.interfaces import TransientError
from ZODB.POSException import StorageTransactionError

from ...client.exception import (ClusterFull, ClusterUnavailable, NEOStorageError,
                                 TransactionFailed)
from ...protocol import limits
from ...protocol.packets import (Abort, Conflict, DoesWait, Finish, GaveWay, GiveWay, Store,
                                 Vote)
from ...protocol.types import MAX_ID, MAX_OID, ErrorCode
from .conversation import METADATA, Conversation, record

BIG = bytes(limits.STORE_BATCH // 2 + 1)


def begun(**options):
    """(conversation, transaction, storages)"""
    c = Conversation(**options)
    storages = c.up(last_tid=10)
    return c, c.begin(), storages


def test_one_object_takes_two_messages():
    c, txn, (storage,) = begun()
    assert c.do('store', txn, record(1, 5)).done and not storage.heard
    vote = c.do('vote', txn, METADATA)
    storage.votes(ttid=txn.ttid, records=(record(1, 5),), checks=(), oids=(1,),
                  transactions=((None, ' ', b'user', b'description', b'', (1,)),))
    assert vote.result == []
    finish = c.do('finish', txn)
    packet, answer = c.master.hears(Finish, ttid=txn.ttid, table=(1, 1), oids=(1,), checked=(),
                                    voted=(('S1', 7),), imposed=())
    answer(Finish.Answer(txn.ttid, 20))
    assert finish.result == 20 and not storage.heard
    assert list(c.client.invalidations) == [(20, (1,), finish)]
    assert c.client.last_tid == 10
    c.client.delivered(20)
    assert c.load(1).result[:2] == (20, None)
    assert not c.client.transactions and not c.client.operations.unfinished


def test_each_storage_gets_what_belongs_to_it():
    c, txn, storages = begun(storages=2)
    for oid in 1, 2, 3:
        c.do('store', txn, record(oid, 0))
    c.do('check', txn, 4, 9)
    vote = c.do('vote', txn, METADATA)
    even, odd = storages        # rows 0 and 1; the ttid, an even number, is of row 0
    assert txn.ttid % 2 == 0
    even.votes(records=(record(2, 0),), checks=((4, 9),), oids=(2,),
               transactions=((None, *METADATA, (1, 2, 3)),))
    assert not vote.done
    odd.votes(records=(record(1, 0), record(3, 0)), checks=(), oids=(1, 3), transactions=())
    assert vote.result == []
    c.do('finish', txn)
    c.master.hears(Finish, oids=(1, 2, 3), checked=(4,))


def test_all_copies_are_written():
    c, txn, storages = begun(storages=2, replicas=1)
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    for storage in storages:
        assert not vote.done
        storage.votes(oids=(1,))
    assert vote.result == []


def test_batches_are_sent_when_they_are_full():
    c, txn, (storage,) = begun()
    for oid in 2, 4, 6:
        c.do('store', txn, record(oid, 0, BIG))
    for oid in 2, 4:
        storage.hears(Store, records=(record(oid, 0, BIG),))
    c.do('vote', txn, METADATA)
    storage.votes(records=(record(6, 0, BIG),), oids=(2, 4, 6))
    assert txn.state == 2


def test_many_small_records_make_a_batch_too():
    c, txn, (storage,) = begun()
    for oid in range(limits.STORE_BATCH_RECORDS):
        c.do('store', txn, record(oid, 0, b''))
    packet, _ = storage.hears(Store)
    assert len(packet.records) == limits.STORE_BATCH_RECORDS


def test_what_has_waited_for_a_storage_is_sent_in_batches():
    c = Conversation()
    c.welcome(last_tid=10)
    c.gives_ids()
    txn = c.begin()
    for oid in range(3):
        c.do('store', txn, record(oid, 0, BIG))
    c.do('store', txn, record(3, 0, bytes(3 * limits.STORE_BATCH)))
    c.do('check', txn, 4, 9)
    c.do('vote', txn, METADATA)
    storage = c.meet('S1')
    for oid in range(3):
        storage.hears(Store, records=(record(oid, 0, BIG),), checks=())
    storage.hears(Vote, records=(record(3, 0, bytes(3 * limits.STORE_BATCH)),), checks=((4, 9),),
                  oids=(0, 1, 2, 3))


def test_a_storage_that_does_not_acknowledge_stops_the_sender():
    c, txn, (storage,) = begun()
    stores = []
    while not stores or stores[-1].done:
        stores.append(c.do('store', txn, record(len(stores), 0, BIG)))
    assert len(stores) * len(BIG) > limits.STORE_WINDOW
    _, answer = storage.hears(Store)
    answer(Store.Answer(txn.ttid))
    assert stores[-1].done and stores[-1].error is None and stores[-1] in c.client.completed


def test_a_conflict_is_resolved_and_the_same_vote_goes_on():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    _, answer = storage.hears(Vote)
    storage.says(Conflict(txn.ttid, 0, ((1, 8),)))
    assert vote.result == [(1, 5, 8, False)]
    c.do('store', txn, record(1, 8, b'merged'))
    again = c.do('vote', txn, METADATA)
    _, taken = storage.hears(Store, records=(record(1, 8, b'merged'),))
    taken(Store.Answer(txn.ttid))
    answer(Vote.Answer(txn.ttid, 0))
    assert again.result == []


def test_a_vote_is_not_for_what_is_stored_after_it():
    """A storage that is being filled knows of no conflict: its vote does not wait for what is
    resolved."""
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    _, answer = storage.hears(Vote)
    storage.says(Conflict(txn.ttid, 0, ((1, 8),)))
    c.do('store', txn, record(1, 8, b'merged'))
    again = c.do('vote', txn, METADATA)
    _, taken = storage.hears(Store)
    answer(Vote.Answer(txn.ttid, 0))
    taken(Store.Answer(txn.ttid))
    assert not again.done
    storage.hears(Vote, records=())[1](Vote.Answer(txn.ttid, 0))
    assert again.result == []


@pytest.mark.parametrize('checked', [False, True])
def test_a_vote_again_without_resolving_tells_the_conflict_again(checked):
    c, txn, (storage,) = begun()
    c.do(*(('check', txn, 1, 5) if checked else ('store', txn, record(1, 5))))
    vote = c.do('vote', txn, METADATA)
    storage.hears(Vote)
    storage.says(Conflict(txn.ttid, 0, ((1, 8),)))
    assert vote.result == [(1, 5, 8, checked)]
    assert c.do('vote', txn, METADATA).result == vote.result


def test_who_was_interrupted_while_it_voted_votes_again():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    again = c.do('vote', txn, METADATA)
    storage.votes()
    assert again.result == [] and not storage.heard and not c.client.operations.unfinished


def test_a_conflict_told_by_both_copies_is_resolved_once():
    c, txn, storages = begun(storages=2, replicas=1)
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    answers = [storage.hears(Vote)[1] for storage in storages]
    storages[0].says(Conflict(txn.ttid, 0, ((1, 8),)))
    assert vote.result == [(1, 5, 8, False)]
    c.do('store', txn, record(1, 8))
    storages[1].says(Conflict(txn.ttid, 0, ((1, 8),)))
    again = c.do('vote', txn, METADATA)
    for storage, answer in zip(storages, answers):
        storage.hears(Store, records=(record(1, 8),))[1](Store.Answer(txn.ttid))
        answer(Vote.Answer(txn.ttid, 0))
    assert again.result == []


def test_a_conflict_while_another_one_is_resolved():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    storage.hears(Vote)
    storage.says(Conflict(txn.ttid, 0, ((1, 8),)))
    storage.says(GiveWay(txn.ttid))
    storage.hears(GaveWay, round=1)
    c.do('store', txn, record(1, 8))
    storage.says(Conflict(txn.ttid, 1, ((1, 9),)))
    assert c.do('vote', txn, METADATA).result == [(1, 8, 9, False)]


def test_a_serial_that_is_not_current():
    c, txn, (storage,) = begun()
    c.do('check', txn, 3, 5)
    vote = c.do('vote', txn, METADATA)
    storage.hears(Vote, checks=((3, 5),), oids=())
    storage.says(Conflict(txn.ttid, 0, ((3, 8),)))
    assert vote.result == [(3, 5, 8, True)]


def test_it_gives_way_before_the_vote_is_answered():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    _, answer = storage.hears(Vote)
    storage.says(GiveWay(txn.ttid))
    storage.hears(GaveWay, ttid=txn.ttid, round=1)
    storage.says(Conflict(txn.ttid, 0, ((1, 7),)))      # of the former round
    assert not vote.done and not storage.heard
    answer(Vote.Answer(txn.ttid, 1))
    assert vote.result == []


def test_a_storage_asks_what_a_transaction_waits_for():
    c, txn, (even, odd) = begun(storages=2)

    def does_wait(ttid=txn.ttid):
        even.says(DoesWait(ttid), 99)
        answer, = [packet for packet, request in even.heard if request == 99]
        even.heard.remove((answer, 99))
        return answer.waits

    c.do('store', txn, record(2, 0))
    c.do('store', txn, record(1, 0))
    assert not does_wait()                      # for its application
    c.do('vote', txn, METADATA)
    even.votes()
    assert does_wait()                          # for the other storage
    odd.votes()
    assert not does_wait()
    c.do('finish', txn)
    assert does_wait()                          # for the primary
    assert not does_wait(txn.ttid + 1)          # of which nothing is known


def test_an_answer_that_crosses_gave_way_does_not_count():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    _, answer = storage.hears(Vote)
    storage.says(GiveWay(txn.ttid))
    storage.hears(GaveWay)
    answer(Vote.Answer(txn.ttid, 0))
    assert not vote.done
    storage.votes(round=1, records=(), oids=(1,))
    assert vote.result == []


def test_it_gives_way_where_it_has_voted_while_it_waits_elsewhere():
    c, txn, (one, two) = begun(storages=2)
    for oid in 1, 2:
        c.do('store', txn, record(oid, 5))
    vote = c.do('vote', txn, METADATA)
    one.votes()
    one.says(GiveWay(txn.ttid))
    one.hears(GaveWay, round=1)
    _, answer = one.hears(Vote, records=(), oids=(2,))
    two.votes()
    assert not vote.done
    answer(Vote.Answer(txn.ttid, 1))
    assert vote.result == []


def test_once_it_waits_for_nothing_it_gives_way_to_nobody():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    storage.votes()
    storage.says(GiveWay(txn.ttid))
    assert not storage.heard
    c.do('finish', txn)
    storage.says(GiveWay(txn.ttid))
    assert not storage.heard


@pytest.mark.parametrize('late', [False, True], ids=['aborted at once', 'when it is back'])
@pytest.mark.parametrize('when', ['stored', 'voting', 'voted'])
def test_a_lost_storage_is_told_of_the_abort(when, late):
    c, txn, (storage, other) = begun(storages=2, replicas=1)
    c.do('store', txn, record(1, 5, BIG * 2))
    if when != 'stored':
        c.do('vote', txn, METADATA)
    if when == 'voted':
        for peer in storage, other:
            peer.hears(Store)
            peer.votes()
    storage.breaks()
    assert txn.error is None
    other.heard.clear()
    if late:
        c.wait(limits.RECONNECT_DELAY)
        again = c.meet('S1')
        assert isinstance(txn.error, TransactionFailed) is (when != 'voted')
    assert c.do('abort', txn).done
    other.hears(Abort, ttids=(txn.ttid,))
    if not late:
        c.wait(limits.RECONNECT_DELAY)
        again = c.meet('S1')
    again.hears(Abort, ttids=(txn.ttid,))
    assert not c.client.transactions


def test_a_storage_to_which_nothing_was_sent_may_come_later():
    c = Conversation()
    c.welcome()
    c.gives_ids()
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    c.meet('S1').votes(records=(record(1, 5),))
    assert vote.result == []


def test_a_storage_that_never_comes():
    c = Conversation(wait_timeout=3.0)
    c.welcome()
    c.gives_ids()
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    c.wait(6)
    assert isinstance(vote.error, ClusterUnavailable)


def test_a_vote_waits_for_locks_as_long_as_it_takes():
    c, txn, (storage,) = begun(wait_timeout=3.0)
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    _, answer = storage.hears(Vote)
    for _ in range(4):
        c.wait(4)
        for peer in storage, c.master:
            peer.says(GiveWay(0)) if peer is storage else peer.heard.clear()
            c.client.peers[peer.connection].heard = c.now
    answer(Vote.Answer(txn.ttid, 0))
    assert vote.result == []


def test_open_transactions_end_with_their_primary():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    c.master.breaks()
    assert isinstance(vote.error, TransientError)
    c.do('abort', txn)
    begin = c.do('begin')
    assert not begin.done               # ttids of the former primary are of no use
    c.wait(1)
    c.next_ttid = 2 << 43
    c.welcome(term=2, last_tid=10)
    c.gives_ids()
    assert begin.result.ttid == 2 << 43
    assert not c.meet('S1').heard


@pytest.mark.parametrize('error, exception', [
    (ErrorCode.UNKNOWN_TTID, TransactionFailed), (ErrorCode.NOT_READY, TransactionFailed),
    (ErrorCode.FULL, ClusterFull), (ErrorCode.REFUSED, NEOStorageError)])
def test_a_storage_refuses(error, exception):
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    storage.refuses(Vote, error, 'because')
    assert isinstance(vote.error, exception) and 'because' in str(vote.error)
    c.do('abort', txn)
    storage.hears(Abort)


def test_finish_needs_a_vote():
    c, txn, _ = begun()
    c.do('store', txn, record(1, 5))
    assert isinstance(c.do('finish', txn).error, NEOStorageError)
    assert txn.error is None


def test_what_was_aborted_is_not_spoken_of_any_more():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    _, answer = storage.hears(Vote)
    c.do('abort', txn)
    storage.hears(Abort, ttids=(txn.ttid,))
    assert vote.error is not None
    for packet in GiveWay(txn.ttid), Conflict(txn.ttid, 0, ((1, 8),)):
        storage.says(packet)
    answer(Vote.Answer(txn.ttid, 0))
    c.do('abort', txn)
    assert not storage.heard and not c.client.transactions


def test_what_comes_after_the_vote_is_refused():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    storage.votes()
    assert isinstance(c.do('store', txn, record(2, 5)).error, NEOStorageError)
    assert isinstance(c.do('check', txn, 2, 5).error, NEOStorageError)
    assert c.do('finish', txn).error is None


def test_an_imposed_tid():
    c, _, (storage,) = begun()
    refused = c.do('begin', 10)
    assert isinstance(refused.error, StorageTransactionError)
    txn = c.do('begin', 11).result
    c.do('store', txn, record(1, None, tid=11))
    c.do('vote', txn, METADATA)
    storage.votes(transactions=((11, *METADATA, (1,)),))
    finish = c.do('finish', txn)
    _, answer = c.master.hears(Finish, oids=(), imposed=((11, (1,)),))
    answer(Finish.Answer(txn.ttid, 11))
    assert finish.result == 11


def test_a_vote_answered_before_it_is_asked_for_again_is_not_waited_for():
    """What is resolved is so large that it is sent at once, and the vote that has waited for it is
    answered while the application still works on the rest."""
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    first = c.do('vote', txn, METADATA)
    _, answer_vote = storage.hears(Vote)
    storage.says(Conflict(txn.ttid, 0, ((1, 8),)))
    assert first.result == [(1, 5, 8, False)]
    c.do('store', txn, record(1, 8, bytes(limits.STORE_BATCH)))
    _, answer = storage.hears(Store)
    answer(Store.Answer(txn.ttid))
    answer_vote(Vote.Answer(txn.ttid, 0))
    assert c.do('vote', txn, METADATA).result == []
    c.do('finish', txn)
    c.master.hears(Finish, ttid=txn.ttid)


@pytest.mark.parametrize('fields', [{'oid': MAX_OID + 1}, {'base': MAX_ID}, {'tid': 11}])
def test_ids_that_nothing_can_have_are_refused_before_anything_is_sent(fields):
    c, txn, (storage,) = begun()
    refused = c.do('store', txn, record(1, 5)._replace(**fields))
    assert isinstance(refused.error, NEOStorageError)
    assert not isinstance(refused.error, TransientError)
    assert isinstance(c.do('check', txn, 1, MAX_ID).error, NEOStorageError)
    assert isinstance(c.do('begin', MAX_ID).error, NEOStorageError)
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    storage.votes(records=(record(1, 5),))


def test_a_vote_that_was_not_asked_for_ends_that_connection():
    c, txn, (storage,) = begun()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    _, answer = storage.hears(Vote)
    answer(Vote.Answer(txn.ttid, 3))
    assert isinstance(vote.error, TransactionFailed) and c.closed == [storage.connection]
