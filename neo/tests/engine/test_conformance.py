"""What every engine does, as its interface says."""
import pytest

from neo.protocol.checksum import checksum
from neo.protocol.limits import SCAN_ROWS
from neo.protocol.types import MAX_ID
from neo.storage.engine.interface import EngineError

from .samples import all_records, all_transactions, everything, metadata, record


# -- commits and crashes --------------------------------------------------------------------
def test_a_new_database_is_empty(engine):
    assert not engine.changed
    assert engine.get('x') is None
    assert engine.unfinished() == []
    assert engine.load(0, MAX_ID) is None and engine.current(0) is None
    assert engine.history(0, MAX_ID, 10) == []
    assert engine.transactions(0, MAX_ID, 1, (0,), 10, 10) == ([], None)
    assert engine.records(0, None, MAX_ID, 1, (0,), 10, 10) == ([], None)
    assert engine.tid_of(1) is None
    assert engine.last_tid() == 0 and engine.last_oid() == -1
    assert engine.measure()[0] == 0


def test_changes_are_seen_at_once_and_lost_without_a_commit(database):
    engine = database.engine
    engine.add(1, 10, [metadata(1)], [record(1)])
    engine.put('x', 1)
    engine.commit()
    before = everything(engine)
    engine.add(2, 20, [metadata(1, 2)], [record(1, b'new'), record(2)])
    engine.pend(3, [record(3)])
    engine.vote(3, [])
    engine.put('x', 2)
    engine.put('y', 2)
    assert engine.changed and engine.get('x') == 2 and engine.current(2) == 20
    engine = database.reopen()
    assert not engine.changed
    assert everything(engine) == before
    assert engine.get('x') == 1 and engine.get('y') is None


def test_each_kind_of_change_survives_a_commit(database):
    engine = database.engine
    engine.put('x', (1, None, 'é', b'\xff', (2, ())))
    engine.pend(5, [record(50)])
    engine.pend(6, [record(60)])
    engine.vote(6, [metadata(60)])
    engine.pend(7, [record(70)])
    engine.vote(7, [metadata(70)])
    engine.lock_voted(7, 77)
    engine.add(8, 88, [metadata(80)], [record(80)])
    before = everything(engine)
    engine.commit()
    assert not engine.changed
    engine = database.reopen()
    assert everything(engine) == before
    assert engine.get('x') == (1, None, 'é', b'\xff', (2, ()))
    assert engine.unfinished() == [(6, None), (7, 77)]
    engine.vote(5, [])
    engine.lock_voted(5, 99)
    assert engine.load(50, 100)[0] == 99


def test_changed(engine):
    nothing = [lambda: engine.forget(1), lambda: engine.unlock(1), lambda: engine.drop_unvoted(),
               lambda: engine.pend(1, []), lambda: engine.get('x'), lambda: engine.commit()]
    for call in nothing:
        call()
        assert not engine.changed
    for change in [lambda: engine.put('x', 1), lambda: engine.pend(1, [record(1)]),
                   lambda: engine.vote(1, []), lambda: engine.lock_voted(1, 10),
                   lambda: engine.unlock(1), lambda: engine.add(2, 20, [], [record(1)])]:
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
def test_from_pend_to_unlock(database):
    engine = database.engine
    engine.pend(100, [record(1, b'one'), record(2, b'two')])
    engine.pend(100, [record(3, b'three')])
    assert engine.unfinished() == [] and engine.load(1, MAX_ID) is None
    engine.vote(100, [metadata(1, 2, 3, status='p')])
    assert engine.unfinished() == [(100, None)]
    assert engine.tid_of(100) is None and engine.last_tid() == 0 and engine.last_oid() == -1
    engine.commit()
    engine = database.reopen()
    engine.lock_voted(100, 7)
    assert engine.unfinished() == [(100, 7)]
    assert engine.load(3, 8) == (7, None, 0, checksum(b'three'), b'three', None)
    assert engine.tid_of(100) == 7
    assert engine.last_tid() == 7 and engine.last_oid() == 3
    assert engine.measure()[0] == 3
    engine.commit()
    engine = database.reopen()
    assert engine.unfinished() == [(100, 7)]
    engine.unlock(100)
    assert engine.unfinished() == []
    assert engine.transactions(0, 10, 1, (0,), 10, 1000) == (
        [(7, 100, 'p', b'user', b'why', b'{}', (1, 2, 3))], None)
    engine.commit()
    assert database.reopen().unfinished() == []


def test_a_record_pended_again_replaces_the_former(engine):
    engine.pend(1, [record(5, b'first'), record(6, b'kept')])
    engine.pend(1, [record(5, b'second'), record(5, b'third', compression=1)])
    engine.vote(1, [])
    engine.lock_voted(1, 10)
    assert engine.load(5, 11) == (10, None, 1, checksum(b'third'), b'third', None)
    assert engine.load(6, 11)[4] == b'kept'
    engine.add(2, 20, [], [record(5, b'fourth'), record(5, b'fifth')])
    assert engine.load(5, 21)[4] == b'fifth'
    assert engine.history(5, 30, 10) == [(20, 5), (10, 5)]


def test_an_import_of_many_tids_under_one_ttid(database):
    engine = database.engine
    engine.pend(1, [record(5, b'a', tid=10), record(5, b'b', tid=20), record(6, b'c', tid=20)])
    engine.pend(1, [record(5, b'bb', tid=20), record(7, b'd')])
    engine.vote(1, [metadata(5, tid=10), metadata(5, 6, tid=20)])
    engine.commit()
    engine = database.reopen()
    engine.lock_voted(1, 30)
    assert engine.unfinished() == [(1, 30)]
    assert engine.history(5, 100, 10) == [(20, 2), (10, 1)]
    assert engine.current(6) == 20 and engine.current(7) == 30
    assert [t[:2] for t in all_transactions(engine)[0]] == [(10, 1), (20, 1)]
    assert engine.tid_of(1) == 20 and engine.last_tid() == 30
    assert engine.measure()[0] == 3


def test_an_import_added_at_once(engine):
    engine.add(1, 20, [metadata(5, tid=10), metadata(5, 6, tid=20)],
               [record(5, b'a', tid=10), record(5, b'b', tid=20), record(6, b'c', tid=20)])
    assert engine.history(5, 100, 10) == [(20, 1), (10, 1)]
    assert engine.tid_of(1) == 20 and engine.unfinished() == []


def test_metadata_alone_and_records_alone(engine):
    engine.vote(1, [metadata(5)])
    engine.lock_voted(1, 10)
    assert engine.tid_of(1) == 10 and engine.last_tid() == 10 and engine.last_oid() == -1
    engine.add(2, 20, [], [record(5)])
    assert engine.tid_of(2) is None and engine.last_tid() == 20 and engine.last_oid() == 5
    engine.vote(3, [])
    engine.lock_voted(3, 30)
    assert engine.unfinished() == [(1, 10), (3, 30)] and engine.last_tid() == 20


def test_a_vote_again_replaces_the_metadata(engine):
    engine.pend(1, [record(5)])
    engine.vote(1, [metadata(5, user=b'first'), metadata(5, tid=4)])
    engine.vote(1, [metadata(5, user=b'second')])
    engine.lock_voted(1, 10)
    (transaction,), _ = all_transactions(engine)
    assert transaction[2:4] == (' ', b'second')


def test_forget(database):
    engine = database.engine
    engine.pend(1, [record(5)])
    engine.pend(2, [record(6)])
    engine.vote(2, [metadata(6)])
    engine.vote(3, [metadata(7)])
    engine.pend(4, [record(8, b'kept')])
    engine.vote(4, [metadata(8)])
    engine.commit()
    engine = database.reopen()
    for ttid in (1, 2, 3, 99):
        engine.forget(ttid)
        engine.forget(ttid)
    assert engine.unfinished() == [(4, None)]
    engine.commit()
    engine = database.reopen()
    assert engine.unfinished() == [(4, None)]
    engine.pend(2, [record(9)])     # the same ttid again, as after giving way
    engine.vote(2, [])
    engine.lock_voted(2, 20)
    engine.lock_voted(4, 40)
    assert [(oid, tid) for oid, tid, *_ in all_records(engine)[0]] == [(9, 20), (8, 40)]
    assert len(all_transactions(engine)[0]) == 1


def test_what_is_locked_is_not_forgotten(engine):
    engine.pend(1, [record(5)])
    engine.vote(1, [metadata(5)])
    engine.lock_voted(1, 10)
    engine.forget(1)
    assert engine.unfinished() == [(1, 10)] and engine.current(5) == 10
    engine.unlock(1)
    engine.forget(1)
    assert engine.current(5) == 10 and engine.tid_of(1) == 10


def test_locked_twice(engine):
    engine.pend(1, [record(5)])
    engine.vote(1, [])
    engine.lock_voted(1, 10)
    engine.lock_voted(1, 10)
    assert engine.history(5, 100, 10) == [(10, 4)]
    with pytest.raises(EngineError):
        engine.lock_voted(1, 11)


def test_what_was_not_voted_is_not_locked(engine):
    engine.pend(1, [record(5)])
    with pytest.raises(EngineError):
        engine.lock_voted(1, 10)


def test_nothing_is_written_over_the_history(engine):
    engine.add(1, 10, [metadata(5)], [record(5)])
    engine.commit()
    with pytest.raises(EngineError):
        engine.add(2, 10, [], [record(5)])


def test_nothing_is_written_over_metadata(database):
    engine = database.engine
    engine.add(1, 10, [metadata(5)], [record(5)])
    engine.commit()
    with pytest.raises(EngineError):
        engine.add(2, 10, [metadata(6)], [])
    with pytest.raises(EngineError):
        engine.commit()         # not half of it
    assert database.reopen().tid_of(2) is None


def test_drop_unvoted(database):
    engine = database.engine
    engine.pend(1, [record(1)])
    engine.pend(2, [record(2)])
    engine.vote(2, [metadata(2)])
    engine.pend(3, [record(3)])
    engine.vote(3, [])
    engine.lock_voted(3, 30)
    engine.commit()
    engine = database.reopen()
    engine.drop_unvoted()
    engine.commit()
    engine = database.reopen()
    assert engine.unfinished() == [(2, None), (3, 30)]
    engine.vote(1, [])
    engine.lock_voted(1, 40)
    engine.lock_voted(2, 50)
    assert [(oid, tid) for oid, tid, *_ in all_records(engine)[0]] == [(3, 30), (2, 50)]


# -- reads ----------------------------------------------------------------------------------
def test_load_before(engine):
    for tid in (10, 20, 30):
        engine.add(tid, tid, [], [record(5, b'%d' % tid), record(6)])
    assert engine.load(5, 10) is None and engine.load(5, 0) is None
    found = {before: engine.load(5, before)[:2] for before in (11, 20, 21, 30, 31, MAX_ID)}
    assert found == {11: (10, 20), 20: (10, 20), 21: (20, 30), 30: (20, 30), 31: (30, None),
                     MAX_ID: (30, None)}
    assert engine.load(5, 25)[4] == b'20'
    assert engine.load(4, 25) is None and engine.load(7, 25) is None


def test_deletions(engine):
    engine.add(1, 10, [], [record(5, b'there')])
    engine.add(2, 20, [], [record(5, None)])
    assert engine.load(5, 30) == (20, None, 0, checksum(None), None, None)
    assert engine.load(5, 20)[:2] == (10, 20)
    assert engine.current(5) == 20
    assert engine.history(5, 30, 10) == [(20, 0), (10, 5)]
    engine.add(3, 30, [], [record(5, b'again')])
    assert engine.load(5, 30)[1] == 30
    assert all_records(engine)[0][1] == (5, 20, 0, checksum(None), None, None)
    assert engine.measure()[0] == 1


def test_data_of_another_tid(engine):
    engine.add(1, 10, [], [record(5, b'zipped', compression=1), record(6, b'of another object')])
    engine.add(2, 20, [], [record(5, b'between')])
    engine.add(3, 30, [], [record(5, None, data_tid=10)])
    engine.add(4, 40, [], [record(5, None, data_tid=30)])       # a chain
    for tid, data_tid in ((30, 10), (40, 30)):
        there = 1, checksum(b'zipped'), b'zipped', data_tid
        assert engine.load(5, tid + 1)[2:] == there
        assert (5, tid, *there) in all_records(engine)[0]
    assert engine.history(5, 100, 10) == [(40, 6), (30, 6), (20, 7), (10, 6)]
    assert engine.load(5, 40)[:2] == (30, 40)


def test_data_that_are_missing_or_point_in_a_circle(engine):
    engine.add(1, 10, [], [record(5, None, data_tid=3), record(6, None, data_tid=10),
                           record(7, None, data_tid=20), record(8, None)])
    engine.add(2, 20, [], [record(7, None, data_tid=10), record(8, None, data_tid=10)])
    for oid, data_tid in ((5, 3), (6, 10), (7, 10), (8, 10)):
        tid, next_tid, _, _, data, found = engine.load(oid, 100)
        assert data is None and found == data_tid
        assert engine.history(oid, 100, 1) == [(tid, 0)]
    assert len(all_records(engine)[0]) == 6


def test_data_with_a_data_tid_are_kept_as_they_are(engine):
    engine.add(1, 10, [], [record(5, b'first')])
    engine.add(2, 20, [], [record(5, b'second', data_tid=10)])
    assert engine.load(5, 30)[4:] == (b'second', 10)


def test_history(engine):
    for tid in range(10, 20):
        engine.add(tid, tid, [], [record(5, b'x' * tid)])
    assert engine.history(5, 15, 3) == [(14, 14), (13, 13), (12, 12)]
    assert engine.history(5, 10, 3) == [] and engine.history(6, 15, 3) == []
    assert engine.history(5, 15, 0) == []
    assert len(engine.history(5, MAX_ID, MAX_ID)) == 10


@pytest.mark.parametrize('data', [b'', b'\0', bytes(range(256)) * 40, b'x' * (5 << 20)],
                         ids=['empty', 'zero', '10 KiB', '5 MiB'])
def test_data_come_back(database, data):
    engine = database.engine
    engine.pend(1, [record(1, data)])
    engine.vote(1, [metadata(1, user=data, description=data, extension=data)])
    engine.add(2, 20, [metadata(2, user=data)], [record(2, data)])
    engine.commit()
    engine = database.reopen()
    engine.lock_voted(1, 10)
    assert engine.load(1, 100)[4] == engine.load(2, 100)[4] == data
    assert engine.history(1, 100, 1) == [(10, len(data))]
    (first, second), _ = all_transactions(engine)
    assert first[3:6] == (data, data, data) and second[3] == data


def test_the_highest_ids(database):
    engine = database.engine
    engine.pend(MAX_ID, [record(MAX_ID), record(0)])
    engine.vote(MAX_ID, [metadata(0, MAX_ID)])
    engine.lock_voted(MAX_ID, MAX_ID)
    engine.add(1, 1, [], [record(MAX_ID, data_tid=MAX_ID), record(1)])
    engine.commit()
    engine = database.reopen()
    assert engine.unfinished() == [(MAX_ID, MAX_ID)]
    assert engine.last_tid() == engine.last_oid() == engine.tid_of(MAX_ID) == MAX_ID
    assert engine.load(MAX_ID, MAX_ID)[:2] == (1, MAX_ID)
    assert engine.load(MAX_ID, MAX_ID + 1)[:2] == (MAX_ID, None)
    assert engine.history(MAX_ID, MAX_ID + 1, 5) == [(MAX_ID, 4), (1, 4)]
    assert [r[:2] for r in all_records(engine, max_rows=1)[0]] == [
        (1, 1), (MAX_ID, 1), (0, MAX_ID), (MAX_ID, MAX_ID)]
    transactions, _ = all_transactions(engine, max_rows=1)
    assert [t[:2] + t[-1:] for t in transactions] == [(MAX_ID, MAX_ID, (0, MAX_ID))]
    assert engine.records(MAX_ID, MAX_ID, MAX_ID + 1, 1, (0,), 9, 99) == ([], None)
    engine.drop_unvoted()
    engine.unlock(MAX_ID)
    assert engine.unfinished() == []


def test_measure(database):
    engine = database.engine
    engine.add(1, 10, [], [record(oid) for oid in range(50, 100)])
    engine.commit()
    engine.add(2, 20, [], [record(oid) for oid in range(25, 75)])
    engine.pend(3, [record(oid) for oid in (0, 0, 50, 200)])
    engine.vote(3, [])
    engine.commit()
    engine = database.reopen()
    assert engine.measure()[0] == 75
    engine.lock_voted(3, 30)
    assert engine.measure()[0] == 77
    engine.commit()
    objects, size = database.reopen().measure()
    assert objects == 77 and size > 0


# -- iterations -----------------------------------------------------------------------------
def filled(engine):
    for tid in range(100, 160):
        oids = range(tid % 7, 40, 7)
        engine.add(tid * 2, tid, [metadata(*oids, extension=b'x' * 100)],
                   [record(oid, b'%d' % oid * 10) for oid in oids])


@pytest.mark.parametrize('max_rows, max_bytes', [(1, 1 << 20), (7, 1 << 20), (100, 1), (100, 333),
                                                 (1000, 1 << 20)])
@pytest.mark.parametrize('partitions, rows', [(1, (0,)), (5, (0, 1, 2, 3, 4)), (5, (3,)),
                                              (5, (4, 1)), (12, (0, 5, 11)), (3, ()), (3, (7,))])
def test_iterations_in_chunks(engine, partitions, rows, max_rows, max_bytes):
    filled(engine)
    records, _ = all_records(engine, 110, 140, partitions, rows, max_rows, max_bytes)
    assert [(tid, oid) for oid, tid, *_ in records] == [
        (tid, oid) for tid in range(110, 140) for oid in range(tid % 7, 40, 7)
        if oid % partitions in rows]
    assert all(data == b'%d' % oid * 10 for oid, _, _, _, data, _ in records)
    transactions, _ = all_transactions(engine, 110, 140, partitions, rows, max_rows, max_bytes)
    assert [t[:2] for t in transactions] == [
        (tid, tid * 2) for tid in range(110, 140) if tid % partitions in rows]


def test_chunks_are_as_large_as_asked(engine):
    engine.add(1, 10, [], [record(oid, b'x' * 1000) for oid in range(50)])
    for tid in range(20, 70):
        engine.add(tid, tid, [metadata(extension=b'x' * 1000)], [])
    assert len(engine.records(0, None, 100, 1, (0,), 20, 1 << 20)[0]) == 20
    assert 4 <= len(engine.records(0, None, 100, 1, (0,), 20, 4900)[0]) <= 5
    assert len(engine.records(0, None, 100, 1, (0,), 20, 1)[0]) == 1
    assert len(engine.transactions(0, 100, 1, (0,), 20, 1 << 20)[0]) == 20
    assert 4 <= len(engine.transactions(0, 100, 1, (0,), 20, 4900)[0]) <= 5
    assert len(engine.transactions(0, 100, 1, (0,), 20, 1)[0]) == 1


def test_records_go_on_within_a_tid(engine):
    filled(engine)
    first = engine.records(110, None, 111, 1, (0,), 100, 1 << 20)[0]
    middle = first[2][0]
    assert engine.records(110, middle, 111, 1, (0,), 100, 1 << 20)[0] == first[3:]
    assert engine.records(110, MAX_ID, 111, 1, (0,), 100, 1 << 20) == ([], None)
    assert engine.records(111, None, 111, 1, (0,), 100, 1 << 20) == ([], None)
    assert engine.transactions(111, 111, 1, (0,), 100, 1 << 20) == ([], None)
    assert engine.transactions(111, 0, 1, (0,), 100, 1 << 20) == ([], None)


def test_a_call_steps_over_so_many_rows_only(engine):
    count = SCAN_ROWS * 2 + 10
    engine.add(1, 10, [], [record(2 * oid, b'') for oid in range(count)])
    engine.add(2, 2 * count, [metadata(tid=2 * tid) for tid in range(1, count)], [
        record(2 * count + 1, b'')])
    found, after = engine.records(0, None, MAX_ID, 2, (1,), 10, 1000)
    assert found == [] and after > (10, SCAN_ROWS - 1)
    records, calls = all_records(engine, partitions=2, rows=(1,))
    assert [r[:2] for r in records] == [(2 * count + 1, 2 * count)]
    assert 3 <= calls <= 4
    found, after = engine.transactions(0, MAX_ID, 2, (1,), 10, 1000)
    assert found == [] and after >= SCAN_ROWS
    found, calls = all_transactions(engine, partitions=2, rows=(1,))
    assert found == [] and 3 <= calls <= 4


def test_free_space(engine):
    space = engine.free_space()
    assert space is None or space > 0


# -- locks ----------------------------------------------------------------------------------
def test_locked_in_one_step(database):
    engine = database.engine
    engine.lock(7, 70, 70, (1, 4), [metadata(1)], [record(1), record(2)])
    assert engine.locked() == [(7, 70, 70, (1, 4))] and engine.told() == []
    engine.commit()
    engine = database.reopen()
    assert engine.locked() == [(7, 70, 70, (1, 4))] and engine.told() == []
    assert engine.current(2) == 70 and engine.tid_of(7) == 70
    engine.lock(7, 70, 70, (1, 4), [metadata(1)], [record(1), record(2)])
    assert not engine.changed
    with pytest.raises(EngineError):
        engine.lock(7, 71, 71, (1, 4), [], [])


def test_locked_after_a_spill(database):
    engine = database.engine
    engine.pend(7, [record(1, b'early'), record(2, b'kept')])
    engine.commit()
    while not engine.prepare_lock(7, 70, 70, 1):
        assert engine.load(1, 100) is None and engine.find(0, 100) is False
    engine.lock(7, 70, 70, (0,), [metadata(1, 2)], [record(1, b'late'), record(3)])
    assert [(oid, tid, data) for oid, tid, _, _, data, _ in all_records(engine)[0]] == [
        (1, 70, b'late'), (2, 70, b'kept'), (3, 70, b'data')]
    assert engine.measure()[0] == 3 and engine.last_tid() == 70


def test_told(database):
    engine = database.engine
    for ttid, tid, rows in ((1, 10, (0, 1)), (2, 20, (1, 2)), (3, 30, (2,)), (4, 40, ())):
        engine.lock(ttid, tid, tid, rows, [], [record(1)])
    for ttid, expected in ((2, [(1, 20), (2, 20)]), (1, [(0, 10), (1, 20), (2, 20)]),
                           (4, [(0, 10), (1, 20), (2, 20)]), (3, [(0, 10), (1, 20), (2, 30)])):
        engine.unlock(ttid)
        engine.unlock(ttid)
        assert engine.told() == expected
        engine.commit()
        engine = database.reopen()
        assert engine.told() == expected
    assert engine.locked() == []


def test_dropped(database):
    engine = database.engine
    engine.lock(1, 10, 10, (0,), [metadata(1, 2)], [record(1, b'a'), record(2, b'b')])
    engine.unlock(1)
    engine.commit()
    before = everything(engine)
    engine.lock(2, 15, 20, (0, 1), [metadata(1, tid=15), metadata(3, tid=20)],
                [record(1, b'c', tid=15), record(3, b'd', tid=20)])
    engine.commit()
    engine.drop(2)
    engine.drop(2)
    assert everything(engine) == before and engine.told() == [(0, 10)]
    engine.commit()
    engine = database.reopen()
    assert everything(engine) == before
    engine.drop(1)
    assert everything(engine) == before


def test_find(engine):
    engine.lock(1, 10, 10, (0,), [], [record(1)])
    engine.lock(2, 20, 20, (0,), [metadata(2)], [])
    found = [(first, tid) for first in range(5, 26, 5) for tid in range(first, 26, 5)
             if engine.find(first, tid)]
    assert found == [(first, tid) for first in range(5, 26, 5) for tid in range(first, 26, 5)
                     if first <= 10 <= tid or first <= 20 <= tid]
