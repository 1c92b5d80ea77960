"""Stores, locks, votes and their ends."""
import pytest

from neo.protocol import limits
from neo.protocol.packets import Conflict, GiveWay, Load, Lock, Store, Vote, WhatBecameOf
from neo.protocol.types import ErrorCode

from .script import TTID, Error, metadata, record

OLD, YOUNG = TTID, TTID + 1


def answer(party, request):
    """The answer to a vote, which was made to wait before."""
    found = party.answer_to(request)
    return found if found is None or type(found) is Error else found.round


# -- plain commits --------------------------------------------------------------------------
def test_commit(script):
    script.a.store(TTID, record(1, data=b'one'))
    assert script.a.voted(TTID, record(2, data=b'two'), oids=[1, 2]) == 0
    assert script.engine.current(1) is None
    script.m.lock(TTID, 100)
    script.m.unlock(TTID)
    assert script.a.load(1).data == b'one' and script.a.load(2).tid == 100
    assert script.nothing_left()
    assert script.m.ask(WhatBecameOf(TTID)).tid == 100
    assert script.m.ask(WhatBecameOf(TTID + 1)).tid is None


def test_durability_is_asked_for_where_it_counts(script):
    before = script.commits
    script.a.store(TTID, record(1))
    script.a.voted(TTID, oids=[1])
    assert script.commits == before             # the lock decides
    script.m.lock(TTID, 100)
    assert script.commits == before + 1
    script.m.unlock(TTID)
    assert script.commits == before + 1 and script.engine.changed
    script.wait(limits.LAZY_COMMIT)
    assert script.commits == before + 2 and not script.engine.changed


def test_only_metadata(script):
    script.a.voted(TTID, transactions=[metadata(9)], oids=[])
    script.m.lock(TTID, 100)
    assert script.m.ask(WhatBecameOf(TTID)).tid == 100


def test_only_checks(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    script.a.voted(TTID + 1, checks=[(1, 100), (2, 0)], transactions=[])
    script.m.lock(TTID + 1, 101)
    script.m.unlock(TTID + 1)
    assert script.nothing_left()


def test_the_later_store_of_an_oid_counts(script):
    script.a.store(TTID, record(1, data=b'first'))
    script.commit(script.a, script.m, TTID, 100, record(1, data=b'second'))
    assert script.a.load(1).data == b'second'


def test_a_vote_needs_all_oids(script):
    script.a.store(TTID, record(1))
    request = script.a.vote(TTID, oids=[1, 2])
    assert script.a.answer_to(request).error == ErrorCode.UNKNOWN_TTID
    script.a.abort(TTID)
    assert script.nothing_left()


def test_lock_of_what_was_not_voted(script):
    assert script.m.lock(TTID, 100).error == ErrorCode.UNKNOWN_TTID
    script.a.store(TTID, record(1))
    assert script.m.lock(TTID, 100).error == ErrorCode.UNKNOWN_TTID
    script.a.voted(TTID, oids=[1])
    script.m.lock(TTID, 100)
    assert script.m.lock(TTID, 100).error == ErrorCode.REFUSED


def test_ttids_of_another_term(script):
    ttid = TTID * 2
    assert script.a.ask(Store(ttid, [record(1)], ())).error == ErrorCode.UNKNOWN_TTID


def test_a_store_undoes_the_vote(script):
    script.a.voted(TTID, record(1))
    script.a.store(TTID, record(2))
    assert script.m.lock(TTID, 100).error == ErrorCode.UNKNOWN_TTID
    script.a.voted(TTID, record(3), oids=[1, 2, 3])
    assert type(script.m.lock(TTID, 100)) is Lock.Answer
    script.m.unlock(TTID)
    assert script.a.open and script.a.load(2).tid == 100


def test_nobody_touches_the_transactions_of_others(script):
    script.a.voted(TTID, record(1))
    script.b.abort(TTID)
    script.b.give_way(TTID)
    assert script.b.ask(Store(TTID, [record(1)], ())).error == ErrorCode.REFUSED
    assert script.b.answer_to(script.b.vote(TTID, record(1))).error == ErrorCode.REFUSED
    assert script.b.open and script.node.transactions.by_ttid[TTID].round == 0
    assert type(script.m.lock(TTID, 100)) is Lock.Answer


@pytest.mark.parametrize('say', ['abort', 'store', 'give_way'])
def test_nothing_but_the_end_comes_after_finish(script, say):
    script.a.voted(TTID, record(1))
    script.m.lock(TTID, 100)
    if say == 'store':
        assert script.a.ask(Store(TTID, [record(1)], ())).error == ErrorCode.REFUSED
    else:
        getattr(script.a, say)(TTID)
    assert script.a.open and not script.node.transactions.votes
    script.m.unlock(TTID)
    assert script.b.load(1).tid == 100
    assert script.nothing_left()


# -- conflicts ------------------------------------------------------------------------------
def test_conflict_and_resolution(script):
    script.commit(script.a, script.m, TTID, 100, record(1), record(2))
    vote = script.b.vote(TTID + 1, record(1, base=0), record(2, base=100))
    conflict = script.b.take(Conflict)
    assert (conflict.ttid, conflict.round, conflict.conflicts) == (TTID + 1, 0, ((1, 100),))
    assert script.b.quiet()
    script.b.store(TTID + 1, record(1, base=100, data=b'merged'))
    assert answer(script.b, vote) == 0
    script.m.lock(TTID + 1, 101)
    script.m.unlock(TTID + 1)
    assert script.b.load(1).data == b'merged'


def test_the_current_tid_is_right_with_and_without_the_memory(script):
    ttid = TTID
    for tid in 100, 101, 102:
        script.commit(script.a, script.m, ttid, tid, record(1, base=script.engine.current(1) or 0))
        ttid += 1
    script.node.transactions.current._tids.clear()
    script.commit(script.a, script.m, ttid, 103, record(1, base=102))
    script.b.store(ttid + 1, record(1, base=102))
    assert script.b.take(Conflict).conflicts == ((1, 103),)


def test_no_base_fits_all(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    script.commit(script.a, script.m, TTID + 1, 101, record(1, base=None))
    assert script.a.load(1).tid == 101


def test_failed_check(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    vote = script.b.vote(TTID + 1, checks=[(1, 50)], transactions=[])
    assert script.b.take(Conflict).conflicts == ((1, 100),)
    assert answer(script.b, vote) is None
    script.b.abort(TTID + 1)
    assert answer(script.b, vote).error == ErrorCode.UNKNOWN_TTID
    assert script.nothing_left()


@pytest.mark.parametrize('serials', [(50, 100), (100, 50), (100, 150)])
def test_two_serials_of_one_object_are_not_both_current(script, serials):
    script.commit(script.a, script.m, TTID, 100, record(1))
    for ttid, together in (TTID + 1, True), (TTID + 2, False):
        checks = [(1, serial) for serial in serials]
        if not together:
            script.b.store(ttid, checks=checks[:1])
        vote = script.b.vote(ttid, checks=checks if together else checks[1:], transactions=[])
        assert answer(script.b, vote) is None
        script.b.heard.clear()
        script.b.abort(ttid)
    assert script.nothing_left()


def test_conflict_after_waiting(script):
    script.a.voted(OLD, record(1))
    vote = script.b.vote(YOUNG, record(1))
    assert script.b.quiet()
    script.m.lock(OLD, 100)
    assert script.b.quiet()                     # nobody is told the tid yet
    script.m.unlock(OLD)
    assert script.b.take(Conflict).conflicts == ((1, 100),)
    script.b.store(YOUNG, record(1, base=100))
    assert answer(script.b, vote) == 0


# -- locks ----------------------------------------------------------------------------------
def test_waiting_for_an_older_one(script):
    script.a.store(OLD, record(1))
    vote = script.b.vote(YOUNG, record(1))
    assert script.a.quiet() and script.b.quiet()
    script.a.abort(OLD)
    assert answer(script.b, vote) == 0


def test_shared_checks(script):
    script.a.voted(OLD, checks=[(1, 0)], transactions=[])
    script.b.voted(YOUNG, checks=[(1, 0)], transactions=[])
    c = script.client('C3')
    vote = c.vote(TTID + 2, record(1))
    assert c.quiet()
    script.a.abort(OLD)
    assert c.quiet()
    script.b.abort(YOUNG)
    assert answer(c, vote) == 0


def test_give_way_of_a_store(script):
    script.b.store(YOUNG, record(1))
    vote = script.a.vote(OLD, record(1), record(2))
    assert script.b.take(GiveWay).ttid == YOUNG
    assert script.a.quiet()
    script.b.give_way(YOUNG)
    assert answer(script.a, vote) == 0
    vote = script.b.vote(YOUNG, oids=[1])
    script.m.lock(OLD, 100)
    script.m.unlock(OLD)
    conflict = script.b.take(Conflict)
    assert conflict.round == 1 and conflict.conflicts == ((1, 100),)
    script.b.store(YOUNG, record(1, base=100))
    assert answer(script.b, vote) == 1


def test_give_way_of_a_vote_that_was_answered(script):
    script.b.voted(YOUNG, record(1, data=b'young'))
    old = script.a.vote(OLD, record(1, data=b'old'))
    script.b.take(GiveWay)
    script.b.give_way(YOUNG)
    assert answer(script.a, old) == 0
    assert script.m.lock(YOUNG, 99).error == ErrorCode.UNKNOWN_TTID     # it does not count
    young = script.b.vote(YOUNG, oids=[1])
    assert script.b.quiet()
    script.a.abort(OLD)
    assert answer(script.b, young) == 1
    script.m.lock(YOUNG, 100)
    script.m.unlock(YOUNG)
    assert script.a.load(1).data == b'young'
    assert script.nothing_left()


def test_give_way_of_a_vote_that_waits(script):
    c = script.client('C3')
    c.store(TTID, record(2))                    # oldest
    young = script.b.vote(TTID + 2, record(1), record(2))
    middle = script.a.vote(TTID + 1, record(1))
    assert script.b.take(GiveWay).ttid == TTID + 2
    script.b.give_way(TTID + 2)
    assert answer(script.a, middle) == 0
    c.abort(TTID)
    assert script.b.quiet()
    script.a.abort(TTID + 1)
    assert answer(script.b, young) == 1         # the same request, in the new round


def test_give_way_with_a_resolved_record_in_the_engine(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    script.b.voted(TTID + 2, record(1, base=100, data=b'before'))
    old = script.a.vote(TTID + 1, record(1, base=100))
    script.b.give_way(TTID + 2)
    assert answer(script.a, old) == 0
    young = script.b.vote(TTID + 2, oids=[1])
    script.m.lock(TTID + 1, 101)
    script.m.unlock(TTID + 1)
    assert script.b.take(Conflict).conflicts == ((1, 101),)
    script.b.store(TTID + 2, record(1, base=101, data=b'after'))
    assert answer(script.b, young) == 1
    script.m.lock(TTID + 2, 102)
    script.m.unlock(TTID + 2)
    assert script.b.load(1).data == b'after'


def test_it_is_asked_once_per_round(script):
    script.b.store(TTID + 5, record(1), record(2), record(3))
    script.a.store(TTID, record(1), record(2))
    script.a.store(TTID, record(3))
    script.b.take(GiveWay)
    assert script.b.quiet()
    script.b.give_way(TTID + 5)
    script.a.abort(TTID)
    script.a.store(TTID + 1, record(1))
    script.b.take(GiveWay)
    script.b.give_way(TTID + 5, 2)
    script.b.give_way(TTID + 5, 2)              # not a new round
    assert script.node.transactions.by_ttid[TTID + 5].round == 2


def test_who_is_locked_is_not_asked_to_give_way(script):
    script.b.voted(YOUNG, record(1))
    script.m.lock(YOUNG, 100)
    vote = script.a.vote(OLD, record(1))
    assert script.b.quiet()
    script.m.unlock(YOUNG)
    script.a.take(Conflict)
    assert answer(script.a, vote) is None


def test_two_with_two_objects_the_wrong_way_round(script):
    script.a.store(OLD, record(1))
    script.b.store(YOUNG, record(2))
    old = script.a.vote(OLD, record(2), oids=[1, 2])
    young = script.b.vote(YOUNG, record(1), oids=[1, 2])
    script.b.take(GiveWay)
    script.b.give_way(YOUNG)
    assert answer(script.a, old) == 0 and script.b.quiet()
    script.a.abort(OLD)
    assert answer(script.b, young) == 1


def test_all_younger_ones_who_check_are_asked_to_give_way(script):
    checkers = {TTID + i: script.client('C%d' % (i + 3)) for i in (10, 12, 14, 16, 18)}
    for ttid, client in checkers.items():
        client.voted(ttid, checks=[(1, 0)], transactions=[])
    middle = script.b.vote(TTID + 13, record(1))
    assert [ttid - TTID for ttid, client in checkers.items() if not client.quiet()] == [14, 16, 18]
    old = script.a.vote(TTID, record(1))
    for ttid, client in checkers.items():
        assert client.take(GiveWay).ttid == ttid and client.quiet()     # once
        client.give_way(ttid)
    assert answer(script.a, old) == 0 and script.b.quiet()
    votes = {ttid: client.vote(ttid, oids=[], transactions=[])
             for ttid, client in checkers.items()}
    script.a.abort(TTID)
    assert [ttid - TTID for ttid, client in checkers.items()
            if answer(client, votes[ttid]) == 1] == [10, 12]
    assert script.b.quiet()
    for ttid in TTID + 10, TTID + 12:
        checkers[ttid].abort(ttid)
    assert answer(script.b, middle) == 0
    script.b.abort(TTID + 13)
    assert [ttid - TTID for ttid, client in checkers.items()
            if answer(client, votes[ttid]) == 1] == [14, 16, 18]


def test_check_and_write_by_two(script):
    script.a.store(OLD, checks=[(1, 0)])
    script.b.store(YOUNG, checks=[(1, 0)])
    old = script.a.vote(OLD, record(1))
    young = script.b.vote(YOUNG, record(1))
    script.b.take(GiveWay)
    script.b.give_way(YOUNG)
    assert answer(script.a, old) == 0
    script.m.lock(OLD, 100)
    script.m.unlock(OLD)
    assert script.b.take(Conflict).conflicts == ((1, 100),)
    script.b.abort(YOUNG)
    assert answer(script.b, young).error == ErrorCode.UNKNOWN_TTID
    assert script.nothing_left()


# -- clients that go ------------------------------------------------------------------------
@pytest.mark.parametrize('stage', ['stored', 'waiting', 'conflict', 'parked', 'voted',
                                   'spilled', 'gave way'])
@pytest.mark.parametrize('how', ['removed', 'abort', 'leave and removed', 'leave and abort'])
def test_what_is_not_locked_is_freed(script, stage, how):
    script.commit(script.b, script.m, TTID, 100, record(1))
    ttid = TTID + 5
    if stage == 'stored':
        script.a.store(ttid, record(2), checks=[(3, 0)])
    elif stage == 'waiting':
        script.b.store(TTID + 1, record(2))
        script.a.store(ttid, record(2))
    elif stage == 'conflict':
        script.a.store(ttid, record(1))
    elif stage == 'parked':
        script.b.store(TTID + 1, record(2))
        script.a.vote(ttid, record(2))
    elif stage == 'spilled':
        for oid in range(2, 8):
            script.a.store(ttid, record(oid, data=bytes(1 << 20)))
    else:
        script.a.voted(ttid, record(2))
    if stage == 'gave way':
        script.b.store(TTID + 1, record(2))
        script.a.give_way(ttid)
    if how.startswith('leave'):
        script.a.leave()
        if stage == 'voted':
            assert not script.nothing_left()
    if how == 'leave and abort':
        script.a = script.client('C1')
    if how.endswith('abort'):
        script.a.abort(ttid)
    else:
        script.announce(removed=['C1'])
    script.b.abort(TTID + 1)
    assert script.nothing_left()
    script.commit(script.b, script.m, TTID + 6, 101, record(2))
    script.wait(limits.LAZY_COMMIT)
    script.crash()
    assert script.nothing_left()


def test_what_is_locked_is_finished_without_the_client(script):
    script.a.voted(TTID, record(1))
    script.a.voted(TTID + 1, record(2))
    script.m.lock(TTID, 100)
    script.announce(removed=['C1'])
    assert not script.a.open
    assert script.m.lock(TTID + 1, 101).error == ErrorCode.UNKNOWN_TTID
    script.m.unlock(TTID)
    assert script.b.load(1).tid == 100
    assert script.b.load(2).error == ErrorCode.NO_OBJECT
    assert script.nothing_left()


def test_a_connection_that_broke_in_finish(script):
    for i in range(2):
        ttid = TTID + i
        script.a.voted(ttid, record(ttid))
        script.a.leave()
        assert type(script.m.lock(ttid, 100 + i)) is Lock.Answer
        script.m.unlock(ttid)
        assert script.b.load(ttid).tid == 100 + i
        script.a = script.client('C1')
    assert script.nothing_left()


def test_a_broken_connection_is_not_mended(script):
    script.a.store(TTID, record(1))
    script.a.leave()
    script.a = script.client('C1')
    request = script.a.vote(TTID, record(2), oids=[1, 2])
    assert script.a.answer_to(request).error == ErrorCode.UNKNOWN_TTID


def test_late_packets_of_a_client_that_is_gone(script):
    script.announce(removed=['C1'])
    script.a.say(Store(TTID, [record(1)], ()))
    script.a.say(Vote(TTID, [record(1)], (), [1], [metadata(1)]))
    assert script.nothing_left()


# -- imports --------------------------------------------------------------------------------
def test_imports_of_one_client_share(script):
    for ttid, tids in (TTID, (100, 101)), (TTID + 1, (102, 103)):
        script.a.voted(ttid, *[record(1, None, b'%d' % tid, tid) for tid in tids], oids=[1],
                       transactions=[metadata(1, tid=tid) for tid in tids])
    other = script.b.vote(TTID + 2, record(1))
    script.m.lock(TTID, 101, first=100)
    read = script.b.say(Load(1, 101))    # 100 is below
    assert script.b.answer_to(read) is None
    script.m.lock(TTID + 1, 103, first=102)
    script.m.unlock(TTID)
    assert script.b.answer_to(read).data == b'100'
    assert script.b.quiet()
    script.m.unlock(TTID + 1)
    assert script.b.take(Conflict).conflicts == ((1, 103),)
    assert [tid for tid, size in script.engine.history(1, 1 << 62, 9)] == [103, 102, 101, 100]
    assert script.m.ask(WhatBecameOf(TTID)).tid == 101
    assert answer(script.b, other) is None


def test_who_wants_a_tid_excludes_the_others_of_its_client(script):
    """Only what replaces whatever is there is not made from anything."""
    script.commit(script.a, script.m, TTID, 100, record(1))
    script.a.voted(TTID + 1, record(1, 100, tid=200), transactions=[metadata(1, tid=200)])
    script.a.vote(TTID + 2, record(1, 100, tid=300), transactions=[metadata(1, tid=300)])
    script.b.vote(TTID + 3, record(1, 100))
    assert script.a.quiet()
    script.m.lock(TTID + 1, 200)
    script.m.unlock(TTID + 1)
    assert script.a.take(Conflict).conflicts == ((1, 200),)


def test_imports_of_two_clients_exclude_each_other(script):
    script.a.store(OLD, record(1, None, tid=100))
    script.b.store(YOUNG, record(1, None, tid=100))
    assert script.node.transactions.by_ttid[YOUNG].waiting == {1}


# -- large ones -----------------------------------------------------------------------------
def test_a_large_transaction_goes_through_the_engine(script):
    data = bytes(1 << 20)
    for oid in range(1, 11):
        script.a.store(TTID, record(oid, data=data))
    assert script.node.transactions.by_ttid[TTID].size <= limits.PENDING_IN_MEMORY
    script.a.store(TTID, record(1, data=b'changed'))
    script.a.voted(TTID, record(11), oids=range(1, 12))
    script.m.lock(TTID, 100)
    script.m.unlock(TTID)
    assert script.nothing_left()
    assert script.a.load(1).data == b'changed' and script.a.load(10).data == data
    script.crash()
    assert script.engine.current(11) == 100


def test_a_large_one_gives_way(script):
    for oid in range(1, 7):
        script.b.store(YOUNG, record(oid, data=bytes(1 << 20)))
    script.b.voted(YOUNG, oids=range(1, 7))
    old = script.a.vote(OLD, record(3, data=b'old'))
    script.b.give_way(YOUNG)
    assert answer(script.a, old) == 0
    young = script.b.vote(YOUNG, oids=range(1, 7))
    script.a.abort(OLD)
    assert answer(script.b, young) == 1
    script.m.lock(YOUNG, 100)
    script.m.unlock(YOUNG)
    assert len(script.a.load(3).data) == 1 << 20
    assert script.nothing_left()
