"""What every engine does, as its interface says."""
import random

import pytest

from neo.protocol.checksum import checksum
from neo.protocol.types import MAX_ID
from neo.storage.engine.interface import EngineError

from .samples import (add, all_records, all_transactions, clean, everything, lock, metadata,
                      record)


# -- commits and crashes --------------------------------------------------------------------
def test_a_new_database_is_empty(engine):
    assert not engine.changed and not engine.needs_cleaning
    assert engine.get('x') is None
    assert engine.locked() == engine.told() == []
    assert engine.load(0, MAX_ID) is None and engine.current(0) is None
    assert engine.history(0, MAX_ID, 10) == []
    assert engine.transactions(0, MAX_ID, 1, (0,), 10, 10) == ([], None)
    assert engine.records(0, None, MAX_ID, 1, (0,), 10, 10) == ([], None)
    assert engine.tid_of(1) is None and not engine.find(0, MAX_ID)
    assert engine.last_tid() == 0 and engine.last_oid() == -1
    assert engine.measure()[0] == 0


def test_changes_are_seen_at_once_and_lost_without_a_commit(database):
    engine = database.engine
    add(engine, 1, 10, [metadata(1)], [record(1)])
    lock(engine, 2, 20, [metadata(1)], [record(1)], (1,))
    engine.put('x', 1)
    engine.commit()
    before = everything(engine)
    lock(engine, 3, 30, [metadata(1, 2)], [record(1, b'new'), record(2)])
    engine.pend(4, [record(3)])
    engine.unlock(2)
    engine.put('x', 2)
    engine.put('y', 2)
    assert engine.changed and engine.get('x') == 2 and engine.current(2) == 30
    engine = database.reopen()
    assert not engine.changed
    assert everything(engine) == before
    assert engine.get('x') == 1 and engine.get('y') is None
    engine.drop(2)
    engine = database.reopen()
    assert everything(engine) == before


def test_each_kind_of_change_survives_a_commit(database):
    engine = database.engine
    engine.put('x', (1, None, 'é', b'\xff', (2, ())))
    lock(engine, 6, 66, [metadata(60)], [record(60)], (1, 2))
    lock(engine, 7, 77, [metadata(70)], [record(70)])
    lock(engine, 8, 88, [metadata(80)], [record(80)], (3,))
    engine.unlock(8)
    engine.drop(7)
    before = everything(engine)
    engine.commit()
    assert not engine.changed
    engine = database.reopen()
    assert everything(engine) == before
    assert engine.get('x') == (1, None, 'é', b'\xff', (2, ()))
    assert engine.locked() == [(6, 66, 66, (1, 2))] and engine.told() == [(3, 88)]


def test_changed(engine):
    nothing = [lambda: engine.forget(1), lambda: engine.unlock(1), lambda: engine.drop(1),
               lambda: engine.pend(1, []), lambda: engine.prepare_lock(1, 10, 10, 5),
               lambda: engine.promise(1, 10, 1), lambda: engine.clean(5), lambda: engine.get('x'),
               lambda: engine.commit()]
    for call in nothing:
        call()
        assert not engine.changed
    for change in [lambda: engine.put('x', 1), lambda: engine.pend(1, [record(1)]),
                   lambda: engine.prepare_lock(1, 10, 10, 5), lambda: lock(engine, 1, 10),
                   lambda: engine.unlock(1), lambda: lock(engine, 2, 20, [], [record(1)]),
                   lambda: engine.drop(2), lambda: engine.clean(5)]:
        change()
        assert engine.changed
        engine.commit()
        assert not engine.changed
    engine.put('x', 1)
    assert not engine.changed       # the same value


def test_close_loses_what_was_not_committed(database):
    database.engine.put('x', 1)
    database.engine.commit()
    database.engine.put('x', 2)
    database.engine.close()
    database.engine.close()
    with pytest.raises(EngineError):
        database.engine.load(1, 2)
    assert database.reopen().get('x') == 1


# -- named values ---------------------------------------------------------------------------
@pytest.mark.parametrize('value', [
    None, 0, MAX_ID, -1, '', 'text', b'', b'\0\xff', (), (1, ('a', b'b', None)), True])
def test_named_values(database, value):
    database.engine.put('a', value)
    database.engine.put('b', 'another')
    database.engine.commit()
    found = database.reopen().get('a')
    assert found == value and type(found) is type(value)


def test_a_named_value_is_replaced(database):
    for value in (1, True, '1', b'1', None):
        database.engine.put('a', value)
        assert database.engine.changed
        database.engine.commit()
        assert database.reopen().get('a') is value or database.engine.get('a') == value


# -- transactions on their way --------------------------------------------------------------
def test_locked_in_one_step(database):
    engine = database.engine
    lock(engine, 7, 70, [metadata(1, 2, status='p')], [record(1, b'one'), record(2)], (1, 4))
    assert engine.locked() == [(7, 70, 70, (1, 4))] and engine.told() == []
    engine.commit()
    engine = database.reopen()
    assert engine.locked() == [(7, 70, 70, (1, 4))] and engine.told() == []
    assert engine.load(1, 71) == (70, None, 0, checksum(b'one'), b'one', None)
    assert engine.tid_of(7) == 70 and engine.last_tid() == 70 and engine.last_oid() == 2
    assert engine.transactions(0, 100, 1, (0,), 10, 1000) == (
        [(70, 7, 'p', b'user', b'why', b'{}', (1, 2))], None)
    assert engine.measure()[0] == 2
    lock(engine, 7, 70, [metadata(1)], [record(1), record(2)], (1, 4))      # again
    assert not engine.changed
    with pytest.raises(EngineError):
        lock(engine, 7, 71)


def test_pended_in_parts(database):
    engine = database.engine
    engine.pend(7, [record(1, b'early'), record(2, b'kept')])
    engine.pend(7, [record(3, b'third'), record(2, b'newer')])
    assert engine.load(1, MAX_ID) is None and engine.measure()[0] == 0
    assert engine.tid_of(7) is None and engine.last_tid() == 0 and engine.last_oid() == -1
    engine.commit()
    lock(engine, 7, 70, [metadata(1, 2)], [record(1, b'late'), record(4)])
    expected = [(1, 70, b'late'), (2, 70, b'newer'), (3, 70, b'third'), (4, 70, b'data')]
    assert [(oid, tid, data) for oid, tid, _, _, data, _ in all_records(engine)[0]] == expected
    assert engine.measure()[0] == 4 and engine.last_tid() == 70 and engine.last_oid() == 4
    engine.commit()
    engine = database.reopen()
    assert [(oid, tid, data) for oid, tid, _, _, data, _ in all_records(engine)[0]] == expected
    assert not engine.needs_cleaning


def test_a_record_pended_again_replaces_the_former(engine):
    engine.pend(1, [record(5, b'first'), record(6, b'kept')])
    engine.pend(1, [record(5, b'second'), record(5, b'third', compression=1)])
    lock(engine, 1, 10)
    assert engine.load(5, 11) == (10, None, 1, checksum(b'third'), b'third', None)
    assert engine.load(6, 11)[4] == b'kept'
    add(engine, 2, 20, [], [record(5, b'fourth'), record(5, b'fifth')])
    assert engine.load(5, 21)[4] == b'fifth'
    assert engine.history(5, 30, 10) == [(20, 5), (10, 5)]


LARGE = b'x' * 10_000


@pytest.mark.parametrize('first, second', [(b'1' * 9000, b'2'), (b'1', b'2' * 9000),
                                           (b'1' * 9000, b'2' * 9000), (b'1' * 9000, None)])
def test_large_data_that_are_pended_again(engine, first, second):
    engine.pend(1, [record(5, first), record(6, LARGE)])
    engine.pend(1, [record(5, second)])
    engine.prepare_lock(1, 10, 10, 1)
    lock(engine, 1, 10, [], [record(6, LARGE), record(7, LARGE)])
    assert engine.load(5, 11)[4] == second
    assert engine.load(6, 11)[4] == engine.load(7, 11)[4] == LARGE
    assert engine.history(6, 11, 5) == [(10, len(LARGE))]
    assert engine.measure()[0] == 3


def test_an_import_of_many_tids_under_one_ttid(database):
    engine = database.engine
    engine.pend(1, [record(5, b'a', tid=10), record(5, b'b', tid=20), record(6, b'c', tid=20)])
    engine.pend(1, [record(5, b'bb', tid=20), record(7, b'd', tid=30)])
    lock(engine, 1, 30, [metadata(5, tid=10), metadata(5, 6, tid=20)],
         [record(8, b'e', tid=10)], (0, 2))
    engine.commit()
    engine = database.reopen()
    assert engine.locked() == [(1, 10, 30, (0, 2))]
    assert engine.history(5, 100, 10) == [(20, 2), (10, 1)]
    assert engine.current(6) == 20 and engine.current(7) == 30 and engine.current(8) == 10
    assert [t[:2] for t in all_transactions(engine)[0]] == [(10, 1), (20, 1)]
    assert engine.tid_of(1) == 20 and engine.last_tid() == 30
    assert engine.measure()[0] == 4


def test_metadata_alone_and_records_alone(engine):
    add(engine, 1, 10, [metadata(5)])
    assert engine.tid_of(1) == 10 and engine.last_tid() == 10 and engine.last_oid() == -1
    add(engine, 2, 20, [], [record(5)])
    assert engine.tid_of(2) is None and engine.last_tid() == 20 and engine.last_oid() == 5
    lock(engine, 3, 30)
    assert engine.locked() == [(3, 30, 30, ())] and engine.last_tid() == 20


def test_nothing_is_written_over_the_history(engine):
    add(engine, 1, 10, [metadata(5)], [record(5)])
    engine.commit()
    with pytest.raises(EngineError):
        lock(engine, 2, 10, [], [record(5)])


def test_nothing_is_written_over_metadata(database):
    engine = database.engine
    add(engine, 1, 10, [metadata(5)], [record(5)])
    engine.commit()
    with pytest.raises(EngineError):
        lock(engine, 2, 10, [metadata(6)], [])
    with pytest.raises(EngineError):
        engine.commit()         # not half of it
    assert database.reopen().tid_of(2) is None


# -- what was told --------------------------------------------------------------------------
def test_told(database):
    engine = database.engine
    for ttid, tid, rows in ((1, 10, (0, 1)), (2, 20, (1, 2)), (3, 30, (2,)), (4, 40, ())):
        lock(engine, ttid, tid, [], [record(1)], rows)
    for ttid, expected in ((2, [(1, 20), (2, 20)]), (1, [(0, 10), (1, 20), (2, 20)]),
                           (4, [(0, 10), (1, 20), (2, 20)]), (3, [(0, 10), (1, 20), (2, 30)])):
        engine.unlock(ttid)
        engine.unlock(ttid)
        assert engine.told() == expected
        engine.commit()
        engine = database.reopen()
        assert engine.told() == expected
    assert engine.locked() == []


def test_what_was_told_stays_told(database):
    """Whatever else is locked, told and dropped in the same rows."""
    engine = database.engine
    rnd, told = random.Random(3), {}
    for ttid in range(1, 200):
        rows = tuple(sorted(rnd.sample(range(6), rnd.randrange(4))))
        lock(engine, ttid, ttid, [], [record(rnd.randrange(9))], rows)
        if rnd.random() < .2:
            engine.drop(ttid)
        else:
            engine.unlock(ttid)
            told.update(dict.fromkeys(rows, ttid))
        assert engine.told() == sorted(told.items())
        if rnd.random() < .1:
            engine.commit()
            engine = database.reopen()
            assert engine.told() == sorted(told.items())


def test_an_unlock_is_durable_with_the_next_commit(database):
    """Whatever that one is for, and not before."""
    engine = database.engine
    lock(engine, 1, 10, [], [record(5)], (0,))
    lock(engine, 2, 20, [], [record(6)], (1,))
    engine.commit()
    engine.unlock(1)
    engine.put('name', 1)
    engine.commit()
    engine.unlock(2)
    engine = database.reopen()
    assert engine.locked() == [(2, 20, 20, (1,))] and engine.told() == [(0, 10)]
    engine.unlock(2)
    engine.commit()
    engine = database.reopen()
    assert engine.locked() == [] and engine.told() == [(0, 10), (1, 20)]


def test_what_is_locked_for_long_stays_locked(database):
    """While many others are locked and told, one commit after the other."""
    engine = database.engine
    lock(engine, 1, 1, [], [record(1)], (0, 3))
    lock(engine, 2, 2, [], [record(2)], (1,))
    engine.unlock(2)
    for tid in range(3, 300):
        lock(engine, tid, tid, [], [record(3)], (3,))
        engine.commit()
        engine.unlock(tid)
        if tid % 50 == 0:
            engine = database.reopen()
            assert engine.locked() == [(1, 1, 1, (0, 3)), (tid, tid, tid, (3,))]
            assert engine.told() == [(1, 2)] + [(3, tid - 1)] * (tid > 3)
            engine.unlock(tid)


# -- forget, drop, clean --------------------------------------------------------------------
def test_forget(database):
    engine = database.engine
    engine.pend(1, [record(5), record(6, LARGE)])
    engine.pend(2, [record(7, b'kept')])
    engine.commit()
    for ttid in (1, 99):
        engine.forget(ttid)
        engine.forget(ttid)
    engine.pend(1, [record(9)])     # the same ttid again
    assert engine.needs_cleaning
    assert clean(engine, 1) >= 2
    lock(engine, 1, 20)
    lock(engine, 2, 40)
    assert [(oid, tid) for oid, tid, *_ in all_records(engine)[0]] == [(9, 20), (7, 40)]
    engine.forget(1)                # it is locked
    engine.unlock(1)
    engine.forget(1)
    assert engine.current(9) == 20


def test_what_was_pended_ends_with_the_process(database):
    engine = database.engine
    for ttid in range(5):
        engine.pend(ttid, [record(oid, LARGE) for oid in range(3)])
    engine.commit()
    engine = database.reopen()
    assert engine.needs_cleaning and not engine.changed
    engine.pend(3, [record(1, b'new')])
    assert clean(engine, 2) >= 8
    lock(engine, 3, 30)
    assert [record[:2] for record in all_records(engine)[0]] == [(1, 30)]
    engine.commit()
    engine = database.reopen()
    assert not engine.needs_cleaning and engine.current(1) == 30


def locked_and_dropped(engine):
    add(engine, 1, 10, [metadata(1, 2)], [record(1, b'a'), record(2, LARGE)])
    before = everything(engine)
    lock(engine, 2, 20, [metadata(1, tid=15), metadata(3, tid=20)],
         [record(1, b'c', tid=15), record(3, LARGE, tid=20), record(1, b'd', tid=20)], (0, 1))
    add(engine, 3, 30, [metadata(1)], [record(1, b'e')])
    engine.commit()
    engine.drop(2)
    engine.drop(2)
    return before


def check_dropped(engine):
    """Of the former, everywhere."""
    assert engine.load(1, 30) == (10, 30, 0, checksum(b'a'), b'a', None)
    assert engine.load(1, 15)[:2] == (10, 30) and engine.load(1, 31)[:2] == (30, None)
    assert engine.load(3, 100) is None and engine.current(3) is None
    assert engine.history(1, 100, 1) == [(30, 1)] and engine.history(1, 30, 9) == [(10, 1)]
    assert engine.history(1, 100, 9) == [(30, 1), (10, 1)]
    assert engine.tid_of(2) is None
    assert not engine.find(11, 29) and engine.find(10, 10) and engine.find(11, 30)
    assert engine.locked() == []
    assert [t[:2] for t in all_records(engine)[0]] == [(1, 10), (2, 10), (1, 30)]
    assert [t.tid for t in all_transactions(engine)[0]] == [10, 30]
    for start in (12, 15, 20):
        assert [t[:2] for t in all_records(engine, start, 40)[0]] == [(1, 30)]
        assert [t.tid for t in all_transactions(engine, start, 40)[0]] == [30]
        assert all_records(engine, start, 28)[0] == all_transactions(engine, start, 28)[0] == []


@pytest.mark.parametrize('amount', [1, 2, 100])
def test_dropped(database, amount):
    engine = database.engine
    locked_and_dropped(engine)
    check_dropped(engine)
    while engine.needs_cleaning:
        engine.clean(amount)
        check_dropped(engine)
        engine.commit()
        engine = database.reopen()
        check_dropped(engine)
    assert engine.measure()[0] == 2 and engine.last_oid() == 2


def test_dropped_at_the_end(engine):
    add(engine, 1, 10, [metadata(1)], [record(1)])
    lock(engine, 2, 15, [metadata(5)], [record(5)])
    lock(engine, 3, 20, [metadata(6)], [record(6)])
    engine.drop(2)
    assert engine.last_tid() == 20
    engine.drop(3)
    assert engine.last_tid() == 10 and engine.measure()[0] == 3
    clean(engine)
    assert engine.last_tid() == 10 and engine.measure()[0] == 1 and engine.last_oid() == 1


def test_what_points_to_dropped_data(engine):
    lock(engine, 1, 10, [], [record(5, b'dropped')])
    engine.drop(1)
    add(engine, 2, 20, [], [record(5, None, data_tid=10)])
    for _ in range(2):
        assert engine.load(5, 21)[4:] == (None, 10) and engine.history(5, 21, 1) == [(20, 0)]
        clean(engine)


def test_tids_of_what_was_dropped_are_given_again(engine):
    lock(engine, 1, 10, [metadata(5)], [record(5, b'dropped'), record(6)])
    engine.drop(1)
    lock(engine, 2, 10, [metadata(5)], [record(5, b'other')])
    assert [(r.oid, r.data) for r in all_records(engine)[0]] == [(5, b'other')]
    assert engine.tid_of(2) == 10 and engine.tid_of(1) is None
    engine.drop(2)
    engine.pend(3, [record(7)])
    engine.prepare_lock(3, 9, 11, 1)
    lock(engine, 3, 11, [], [record(8, tid=9)])
    assert [r[:2] for r in all_records(engine)[0]] == [(8, 9), (7, 11)]


def test_cleaning_while_others_work(engine):
    locked_and_dropped(engine)
    engine.pend(4, [record(oid, LARGE) for oid in range(9)])
    engine.pend(5, [record(oid, b'5') for oid in range(9)])
    engine.prepare_lock(4, 40, 40, 4)
    engine.forget(5)
    clean(engine, 3)                # what is prepared stays
    engine.prepare_lock(4, 40, 40, 2)
    check_dropped(engine)
    lock(engine, 4, 40)
    assert [r[:2] for r in all_records(engine, 31)[0]] == [(oid, 40) for oid in range(9)]


# -- locks in slices ------------------------------------------------------------------------
@pytest.mark.parametrize('amount', [1, 3, 7, 100])
def test_a_lock_is_prepared_unseen(database, amount):
    engine = database.engine
    add(engine, 1, 10, [metadata(1)], [record(1, b'before')])
    before = everything(engine)
    engine.pend(7, [record(oid, b'%d' % oid * 1500) for oid in range(7)])
    slices = 0
    while not engine.prepare_lock(7, 70, 70, amount):
        slices += 1
        assert everything(engine) == before and not engine.find(11, 100)
        assert engine.load(1, 100)[:2] == (10, None)
        engine.commit()
        assert not engine.needs_cleaning
    assert 6 // amount <= slices <= 7 // amount + 1
    assert everything(engine) == before
    lock(engine, 7, 70, [metadata(1)], [record(3, b'late'), record(9)])
    assert [r.oid for r in all_records(engine, 11)[0]] == [0, 1, 2, 3, 4, 5, 6, 9]
    assert engine.load(3, 80)[4] == b'late' and engine.load(6, 80)[4] == b'6' * 1500
    assert engine.load(1, 70)[:2] == (10, 70)
    assert engine.measure()[0] == 8
    engine.commit()
    engine = database.reopen()
    assert not engine.needs_cleaning and len(all_records(engine)[0]) == 9


@pytest.mark.parametrize('end', ['forget', 'crash'])
@pytest.mark.parametrize('done', [0, 1, 5, 9])
def test_a_prepared_lock_that_is_not_reached(database, done, end):
    engine = database.engine
    add(engine, 1, 10, [metadata(1)], [record(1, LARGE)])
    engine.commit()
    before = everything(engine), engine.measure()[0]
    engine.pend(7, [record(oid, LARGE) for oid in range(8)])
    engine.prepare_lock(7, 70, 75, done)
    if end == 'forget':
        engine.forget(7)
    else:
        engine.commit()
        engine = database.reopen()
    assert everything(engine) == before[0] and engine.needs_cleaning
    while engine.clean(3):
        assert everything(engine) == before[0]
        engine.commit()
    assert (everything(engine), engine.measure()[0]) == before
    lock(engine, 7, 70, [], [record(5)])
    assert engine.current(5) == 70


def test_find(engine):
    lock(engine, 1, 10, [], [record(1)])
    lock(engine, 2, 20, [metadata(2)], [])
    pairs = [(first, tid) for first in range(5, 26, 5) for tid in range(first, 26, 5)]
    assert [pair for pair in pairs if engine.find(*pair)] == [
        (first, tid) for first, tid in pairs if first <= 10 <= tid or first <= 20 <= tid]


def test_should_commit(engine):
    assert not engine.should_commit
    engine.pend(1, [record(1, bytes(6 << 20))])
    engine.pend(1, [record(2, bytes(6 << 20))])
    assert engine.should_commit
    engine.commit()
    assert not engine.should_commit


# -- space ----------------------------------------------------------------------------------
def test_space(engine):
    free = engine.free_space()
    if free is None:
        assert engine.space() is None
        return
    space = engine.space()
    assert space.path and space.free > 0 and space.reserved > 0 and space.promised == 0
    assert engine.promise(1, 1 << 20, 3) and engine.promise(1, 1 << 20, 3)
    promised = engine.space().promised
    assert promised >= 2 << 20
    assert not engine.promise(2, 1 << 62, 1)
    assert engine.space().promised == promised
    engine.forget(1)
    assert engine.space().promised == 0
    engine.promise(2, 5000, 1)
    lock(engine, 2, 20, [], [record(1, LARGE[:5000])])
    assert engine.space().promised == 0
    engine.commit()
