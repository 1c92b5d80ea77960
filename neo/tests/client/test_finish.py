import pytest
from transaction.interfaces import TransientError
from ZODB.POSException import ReadOnlyError

from ...client.exception import (ClusterFull, NEOStorageError, OutcomeUnknown, RequestRefused,
                                 TransactionFailed)
from ...protocol import limits
from ...protocol.packets import (Abort, Finish, GaveWay, GiveWay, Invalidate, ListTransactions,
                                 Store, Sync, Vote, WhatBecameOf)
from ...protocol.types import MAX_ID, ErrorCode
from .conversation import METADATA, NOT_READY, Conversation, record


def finishing(last_tid=10):
    """(conversation, transaction, operation): *finish* of object 1 has been sent."""
    c = Conversation()
    storage, = c.up(last_tid=last_tid)
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    storage.votes()
    c.storage = storage
    return c, txn, c.do('finish', txn)


OWN = (12, (1,)),               # committed, as storages tell it


def lose_primary(c, **options):
    c.master.breaks()
    find_primary(c, **options)


def find_primary(c, last_tid):
    c.wait(1)
    c.welcome(term=2, last_tid=last_tid)
    c.next_ttid = 2 << 43
    c.gives_ids()
    if last_tid != 10:
        c.catches_up(OWN)


def test_own_transactions_and_those_of_others_are_told_in_one_order():
    c, txn, finish = finishing()
    c.master.says(Invalidate(11, (2,)))
    _, answer = c.master.hears(Finish)
    answer(Finish.Answer(txn.ttid, 12))
    c.master.says(Invalidate(13, (1,)))
    assert list(c.client.invalidations) == [(11, (2,), None), (12, (1,), finish), (13, (1,), None)]
    assert c.do('load_before', 1, 13).result[:2] == (12, 13)


def test_it_was_committed_though_the_primary_was_lost():
    c, txn, finish = finishing()
    lose_primary(c, last_tid=12)
    _, answer = c.master.hears(WhatBecameOf, ttid=txn.ttid)
    assert not finish.done and not c.client.invalidations
    c.master.says(Invalidate(15, (3,)))
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    assert finish.result == 12
    assert list(c.client.invalidations) == [(12, (1,), finish), (15, (3,), None)]
    assert not c.client.transactions


def test_it_was_committed_and_nobody_knows_what_else():
    c, txn, finish = finishing()
    c.master.breaks()
    c.wait(1)
    c.welcome(term=2, last_tid=12)
    c.next_ttid = 2 << 43
    c.gives_ids()
    c.meet('S1').refuses(ListTransactions, ErrorCode.REFUSED)
    c.gives_ids()
    _, answer = c.master.hears(WhatBecameOf, ttid=txn.ttid)
    c.master.says(Invalidate(15, (3,)))
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    assert finish.result == 12
    told = list(c.client.invalidations)
    assert told[-1] == (15, (3,), None)
    assert [t[0] for t in told] == sorted(t[0] for t in told)
    assert (12, (1,), finish) in told and (12, None, None) in told


def test_it_was_not_committed():
    c, txn, finish = finishing()
    lose_primary(c, last_tid=10)
    _, answer = c.master.hears(WhatBecameOf)
    c.master.says(Invalidate(15, (3,)))
    answer(WhatBecameOf.Answer(txn.ttid, None))
    assert isinstance(finish.error, TransactionFailed) and isinstance(finish.error, TransientError)
    assert list(c.client.invalidations) == [(15, (3,), None)]
    c.do('abort', txn)
    assert not c.meet('S1').heard


def test_what_became_of_it_is_asked_until_it_is_known():
    c, txn, finish = finishing()
    lose_primary(c, last_tid=10)
    c.master.refuses(WhatBecameOf, NOT_READY)
    c.wait(limits.RECONNECT_DELAY)
    c.master.hears(WhatBecameOf)
    lose_primary(c, last_tid=12)
    _, answer = c.master.hears(WhatBecameOf)
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    assert finish.result == 12


def test_a_sync_waits_for_what_is_held_back():
    c, txn, finish = finishing()
    lose_primary(c, last_tid=12)
    _, answer = c.master.hears(WhatBecameOf)
    sync = c.do('sync')
    _, answer_sync = c.master.hears(Sync)
    answer_sync(Sync.Answer(12))
    assert not sync.done and not c.client.invalidations
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    _, answer_sync = c.master.hears(Sync)
    answer_sync(Sync.Answer(12))
    assert sync.result == 12 and c.client.invalidations[-1].tid == 12


def test_nobody_can_tell():
    c, txn, finish = finishing()
    c.master.breaks()
    c.wait(limits.OUTCOME_TIMEOUT + 3)
    assert isinstance(finish.error, OutcomeUnknown)
    assert not isinstance(finish.error, TransientError)
    c.do('abort', txn)
    c.next_ttid = 2 << 43
    c.welcome(term=2, last_tid=12)
    c.gives_ids()
    c.catches_up(OWN)
    _, answer = c.master.hears(WhatBecameOf)
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    # It was too late for its thread, and ZODB has to know all the same.
    assert (12, (1,), None) in c.client.invalidations


def test_a_refused_finish_is_an_abort():
    c, txn, finish = finishing()
    c.master.refuses(Finish, ErrorCode.RETRY, 'S1 has been away')
    assert isinstance(finish.error, TransactionFailed)
    c.do('abort', txn)
    c.storage.hears(Abort, ttids=(txn.ttid,))


def test_who_has_given_up_leaves_no_locks_when_finish_is_refused():
    c, txn, finish = finishing()
    c.do('abort', txn)          # its thread was interrupted
    assert not c.storage.heard
    c.master.refuses(Finish, ErrorCode.RETRY, 'S1 has been away')
    c.storage.hears(Abort, ttids=(txn.ttid,))
    assert not c.client.transactions


def test_abort_after_finish_was_sent_says_nothing():
    c, txn, finish = finishing()
    c.do('abort', txn)
    assert not c.storage.heard and not finish.done


def test_what_is_loaded_while_it_is_finished_is_cached_as_ended():
    c, txn, finish = finishing()
    load = c.load(1)
    _, answer = c.master.hears(Finish)
    answer(Finish.Answer(txn.ttid, 12))
    c.storage.loads(5)
    assert load.result[:2] == (5, 12)


def test_a_told_tid_never_goes_back():
    c, txn, finish = finishing()
    c.master.says(Invalidate(10, (2,)))
    assert not c.client.invalidations and c.client.primary is None


# -- answers that make no sense -----------------------------------------------------------------
@pytest.mark.parametrize('ttid, tid', [
    (0, 10), (0, MAX_ID), (1, 12)], ids=['not above the last one', 'too high', 'of another one'])
def test_a_nonsense_end_costs_the_connection_and_is_asked_again(ttid, tid):
    c, txn, finish = finishing()
    _, answer = c.master.hears(Finish)
    answer(Finish.Answer(txn.ttid + ttid, tid))
    assert not finish.done and c.client.primary is None
    find_primary(c, last_tid=12)
    _, answer = c.master.hears(WhatBecameOf, ttid=txn.ttid)
    answer(WhatBecameOf.Answer(txn.ttid + 1, 12))
    assert not finish.done and c.client.primary is None
    lose_primary_again(c)
    _, answer = c.master.hears(WhatBecameOf, ttid=txn.ttid)
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    assert finish.result == 12


def lose_primary_again(c):
    c.wait(1)
    c.welcome(term=2, last_tid=12)
    c.gives_ids()


@pytest.mark.parametrize('tid', [10, MAX_ID])
def test_a_nonsense_invalidation(tid):
    c, txn, finish = finishing()
    c.master.says(Invalidate(tid, (1,)))
    assert c.client.primary is None and not finish.done


def test_an_import_ends_with_its_last_tid():
    c = Conversation()
    storage, = c.up()
    done = c.do('import_batch', [past(5, 0), past(7, 1)])
    storage.votes()
    packet, answer = c.master.hears(Finish)
    answer(Finish.Answer(packet.ttid, 9))
    assert not done.done and c.client.primary is None


@pytest.mark.parametrize('error, exception', [
    (ErrorCode.REFUSED, RequestRefused), (ErrorCode.PROTOCOL, RequestRefused),
    (ErrorCode.READ_ONLY, ReadOnlyError), (ErrorCode.FULL, ClusterFull),
    (ErrorCode.RETRY, TransactionFailed), (ErrorCode.NOT_READY, TransactionFailed),
    (ErrorCode.UNKNOWN_TTID, TransactionFailed)])
def test_a_refusal_fails_that_transaction_only(error, exception):
    c, txn, finish = finishing()
    other = c.begin()
    c.master.refuses(Finish, error, 'because')
    assert type(finish.error) is exception and 'because' in str(finish.error)
    assert isinstance(finish.error, TransientError) == (exception is TransactionFailed)
    assert c.client.primary is not None and other.error is None and not c.closed


# -- imports ----------------------------------------------------------------------------------
def past(tid, *oids):
    return tid, ' ', b'u', b'd', b'', [record(oid, None, tid=tid) for oid in oids]


def test_an_import_is_one_transaction():
    c = Conversation()
    storage, = c.up()
    done = c.do('import_batch', [past(5, 0, 1), past(7, 1)])
    storage.votes(oids=(0, 1), records=(
        record(0, None, tid=5), record(1, None, tid=5), record(1, None, tid=7)), transactions=(
            (5, ' ', b'u', b'd', b'', (0, 1)), (7, ' ', b'u', b'd', b'', (1,))))
    packet, answer = c.master.hears(Finish, oids=(), imposed=((5, (0, 1)), (7, (1,))))
    answer(Finish.Answer(packet.ttid, 7))
    assert done.result == 7
    assert c.client.completed == [done]
    assert list(c.client.invalidations) == [(7, (0, 1), None)]


def test_imports_are_finished_in_their_order():
    c = Conversation()
    storage, = c.up()
    first, second = (c.do('import_batch', [past(tid, tid)]) for tid in (5, 7))
    _, vote = storage.hears(Vote)
    ttid = storage.heard[0][0].ttid
    storage.votes()
    c.gives_ids()
    assert not c.master.heard
    vote(Vote.Answer(ttid - 1, 0))
    packet, answer = c.master.hears(Finish, imposed=((5, (5,)),))
    assert not c.master.heard
    answer(Finish.Answer(packet.ttid, 5))
    packet, answer = c.master.hears(Finish, imposed=((7, (7,)),))
    answer(Finish.Answer(packet.ttid, 7))
    assert first.result == 5 and second.result == 7


def test_an_import_that_waits_for_its_turn_gives_way():
    c = Conversation()
    storage, = c.up()
    first, second = (c.do('import_batch', [past(tid, tid)]) for tid in (5, 7))
    _, vote = storage.hears(Vote)
    c.gives_ids()
    ttid = storage.heard[0][0].ttid
    storage.votes()
    # An older transaction, which the first one waits for, waits for the second one.
    storage.says(GiveWay(ttid))
    storage.hears(GaveWay, ttid=ttid, round=1)
    _, again = storage.hears(Vote, ttid=ttid, records=(), oids=(7,))
    vote(Vote.Answer(ttid - 1, 0))
    packet, answer = c.master.hears(Finish, imposed=((5, (5,)),))
    answer(Finish.Answer(packet.ttid, 5))
    assert not c.master.heard
    again(Vote.Answer(ttid, 1))
    packet, answer = c.master.hears(Finish, imposed=((7, (7,)),))
    storage.says(GiveWay(ttid))
    assert not storage.heard
    answer(Finish.Answer(packet.ttid, 7))
    assert first.result == 5 and second.result == 7


def test_an_import_that_fails_while_it_waits_for_its_turn():
    c = Conversation(storages=2, partitions=1, replicas=1)
    storages = c.up()
    first, second = (c.do('import_batch', [past(tid, tid)]) for tid in (5, 7))
    _, vote = storages[0].hears(Vote)
    for storage in storages:
        storage.hears(Vote) if len(storage.heard) > 1 else None
        storage.votes()
    storages[1].breaks()
    c.wait(limits.SUSPENSION)
    assert isinstance(first.error, TransactionFailed)
    assert isinstance(second.error, TransactionFailed)
    assert not c.client.imports.queue and not c.client.transactions
    assert not c.client.operations.unfinished


def test_an_import_fails_with_the_one_before_it():
    c = Conversation()
    storage, = c.up()
    first, second = (c.do('import_batch', [past(tid, tid)]) for tid in (5, 7))
    storage.refuses(Vote, ErrorCode.UNKNOWN_TTID)
    assert isinstance(first.error, TransactionFailed)
    assert isinstance(second.error, TransactionFailed)
    assert not c.client.imports.queue and not c.client.transactions
    assert not c.client.operations.unfinished


def test_large_imports_go_in_batches():
    c = Conversation()
    storage, = c.up()
    big = bytes(limits.STORE_BATCH)
    c.do('import_batch', [(5, ' ', b'', b'', b'', [record(1, None, big, 5)])])
    storage.hears(Store)
    storage.votes(records=())
    c.master.hears(Finish)


@pytest.mark.parametrize('batch', [
    [past(5, 0), past(5, 1)], [past(7, 0), past(5, 1)], [past(MAX_ID, 0)], [past(5, MAX_ID)]],
    ids=['equal', 'descending', 'tid too high', 'oid too high'])
def test_what_can_not_be_imported(batch):
    c = Conversation()
    storage, = c.up()
    assert isinstance(c.do('import_batch', batch).error, NEOStorageError)
    assert not storage.heard and not c.client.imports.queue
