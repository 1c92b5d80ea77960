"""What every engine gives to who reads, as its interface says."""

import pytest

from neo.protocol.checksum import checksum
from neo.protocol.limits import SCAN_ROWS
from neo.protocol.types import MAX_ID

from .samples import (add, all_records, all_transactions, clean, lock, metadata,
                      record)


# -- reads ----------------------------------------------------------------------------------
def test_load_before(engine):
    for tid in (10, 20, 30):
        add(engine, tid, tid, [], [record(5, b'%d' % tid), record(6)])
    assert engine.load(5, 10) is None and engine.load(5, 0) is None
    found = {before: engine.load(5, before)[:2] for before in (11, 20, 21, 30, 31, MAX_ID)}
    assert found == {11: (10, 20), 20: (10, 20), 21: (20, 30), 30: (20, 30), 31: (30, None),
                     MAX_ID: (30, None)}
    assert engine.load(5, 25)[4] == b'20'
    assert engine.load(4, 25) is None and engine.load(7, 25) is None


def test_deletions(engine):
    add(engine, 1, 10, [], [record(5, b'there')])
    add(engine, 2, 20, [], [record(5, None)])
    assert engine.load(5, 30) == (20, None, 0, checksum(None), None, None)
    assert engine.load(5, 20)[:2] == (10, 20)
    assert engine.current(5) == 20
    assert engine.history(5, 30, 10) == [(20, 0), (10, 5)]
    add(engine, 3, 30, [], [record(5, b'again')])
    assert engine.load(5, 30)[1] == 30
    assert all_records(engine)[0][1] == (5, 20, 0, checksum(None), None, None)
    assert engine.measure()[0] == 1


def test_data_of_another_tid(engine):
    add(engine, 1, 10, [], [record(5, b'zipped', compression=1), record(6, b'of another object')])
    add(engine, 2, 20, [], [record(5, b'between')])
    add(engine, 3, 30, [], [record(5, None, data_tid=10)])
    add(engine, 4, 40, [], [record(5, None, data_tid=30)])       # a chain
    for tid, data_tid in ((30, 10), (40, 30)):
        there = 1, checksum(b'zipped'), b'zipped', data_tid
        assert engine.load(5, tid + 1)[2:] == there
        assert (5, tid, *there) in all_records(engine)[0]
    assert engine.history(5, 100, 10) == [(40, 6), (30, 6), (20, 7), (10, 6)]
    assert engine.load(5, 40)[:2] == (30, 40)


def test_data_that_are_missing_or_point_in_a_circle(engine):
    add(engine, 1, 10, [], [record(5, None, data_tid=3), record(6, None, data_tid=10),
                           record(7, None, data_tid=20), record(8, None)])
    add(engine, 2, 20, [], [record(7, None, data_tid=10), record(8, None, data_tid=10)])
    for oid, data_tid in ((5, 3), (6, 10), (7, 10), (8, 10)):
        tid, next_tid, _, _, data, found = engine.load(oid, 100)
        assert data is None and found == data_tid
        assert engine.history(oid, 100, 1) == [(tid, 0)]
    assert len(all_records(engine)[0]) == 6


def test_data_with_a_data_tid_are_kept_as_they_are(engine):
    add(engine, 1, 10, [], [record(5, b'first')])
    add(engine, 2, 20, [], [record(5, b'second', data_tid=10)])
    assert engine.load(5, 30)[4:] == (b'second', 10)


def test_history(engine):
    for tid in range(10, 20):
        add(engine, tid, tid, [], [record(5, b'x' * tid)])
    assert engine.history(5, 15, 3) == [(14, 14), (13, 13), (12, 12)]
    assert engine.history(5, 10, 3) == [] and engine.history(6, 15, 3) == []
    assert engine.history(5, 15, 0) == []
    assert len(engine.history(5, MAX_ID, MAX_ID)) == 10


@pytest.mark.parametrize('data', [b'', b'\0', bytes(range(256)) * 40, b'x' * (5 << 20)],
                         ids=['empty', 'zero', '10 KiB', '5 MiB'])
def test_data_come_back(database, data):
    engine = database.engine
    engine.pend(1, [record(1, data)])
    lock(engine, 1, 10, [metadata(1, user=data, description=data, extension=data)])
    add(engine, 2, 20, [metadata(2, user=data)], [record(2, data)])
    engine.commit()
    engine = database.reopen()
    assert engine.load(1, 100)[4] == engine.load(2, 100)[4] == data
    assert engine.history(1, 100, 1) == [(10, len(data))]
    (first, second), _ = all_transactions(engine)
    assert first[3:6] == (data, data, data) and second[3] == data


def test_the_highest_ids(database):
    engine = database.engine
    engine.pend(MAX_ID, [record(MAX_ID), record(0)])
    engine.prepare_lock(MAX_ID, MAX_ID, MAX_ID, 1)
    lock(engine, MAX_ID, MAX_ID, [metadata(0, MAX_ID)], [], (9999,))
    add(engine, 1, 1, [], [record(MAX_ID, data_tid=MAX_ID), record(1)])
    engine.commit()
    engine = database.reopen()
    assert engine.locked() == [(MAX_ID, MAX_ID, MAX_ID, (9999,))]
    assert engine.last_tid() == engine.last_oid() == engine.tid_of(MAX_ID) == MAX_ID
    assert engine.load(MAX_ID, MAX_ID)[:2] == (1, MAX_ID)
    assert engine.load(MAX_ID, MAX_ID + 1)[:2] == (MAX_ID, None)
    assert engine.history(MAX_ID, MAX_ID + 1, 5) == [(MAX_ID, 4), (1, 4)]
    assert [r[:2] for r in all_records(engine, max_rows=1)[0]] == [
        (1, 1), (MAX_ID, 1), (0, MAX_ID), (MAX_ID, MAX_ID)]
    transactions, _ = all_transactions(engine, max_rows=1)
    assert [t[:2] + t[-1:] for t in transactions] == [(MAX_ID, MAX_ID, (0, MAX_ID))]
    assert engine.records(MAX_ID, MAX_ID, MAX_ID + 1, 1, (0,), 9, 99) == ([], None)
    assert engine.find(MAX_ID, MAX_ID)
    engine.drop(MAX_ID)
    assert engine.last_tid() == 1 and engine.current(MAX_ID) == 1
    clean(engine)
    assert engine.last_oid() == MAX_ID and len(all_records(engine)[0]) == 2


def test_measure(database):
    engine = database.engine
    add(engine, 1, 10, [], [record(oid) for oid in range(50, 100)])
    engine.commit()
    add(engine, 2, 20, [], [record(oid) for oid in range(25, 75)])
    engine.pend(3, [record(oid) for oid in (0, 0, 50, 200)])
    engine.commit()
    assert engine.measure()[0] == 75
    lock(engine, 3, 30)
    assert engine.measure()[0] == 77
    engine.commit()
    objects, size = database.reopen().measure()
    assert objects == 77 and size > 0


# -- iterations -----------------------------------------------------------------------------
def filled(engine):
    for tid in range(100, 160):
        oids = range(tid % 7, 40, 7)
        add(engine, tid * 2, tid, [metadata(*oids, extension=b'x' * 100)],
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
    add(engine, 1, 10, [], [record(oid, b'x' * 1000) for oid in range(50)])
    for tid in range(20, 70):
        add(engine, tid, tid, [metadata(extension=b'x' * 1000)], [])
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
    add(engine, 1, 10, [], [record(2 * oid, b'') for oid in range(count)])
    add(engine, 2, 2 * count, [metadata(tid=2 * tid) for tid in range(1, count)], [
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
