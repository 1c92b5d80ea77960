"""What is left of transactions when the master, the connection or the process goes."""
import pytest

from neo.cluster import events
from neo.protocol import limits
from neo.protocol.packets import (ClusterStateChanged, Load, Lock, RequestTerm, Settle, Vote,
                                  WhatBecameOf)
from neo.protocol.types import ClusterState, Unfinished
from neo.storage.engine.interface import EngineError
from neo.storage.engine.memory import MemoryEngine

from .script import CANDIDATE, TTID, Error, Script, metadata, record


def crash(script, master):
    script.crash()


def lose_master(script, master):
    master.leave()


def another_term(script, master):
    """Nothing breaks; the same master starts over."""


@pytest.mark.parametrize('fault', [crash, lose_master, another_term])
@pytest.mark.parametrize('alone', [True, False])
@pytest.mark.parametrize('stage', ['stored', 'spilled', 'voted', 'locked', 'unlocked'])
def test_what_is_unfinished(stage, alone, fault):
    script = Script()
    master = script.serve()
    client = script.client()
    count = 6 if stage == 'spilled' else 1
    for oid in range(count):
        client.store(TTID, record(oid, data=bytes(1 << 20) if count > 1 else b'data'))
    if stage in ('voted', 'locked', 'unlocked'):
        client.voted(TTID, oids=[0], alone=alone)
    if stage in ('locked', 'unlocked'):
        master.lock(TTID, 100)
    if stage == 'unlocked':
        master.unlock(TTID)
        script.wait(limits.LAZY_COMMIT)
    fault(script, master)
    if fault is not another_term:
        master = script.join(session=2)
    state = master.ask(RequestTerm(2, CANDIDATE))
    assert not client.open or fault is crash
    expected = {'voted': [(TTID, None)], 'locked': [(TTID, 100)]}.get(stage, [])
    assert [(u.ttid, u.tid) for u in state.unfinished] == ([] if alone else expected)
    assert state.last_tid == (100 if stage in ('locked', 'unlocked') else 0)
    tid = 100 if stage in ('locked', 'unlocked') else None
    assert master.ask(WhatBecameOf(TTID)).tid == tid
    script.recover(master, term=2, settle=[(u.ttid, u.tid) for u in state.unfinished if u.tid])
    assert script.nothing_left()
    client = script.client('C1', term=2)
    loaded = client.load(0)
    assert (loaded.tid if tid else loaded.error) == (100 if tid else 3)


def test_what_another_storage_has_locked():
    script = Script()
    master = script.serve()
    client = script.client()
    for i in range(3):
        client.voted(TTID + i, record(10 + i))
    script.crash()
    master = script.join()
    script.recover(master, term=2, settle=[(TTID + 1, 100), (TTID + 7, 101)])
    client = script.client('C1', term=2)
    assert client.load(11).tid == 100
    assert type(client.load(10)) is Error and type(client.load(12)) is Error
    assert script.nothing_left()
    script.crash()                              # unlocking is lazy: it is asked for again
    assert script.engine.unfinished() == [(TTID + 1, 100)]
    assert script.engine.get('oid_mark') == 12
    script.recover(script.join(), term=3, settle=[(TTID + 1, 100)])
    assert script.nothing_left()


def test_settled_and_not_unlocked_yet():
    script = Script()
    script.serve()
    script.client().voted(TTID, record(1))
    script.crash()
    master = script.join()
    script.recover(master, term=2, settle=[(TTID, 100)], unlock=False)
    client = script.client('C1', term=2)
    request = client.say(Load(1, 101))
    assert client.quiet()
    master.unlock(TTID)
    assert client.answer_to(request).tid == 100


def test_a_half_settled_cluster_recovers_again():
    script = Script()
    script.serve()
    script.client().voted(TTID, record(1))
    script.crash()
    master = script.join()
    assert master.ask(RequestTerm(2, CANDIDATE)).granted
    assert master.ask(Settle([Unfinished(TTID, 100, 100, ())])).last_tid == 100
    script.crash()
    state = script.join().ask(RequestTerm(3, CANDIDATE))
    assert [(u.ttid, u.tid) for u in state.unfinished] == [(TTID, 100)]


def test_a_vote_undone_is_never_counted_after_a_crash():
    script = Script()
    script.serve()
    a, b = script.client('C1'), script.client('C2')
    b.voted(TTID + 1, record(1))
    vote = a.vote(TTID, record(1))
    b.give_way(TTID + 1)
    assert type(a.answer_to(vote)) is Vote.Answer
    script.crash()
    script.recover(script.join(), term=2)       # nobody has locked it: it is dropped
    assert script.nothing_left()


def test_no_master_no_service():
    script = Script()
    master = script.serve()
    client = script.client()
    client.voted(TTID, record(1))
    master.say(ClusterStateChanged(ClusterState.RECOVERING, 'S2 is gone'))
    assert not client.open
    assert script.engine.unfinished() == [(TTID, None)]
    assert type(master.lock(TTID, 100)) is Error


def test_waiting_votes_and_reads_of_before_are_dropped():
    script = Script()
    master = script.serve()
    a, b = script.client('C1'), script.client('C2')
    a.voted(TTID, record(1))
    b.vote(TTID + 1, record(1))
    master.lock(TTID, 100)
    b.say(Load(1, 101))
    script.recover(master, term=2, settle=[(TTID, 100)])
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
            heard.append('vote')
            assert type(master.lock(TTID, 100)) is Lock.Answer
            heard.append('lock')
            master.unlock(TTID)
            client.load(1)
            script.wait(limits.LAZY_COMMIT)
        except EngineError:
            pass
        else:
            break
        script.crash()
        state = script.join().ask(RequestTerm(2, CANDIDATE))
        if 'lock' in heard:
            assert (state.unfinished, state.last_tid) in [
                (((TTID, 100, 100, ()),), 100), ((), 100)]
        elif 'vote' in heard:
            assert [(u.ttid, u.tid) for u in state.unfinished] == [(TTID, None)]
    else:
        raise AssertionError('it never ends')


def test_several_locks_need_one_commit():
    script = Script()
    master = script.serve()
    client = script.client()
    for i in range(5):
        client.voted(TTID + i, record(i))
    before = script.commits
    script.turn(*[events.Received(master.connection, Lock(TTID + i, 100 + i, 100 + i, ()), 50 + i)
                  for i in range(5)])
    assert script.commits == before + 1
    assert [request for packet, request in master.heard[-5:]] == list(range(50, 55))


def test_an_import_is_settled():
    script = Script()
    master = script.serve()
    script.client().voted(TTID, record(1, None, b'1', 50), record(1, None, b'2', 60), oids=[1],
                          transactions=[metadata(1, tid=50), metadata(1, tid=60)])
    master.lock(TTID, 60)
    script.crash()
    master = script.join()
    state = script.recover(master, term=2, settle=[(TTID, 60)])
    assert [(u.ttid, u.tid) for u in state.unfinished] == [(TTID, 60)] and state.last_tid == 60
    client = script.client('C1', term=2)
    assert client.load(1, 60).tid == 50 and client.load(1).tid == 60


def test_starting_with_a_database_that_fails():
    engine = MemoryEngine()
    engine.fail_at(1)
    with pytest.raises(EngineError):
        Script(engine)
