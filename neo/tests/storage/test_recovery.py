"""What is left of transactions when the master, the connection or the process goes."""
import pytest

from neo.cluster import events
from neo.protocol import limits
from neo.protocol.packets import (ClusterStateChanged, FindTransactions, Load, Lock, RequestTerm,
                                  Settle, Store, Vote, WhatBecameOf)
from neo.protocol.types import ClusterState, ErrorCode, RowTid, Span, Unfinished
from neo.storage.engine.interface import EngineError
from neo.storage.engine.memory import MemoryEngine
from neo.storage.locking import LOCK

from .script import CANDIDATE, ROWS, TTID, Error, Script, kept, metadata, record

VOTED = None, None, ()          # what is told of one that is only voted: first, tid, rows


def crash(script, master):
    script.crash()


def lose_master(script, master):
    master.leave()


def another_term(script, master):
    """Nothing breaks; the same master starts over."""


def stand(script, fault, master, term=2):
    """`fault` comes, and then a primary of another term: what is told to it, and the master."""
    fault(script, master)
    if fault is not another_term:
        master = script.join(session=term)
    return master.ask(RequestTerm(term, CANDIDATE)), master


def unfinished(state):
    return {ttid: rest for ttid, *rest in map(tuple, state.unfinished)}


@pytest.mark.parametrize('fault', [crash, lose_master, another_term])
@pytest.mark.parametrize('stage', ['stored', 'spilled', 'voting', 'voted', 'voted large',
                                   'locked', 'unlocked', 'unlocked and committed'])
def test_what_is_unfinished(stage, fault):
    script = Script()
    master = script.serve()
    client = script.client()
    large = stage in ('spilled', 'voted large')
    for oid in range(6 if large else 1):
        client.store(TTID, record(oid, data=bytes(1 << 20) if large else b'data'))
    if stage == 'voting':
        script.client('C2').store(TTID + 1, record(9))
        client.vote(TTID, record(9), oids=[0, 9])
    elif stage not in ('stored', 'spilled'):
        client.voted(TTID, oids=[0])
    if stage.startswith(('locked', 'unlocked')):
        master.lock(TTID, 100, rows=(0,))
    if stage.startswith('unlocked'):
        master.unlock(TTID)
    if stage.endswith('committed'):
        script.wait(limits.LAZY_COMMIT)
    state, master = stand(script, fault, master)
    assert not client.open or fault is crash

    is_locked = stage == 'locked' or (stage == 'unlocked' and fault is crash)
    is_there = stage.startswith(('locked', 'unlocked'))
    is_voted = stage.startswith('voted') and fault is not crash
    assert unfinished(state) == (
        {TTID: [100, 100, (0,)]} if is_locked else {TTID: [*VOTED]} if is_voted else {})
    assert state.told == ((RowTid(0, 100),) if is_there and not is_locked else ())
    assert state.last_tid == (100 if is_there else 0)
    assert master.ask(WhatBecameOf(TTID)).tid == (100 if is_there else None)
    script.recover(master, term=2, settle=[u for u in state.unfinished if u.tid is not None])
    assert script.nothing_left()
    client = script.client('C1', term=2)
    loaded = client.load(0)
    assert (loaded.tid == 100) if is_there else (loaded.error == ErrorCode.NO_OBJECT)


def test_a_vote_is_not_on_the_disk():
    script = Script()
    script.serve()
    before = script.commits
    client = script.client()
    client.voted(TTID, record(1))
    assert script.commits == before
    script.wait(limits.LAZY_COMMIT)
    state, _ = stand(script, crash, None)
    assert not state.unfinished and state.last_tid == 0
    assert script.nothing_left()


@pytest.mark.parametrize('fault', [lose_master, another_term])
@pytest.mark.parametrize('size', [4, 2 << 20])
def test_no_oid_of_a_vote_is_given_again(fault, size):
    """It may be kept, since others have locked it; only the lost primary knew its oids."""
    script = Script()
    master = script.serve()
    client = script.client()
    for oid in 500, 7, 8:
        client.store(TTID, record(oid, None, bytes(size), tid=100))
    client.voted(TTID, oids=[500, 7, 8], transactions=[metadata(500, 7, 8, tid=100)])
    state, master = stand(script, fault, master)
    assert state.oid_mark == 501
    script.recover(master, term=2)
    assert stand(script, another_term, master, 3)[0].oid_mark == 0      # it was dropped


def test_a_crash_between_the_lock_and_its_answer():
    """The lock was committed, and nobody has heard of it: the next primary does."""
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1))
    master.open = False                         # what is sent to it is lost
    master.lock(TTID, 100, rows=(1,))
    state, master = stand(script, crash, None)
    assert unfinished(state) == {TTID: [100, 100, (1,)]}
    script.recover(master, term=2, settle=[kept(TTID, 100, rows=(1,))])
    assert script.client('C1', 2).load(1).tid == 100


def test_kept_and_dropped_and_locked_at_once():
    script = Script()
    master = script.serve()
    client = script.client()
    client.voted(TTID, record(1))               # locked and kept
    client.voted(TTID + 1, record(2))           # locked and dropped
    client.voted(TTID + 2, record(3))           # voted and locked elsewhere
    client.voted(TTID + 3, record(4))           # voted only
    client.voted(TTID + 4, record(5))           # unlocked
    for i, tid in (4, 99), (0, 100), (1, 101):
        master.lock(TTID + i, tid)
    master.unlock(TTID + 4)
    state, master = stand(script, lose_master, master)
    assert unfinished(state) == {
        TTID: [100, 100, ROWS], TTID + 1: [101, 101, ROWS], TTID + 2: [*VOTED], TTID + 3: [*VOTED]}
    spans = [Span(TTID + i, tid, tid) for i, tid in enumerate([100, 101, 102, 99, 104])]
    assert master.ask(FindTransactions(spans)).found == (TTID + 3,)     # by its tid: 99
    script.recover(master, term=2, settle=[kept(TTID, 100), kept(TTID + 2, 102),
                                           kept(TTID + 9, 104)])
    assert script.nothing_left()
    client = script.client('C1', term=2)
    assert [getattr(client.load(oid), 'tid', None) for oid in range(1, 6)] == [
        100, None, 102, None, 99]
    # What the dropped one had locked is new again.
    client.voted(2 * TTID, record(2), record(4))


def test_what_was_dropped_was_never_current():
    script = Script()
    master = script.serve()
    client = script.client()
    script.commit(client, master, TTID, 100, record(1))
    client.voted(TTID + 1, record(1, base=100), record(7))
    master.lock(TTID + 1, 101)
    _, master = stand(script, another_term, master)
    script.recover(master, term=2)
    client = script.client('C1', term=2)
    assert client.load(1).tid == 100 and client.load(7).error == ErrorCode.NO_OBJECT
    client.voted(2 * TTID, record(1, base=100), record(7))
    script.crash()
    assert script.engine.current(1) == 100 and script.engine.current(7) is None


@pytest.mark.parametrize('unlocked', [True, False])
def test_told_is_raised_by_unlock_only(unlocked):
    script = Script()
    master = script.serve()
    client = script.client()
    script.commit(client, master, TTID, 100, record(1))
    client.voted(TTID + 1, record(3))
    master.lock(TTID + 1, 101, rows=(1, 3))
    if unlocked:
        master.unlock(TTID + 1)
    state, _ = stand(script, another_term, master)
    last = 101 if unlocked else 100
    assert dict(state.told) == {0: 100, 1: last, 2: 100, 3: last}


def test_unlock_rides_with_the_next_commit():
    script = Script()
    master = script.serve()
    client = script.client()
    script.commit(client, master, TTID, 100, record(1))
    assert script.engine.changed
    client.voted(TTID + 1, record(2))
    master.lock(TTID + 1, 101)
    state, _ = stand(script, crash, None)
    assert unfinished(state) == {TTID + 1: [101, 101, ROWS]}
    assert dict(state.told) == dict.fromkeys(ROWS, 100)


def test_votes_live_through_several_primaries():
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1))
    for term in 2, 3, 4:
        state, master = stand(script, lose_master, master, term)
        assert unfinished(state) == {TTID: [*VOTED]}
    script.recover(master, term=5, settle=[kept(TTID, 100)])
    assert script.client('C1', 5).load(1).tid == 100


def test_settled_and_not_unlocked_yet():
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1))
    master.lock(TTID, 100)
    _, master = stand(script, crash, None)
    script.recover(master, term=2, settle=[kept(TTID, 100)], unlock=False)
    client = script.client('C1', term=2)
    request = client.say(Load(1, 101))
    assert client.quiet()
    master.unlock(TTID)
    assert client.answer_to(request).tid == 100


def test_a_half_settled_cluster_recovers_again():
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1))
    state, master = stand(script, lose_master, master)
    assert master.ask(Settle([kept(TTID, 100)])).last_tid == 100
    state, master = stand(script, crash, None, term=3)
    assert unfinished(state) == {TTID: [100, 100, ROWS]}
    assert master.ask(Settle([kept(TTID, 100)])).last_tid == 100
    assert master.ask(Settle([])).last_tid == 0     # another primary may know better
    assert script.nothing_left()


@pytest.mark.parametrize('wrong', [
    Unfinished(TTID, None, None, ()), Unfinished(TTID, 101, 100, ()),
    Unfinished(TTID, 100, (1 << 63) - 1, ())])
def test_what_can_t_be_kept(wrong):
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1))
    _, master = stand(script, another_term, master)
    assert master.ask(Settle([wrong])).error == ErrorCode.REFUSED
    assert not script.engine.locked()
    script.recover(master, term=3)
    assert script.nothing_left()


def test_a_vote_undone_does_not_count():
    script = Script()
    master = script.serve()
    a, b = script.client('C1'), script.client('C2')
    b.voted(TTID + 1, record(1))
    vote = a.vote(TTID, record(1))
    b.give_way(TTID + 1)
    assert type(a.answer_to(vote)) is Vote.Answer
    state, master = stand(script, lose_master, master)
    assert unfinished(state) == {TTID: [*VOTED]}
    script.recover(master, term=2)
    assert script.nothing_left()


def test_no_master_no_service():
    script = Script()
    master = script.serve()
    client = script.client()
    client.voted(TTID, record(1))
    master.say(ClusterStateChanged(ClusterState.RECOVERING, 'S2 is gone'))
    assert not client.open
    assert list(script.node.transactions.kept) == [TTID]
    assert type(master.lock(TTID, 100)) is Error


def test_who_takes_no_part_in_recovery_drops_what_it_had_voted():
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1))
    _, master = stand(script, another_term, master)
    master.say(ClusterStateChanged(ClusterState.RUNNING, ''))
    assert not script.node.transactions.kept
    assert master.lock(TTID, 100).error == ErrorCode.UNKNOWN_TTID


def test_waiting_votes_and_reads_of_before_are_dropped():
    script = Script()
    master = script.serve()
    a, b = script.client('C1'), script.client('C2')
    a.voted(TTID, record(1))
    b.vote(TTID + 1, record(1))
    master.lock(TTID, 100)
    b.say(Load(1, 101))
    script.recover(master, term=2, settle=[kept(TTID, 100)])
    assert script.nothing_left()
    assert b.quiet()


def test_no_answer_without_a_commit():
    for number in range(1, 60):
        script = Script()
        master = script.serve()
        client = script.client()
        script.engine.fail_at(number)
        heard = []
        try:
            client.voted(TTID, record(1))
            assert type(master.lock(TTID, 100)) is Lock.Answer
            heard.append('lock')
            master.unlock(TTID)
            client.load(1)
            script.wait(limits.LAZY_COMMIT)
        except EngineError:
            pass
        else:
            break
        state, _ = stand(script, crash, None)
        if 'lock' in heard:
            assert state.last_tid == 100
            assert unfinished(state) in ({TTID: [100, 100, ROWS]}, {})
        else:
            assert unfinished(state) == {}
    else:
        raise AssertionError('it never ends')


def test_what_is_settled_is_settled_whole():
    """Some call of the engine fails: all that was settled is on the disk, or nothing."""
    for number in range(1, 60):
        script = Script()
        master = script.serve()
        client = script.client()
        for i in range(3):
            client.voted(TTID + i, record(i))
        master.lock(TTID, 100)
        master.lock(TTID + 1, 101)
        script.engine.fail_at(number)
        answered = None
        try:
            answered = master.ask(RequestTerm(2, CANDIDATE))
            answered = master.ask(Settle([kept(TTID, 100), kept(TTID + 2, 102)]))
        except EngineError:
            pass
        state, _ = stand(script, crash, None, term=3)
        before = {TTID: [100, 100, ROWS], TTID + 1: [101, 101, ROWS]}
        after = {TTID: [100, 100, ROWS], TTID + 2: [102, 102, ROWS]}
        assert unfinished(state) in (before, after)
        if type(answered) is Settle.Answer:
            assert unfinished(state) == after
            break
    assert number > 5
    assert [script.engine.current(oid) for oid in range(3)] == [100, None, 102]


def test_several_locks_need_one_commit():
    script = Script()
    master = script.serve()
    client = script.client()
    for i in range(5):
        client.voted(TTID + i, record(i))
    before = script.commits
    script.turn(*[events.Received(master.connection, Lock(TTID + i, 100 + i, 100 + i, ROWS), 50 + i)
                  for i in range(5)])
    assert script.commits == before + 1
    assert [request for packet, request in master.heard[-5:]] == list(range(50, 55))


@pytest.mark.parametrize('stage', ['voted', 'locked'])
def test_an_import_is_settled(stage):
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1, None, b'1', 50), record(1, None, b'2', 60), oids=[1],
                          transactions=[metadata(1, tid=50), metadata(1, tid=60)])
    if stage == 'locked':
        master.lock(TTID, 60, first=50)
        state, master = stand(script, crash, None)
        assert unfinished(state) == {TTID: [50, 60, ROWS]} and state.last_tid == 60
    else:
        _, master = stand(script, another_term, master)
    assert master.ask(FindTransactions([Span(TTID, 50, 60)])).found == ()
    script.recover(master, term=2, settle=[kept(TTID, 60, first=50)])
    assert master.ask(FindTransactions([Span(TTID, 50, 60)])).found == (TTID,)
    client = script.client('C1', term=2)
    assert client.load(1, 60).tid == 50 and client.load(1).tid == 60


def test_an_import_that_does_not_fit_is_not_settled():
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1, None, b'1', 50), oids=[1],
                          transactions=[metadata(1, tid=50)])
    _, master = stand(script, another_term, master)
    script.recover(master, term=2, settle=[kept(TTID, 70, first=60)])
    assert script.engine.last_tid() == 0 and script.nothing_left()
    # What others keep of it has been told: else these rows would be behind for good.
    assert script.engine.told() == [(row, 70) for row in ROWS]


@pytest.mark.parametrize('oid', [1, 2])
def test_a_vote_of_what_was_told_is_not_settled(oid):
    """Somebody has begun a transaction again that is in the history here; another storage has not
    been told of that one's end when all die."""
    script = Script()
    master = script.serve()
    client = script.client()
    script.commit(client, master, TTID, 50, record(1))
    client.voted(TTID, record(oid, 50 if oid == 1 else 0, b'more'))
    assert master.ask(WhatBecameOf(TTID)).tid == 50
    _, master = stand(script, another_term, master)
    script.recover(master, term=2, settle=[kept(TTID, 50)])
    client = script.client('C1', term=2)
    assert client.load(1).data == b'data'
    assert oid == 1 or client.load(oid).error == ErrorCode.NO_OBJECT
    assert script.nothing_left()


def test_what_was_told_is_found_though_nothing_of_it_was_stored():
    """Its client has claimed to have written in these rows.  Who has only locked it must not drop
    it, as it is known here that these rows have it."""
    script = Script()
    master = script.serve()
    script.commit(script.client(), master, TTID, 50, record(4))
    script.client('C2').voted(TTID + 1, transactions=[])
    master.lock(TTID + 1, 60)
    master.unlock(TTID + 1)
    _, master = stand(script, another_term, master)
    assert master.ask(FindTransactions([(TTID + 1, 60, 60), (TTID + 2, 61, 61)])).found \
        == (TTID + 1,)


def test_a_vote_in_rows_that_are_not_told_is_not_settled():
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1))
    _, master = stand(script, another_term, master)
    script.recover(master, term=2, settle=[kept(TTID, 50, rows=(0,))])
    assert script.engine.last_tid() == 0 and script.nothing_left()


def test_an_import_is_dropped_whole():
    script = Script()
    master = script.serve()
    client = script.client()
    script.commit(client, master, TTID, 40, record(1))
    client.voted(TTID + 1, record(1, None, b'1', 50), record(2, None, b'2', 60), oids=[1, 2],
                 transactions=[metadata(1, tid=50), metadata(2, tid=60)])
    master.lock(TTID + 1, 60, first=50)
    state, master = stand(script, crash, None)
    script.recover(master, term=2)
    client = script.client('C1', term=2)
    assert client.load(1).tid == 40 and client.load(2).error == ErrorCode.NO_OBJECT
    assert script.engine.last_tid() == 40


def test_starting_with_a_database_that_fails():
    engine = MemoryEngine()
    engine.fail_at(1)
    with pytest.raises(EngineError):
        Script(engine)


# -- large ones are locked in slices -------------------------------------------------------------
COUNT = 300


@pytest.fixture
def large():
    """A transaction of many records, for which *lock* has come and is not answered."""
    script = Script()
    script.m = script.serve()
    script.a, script.b = script.client('C1'), script.client('C2')
    script.commit(script.b, script.m, TTID + 9, 90, record(1))
    records = [record(oid, 90 if oid == 1 else 0, data=bytes(20_000))
               for oid in range(1, COUNT + 1)]
    for i in range(0, COUNT, 50):
        script.a.store(TTID, *records[i:i + 50])
    script.a.voted(TTID, oids=range(1, COUNT + 1))
    script.request = script.m.say(Lock(TTID, 100, 100, ROWS))
    assert script.m.answer_to(script.request) is None
    return script


def test_a_large_one_is_locked_in_slices(large):
    before = large.commits
    read = large.b.say(Load(1, 101))
    assert large.b.load(1, 100).tid == 90       # below its tid
    assert large.b.answer_to(read) is None
    assert large.b.load(COUNT + 1).error == ErrorCode.NO_OBJECT
    large.b.voted(TTID + 10, record(COUNT + 1))
    assert type(large.m.lock(TTID + 10, 101)) is Lock.Answer   # others are served meanwhile
    large.m.unlock(TTID + 10)
    assert large.m.lock(TTID, 100).error == ErrorCode.REFUSED       # asked for already
    assert large.slices(50) > 3
    assert type(large.m.answer_to(large.request)) is Lock.Answer
    assert large.commits > before + 1
    assert large.b.answer_to(read) is None
    large.m.unlock(TTID)
    assert large.b.answer_to(read).tid == 100
    assert large.nothing_left()


@pytest.mark.parametrize('done', [0, 2])
@pytest.mark.parametrize('fault', [crash, lose_master, another_term])
@pytest.mark.parametrize('keep', [True, False])
def test_a_large_one_half_locked_at_a_change_of_the_primary(large, done, fault, keep):
    for _ in range(done):
        large.step(events.Slice(50))
    if fault is crash:
        large.wait(limits.LAZY_COMMIT)          # what is half done is on the disk
    state, master = stand(large, fault, large.m)
    assert unfinished(state) == ({} if fault is crash else {TTID: [*VOTED]})
    assert LOCK not in large.node.background and state.last_tid == 90
    if keep and fault is not crash:
        request = master.say(Settle([kept(TTID, 100)]))
        assert master.answer_to(request) is None
        assert master.ask(Settle([])).error == ErrorCode.NOT_READY      # it is at it
        large.slices(50)
        assert master.answer_to(request).last_tid == 100
        large.recover(master, term=3, settle=[kept(TTID, 100)])
    else:
        large.recover(master, term=3)
    assert large.nothing_left()
    assert large.client('C1', 3).load(1).tid == (100 if keep and fault is not crash else 90)


def test_a_large_one_is_left_to_the_next_start_by_a_stop(large):
    large.step(events.Slice(50))
    large.m.say(ClusterStateChanged(ClusterState.STOPPING, ''))
    assert large.exit[0] == 0
    large.crash()
    assert large.nothing_left() and large.engine.current(1) == 90


def test_the_client_of_a_large_one_may_go(large):
    large.announce(removed=['C1'])
    large.slices(50)
    assert type(large.m.answer_to(large.request)) is Lock.Answer
    large.m.unlock(TTID)
    assert large.b.load(COUNT).tid == 100
    assert large.nothing_left()


def test_nothing_is_stored_to_what_is_being_locked(large):
    answer = large.a.ask(Store(TTID, [record(COUNT + 1)], ()))
    assert answer is None or type(answer) is Error
    large.slices(50)
    large.m.unlock(TTID)
    assert large.b.load(COUNT + 1).error == ErrorCode.NO_OBJECT


def test_what_was_dropped_is_cleaned_in_the_background():
    script = Script()
    master = script.serve()
    client = script.client()
    client.voted(TTID, *[record(oid) for oid in range(200)])
    master.lock(TTID, 100)
    script.recover(master, term=2)
    assert script.engine.needs_cleaning and script.engine.current(1) is None
    assert script.slices(50) > 3
    assert not script.engine.needs_cleaning and script.engine.measure()[0] == 0
    script.wait(limits.LAZY_COMMIT)
    assert not script.engine.changed
