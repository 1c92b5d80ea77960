"""A client that takes the place of one which was interrupted anywhere."""
import random
import sys

import pytest

from ...client.core.client import Client
from ...client.core.legacy import legacy_of
from ...client.exception import TransactionFailed
from ...protocol.packets import Finish, Identify, Invalidate, WhatBecameOf
from .conversation import CLUSTER_ID, HISTORY, METADATA, Conversation, record
from .test_finish import finishing, past


def replace(c, **options):
    """The conversation goes on with a fresh client, on connections of its own."""
    heir = Conversation(former=c.client, **options)
    heir.next_ttid = c.next_ttid + 1000
    return heir


def test_it_asks_what_became_of_what_was_in_finish():
    c, txn, finish = finishing()
    c.begin()
    heir = replace(c)
    assert not heir.client.transactions
    fresh = heir.client.find_out(finish)
    assert fresh is not finish and not fresh.done
    heir.up(last_tid=10, id='C2')
    _, answer = heir.master.hears(WhatBecameOf, ttid=txn.ttid)
    # Others hear of it as well, and this client is another one for the primary.
    heir.master.says(Invalidate(12, (1,)))
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    assert fresh.result == 12 and fresh in heir.client.completed
    told = list(heir.client.invalidations)
    assert told[0] == (10, None, None) and (12, (1,), fresh) in told
    assert [tid for tid, *_ in told] == sorted(tid for tid, *_ in told)
    assert not heir.client.outcomes.finishing


def test_who_it_is_and_what_it_knows():
    c = Conversation()
    c.up(last_tid=10)
    c.client.delivered(11)
    heir = replace(c)
    assert heir.client.last_tid == 11
    _, answer = heir.accepts(('127.0.0.1', 10000)).hears(
        Identify, id=None, cluster_id=CLUSTER_ID, history=HISTORY, term=1)
    answer(Identify.Answer('M1', 'C2', CLUSTER_ID, HISTORY, 1, 0, 11, 2))
    # Even if nothing was committed: what ZODB has been told of was maybe told by half.
    assert list(heir.client.invalidations) == [(11, None, None)]
    assert heir.client.last_tid == 11


def test_one_that_has_never_been_connected():
    heir = replace(Conversation())
    heir.up(last_tid=10)
    assert heir.client.last_tid == 10 and heir.client.begin().done


def test_an_import_is_asked_about_too():
    c = Conversation()
    storage, = c.up()
    importing = c.do('import_batch', [past(5, 0), past(7, 1)])
    early = c.do('import_batch', [past(9, 1)])
    storage.votes()
    c.master.hears(Finish)
    heir = replace(c)
    heir.up(last_tid=7, id='C2')
    assert isinstance(heir.client.find_out(early).error, TransactionFailed)
    fresh = heir.client.find_out(importing)
    _, answer = heir.master.hears(WhatBecameOf, ttid=importing.ttid)
    answer(WhatBecameOf.Answer(importing.ttid, 7))
    assert fresh.result == 7


def test_what_is_known_of_it_goes_from_one_to_the_next():
    c, txn, finish = finishing()
    heir = replace(c)
    heir.up(last_tid=10, id='C2')
    _, answer = heir.master.hears(WhatBecameOf)
    answer(WhatBecameOf.Answer(txn.ttid, 12))
    third = replace(heir)
    assert third.client.find_out(finish).result == 12
    third.up(last_tid=12, id='C3')
    assert not third.master.heard


def test_what_has_ended_is_not_asked():
    c, txn, finish = finishing()
    _, answer = c.master.hears(Finish)
    answer(Finish.Answer(txn.ttid, 12))
    assert legacy_of(c.client).unsettled == ()
    # Whoever has not heard of its end yet asks the heir, as nobody else.
    assert replace(c).client.find_out(finish).result == 12


def test_a_child_leaves_its_parent_s_transactions_alone():
    c, txn, finish = finishing()
    assert legacy_of(c.client, unsettled=False).unsettled == ()


class Interrupted(BaseException):
    pass


def work(found):
    """All steps of a commit; `found` gets (conversation, operation whose outcome is open)."""
    c = Conversation()
    storage, = c.up(last_tid=10)
    found.append((c, None))
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    storage.votes()
    finish = c.client.finish(txn)
    found[-1] = c, finish
    c.act()
    _, answer = c.master.hears(Finish)
    answer(Finish.Answer(txn.ttid, 12))
    found[-1] = c, None


def lines_of_the_core(interrupt_at):
    """A trace function that raises at the n-th line of the pure client."""
    count = [0]

    def trace(frame, event, argument):
        if 'client/core' not in frame.f_code.co_filename:
            return None
        if event == 'line':
            count[0] += 1
            if count[0] == interrupt_at:
                raise Interrupted
        return trace
    return trace


def interrupted(at):
    """(what `work` has found, whether all of it was done)"""
    found = []
    trace = lines_of_the_core(at)
    former = sys.gettrace()
    sys.settrace(trace)
    try:
        work(found)
    except Interrupted:
        return found, False
    finally:
        sys.settrace(former)
    return found, True


def test_wherever_it_was_interrupted_a_fresh_one_goes_on():
    """Every third line of a commit, so that it does not take long."""
    at, done, unsettled = 1, False, 0
    while not done:
        found, done = interrupted(at)
        if found:
            c, finish = found[0]
            heir = Client(random.Random(1), 'test', [('127.0.0.1', 10000)])
            heir.succeed_to(c.client)
            heir.start(1000.0)
            unsettled += len(heir.outcomes.unknown)
            if finish is not None and not finish.done:
                assert not heir.find_out(finish).done
        at += 3
    assert at > 300 and unsettled


@pytest.mark.parametrize('committed', [False, True])
def test_the_outcome_reaches_who_waits(committed):
    c, txn, finish = finishing()
    heir = replace(c)
    fresh = heir.client.find_out(finish)
    heir.up(last_tid=10, id='C2')
    _, answer = heir.master.hears(WhatBecameOf)
    answer(WhatBecameOf.Answer(txn.ttid, 12 if committed else None))
    if committed:
        assert fresh.result == 12
    else:
        assert isinstance(fresh.error, TransactionFailed)
