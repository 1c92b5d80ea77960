"""A database that is broken at one place: that is told, and the rest is read."""
import os
import random
import shutil
import sqlite3

import pytest

from neo.protocol.checksum import checksum
from neo.protocol.types import MAX_ID
from neo.storage.engine.interface import BrokenData, EngineError
from neo.storage.engine.sqlite import PAGE_SIZE, SqliteEngine

from .samples import add, all_records, break_page, clean, everything, lock, metadata, record
from .test_copies import copy

COUNT = 60
LARGE = b'x' * 9000


def data_of(oid, tid):
    return random.Random(oid * 1000 + tid).randbytes(9000 if oid % 5 == 0 else 700)


@pytest.fixture
def path(tmp_path):
    """A closed database: 60 transactions of 3 objects, the last one locked."""
    path = str(tmp_path / 'data.sqlite')
    engine = SqliteEngine(path)
    for tid in range(1, COUNT + 1):
        if tid > 1:
            engine.unlock(tid - 1)
        oids = range(tid, tid + 3)
        lock(engine, tid, tid, [metadata(*oids, description=b'%d' % tid * 50)],
             [record(oid, data_of(oid, tid)) for oid in oids], (tid % 4,))
        if tid % 30 == 1:
            engine.commit()
    engine.put('cluster', 'test')
    engine.put('table', (1, 2, b'x' * 100))
    engine.commit()
    engine.close()
    return path


def change(path, statement, *values):
    connection = sqlite3.connect(path)
    assert connection.execute(statement, values).rowcount == 1
    connection.commit()
    connection.close()


# -- one row ----------------------------------------------------------------------------------
RECORDS = pytest.mark.parametrize('oid, column, value', [
    (31, 'data', b'something else'), (31, 'data', None), (31, 'data', 'text'), (31, 'data', 5),
    (31, 'checksum', b'?' * 16), (31, 'checksum', 'text'), (31, 'checksum', 7),
    (31, 'compression', 'x'), (31, 'compression', b'\xff\xfe'), (31, 'data_tid', 'y'),
    (31, 'data_tid', 1.5), (30, 'large', 10_000), (30, 'large', 'z'), (30, 'large', None)])
METADATA = pytest.mark.parametrize('column, value', [
    ('ttid', 77), ('status', 'p'), ('status', b'\xff'), ('user', b''), ('description', 'text'),
    ('extension', 3.5), ('oids', b'12345678' * 3), ('oids', 'odd'), ('checksum', b'?'),
    ('checksum', 5)])


@RECORDS
def test_a_broken_record(path, oid, column, value):
    change(path, 'UPDATE obj SET %s = ? WHERE oid = ? AND tid = 30' % column, value, oid)
    engine = SqliteEngine(path)
    with pytest.raises(BrokenData, match='object %#x is broken at 0x1e' % oid) as caught:
        engine.load(oid, 31)
    assert path in str(caught.value)
    check_all_but(engine, record=(30, oid))
    engine.close()


def test_broken_large_data(path):
    change(path, 'UPDATE large SET data = ? WHERE id ='
                 ' (SELECT large FROM obj WHERE oid = 30 AND tid = 30)', b'x' * 9000)
    engine = SqliteEngine(path)
    check_all_but(engine, record=(30, 30))
    engine.close()


def test_data_that_another_record_points_to_are_broken(path):
    engine = SqliteEngine(path)
    add(engine, 90, 90, [metadata(31)], [record(31, None, data_tid=30)])
    engine.commit()
    engine.close()
    change(path, 'UPDATE obj SET data = ? WHERE oid = 31 AND tid = 30', b'something else')
    engine = SqliteEngine(path)
    with pytest.raises(BrokenData, match='object 0x1f is broken at 0x1e'):
        engine.load(31, 91)
    with pytest.raises(BrokenData) as caught:
        engine.records(61, None, 100, 1, (0,), 9, 9999)
    assert caught.value.position == (90, 31)
    engine.close()


@METADATA
def test_broken_metadata(path, column, value):
    change(path, 'UPDATE trans SET %s = ? WHERE tid = 30' % column, value)
    engine = SqliteEngine(path)
    check_all_but(engine, metadata=30)
    engine.close()


def mend(path):
    """Copy all from another database, in which nothing is broken, and look at the result."""
    source, target = SqliteEngine(path + '.whole'), SqliteEngine(path)
    for engine in source, target:
        engine.unlock(COUNT)
    copy(source, target, range(3))
    target.commit()
    target.close()
    target = SqliteEngine(path)
    assert everything(target) == everything(source)
    assert target.measure()[0] == source.measure()[0]
    check_all_but(target)
    source.close()
    target.close()


@RECORDS
def test_a_broken_record_is_replaced(path, oid, column, value):
    shutil.copy(path, path + '.whole')
    change(path, 'UPDATE obj SET %s = ? WHERE oid = ? AND tid = 30' % column, value, oid)
    mend(path)


@METADATA
def test_broken_metadata_are_replaced(path, column, value):
    shutil.copy(path, path + '.whole')
    change(path, 'UPDATE trans SET %s = ? WHERE tid = 30' % column, value)
    mend(path)


def test_broken_large_data_are_replaced(path):
    shutil.copy(path, path + '.whole')
    change(path, 'UPDATE large SET data = ? WHERE id ='
                 ' (SELECT large FROM obj WHERE oid = 30 AND tid = 30)', b'x' * 9000)
    mend(path)


@pytest.mark.parametrize('column, value', [
    ('value', b'\x01'), ('value', b'\xc1'), ('checksum', b'?' * 16), ('name', 'tables'),
    ('name', b'\xff\xff')])
def test_a_broken_named_value(path, column, value):
    change(path, "UPDATE config SET %s = ? WHERE name = 'table'" % column, value)
    engine = SqliteEngine(path)
    with pytest.raises(BrokenData, match='the value of table, or of another name, is broken'):
        engine.get('table')
    # It could be any that was lost.
    with pytest.raises(BrokenData):
        engine.get('never put')
    assert engine.get('cluster') == 'test'
    assert engine.measure()[0] == COUNT + 2     # this one is counted again
    engine.put('table', 5)
    engine.commit()
    assert engine.get('table') == 5
    check_all_but(engine)
    engine.close()


@pytest.mark.parametrize('statement', [
    'UPDATE lock_journal SET number = 7 WHERE number = 2',
    'DELETE FROM lock_journal WHERE number = 1', 'DELETE FROM lock_journal WHERE number = 0',
    "UPDATE lock_journal SET changes = x'90' WHERE number = 2",
    'UPDATE lock_journal SET changes = 5 WHERE number = 1',
    "UPDATE lock_journal SET checksum = 'x' WHERE number = 0",
    "INSERT INTO hidden (first, last, checksum) VALUES (1, 60, x'00')"])
def test_what_is_needed_at_a_start_is_one_line(path, statement):
    change(path, statement)
    with pytest.raises(EngineError, match='of locked transactions is broken') as caught:
        SqliteEngine(path)
    assert path in str(caught.value) and '\n' not in str(caught.value)


def all_of(engine):
    """`(records, metadata, positions of what is broken)` that an iteration gives which goes on."""
    records, transactions, broken = [], [], []
    after = 0, None
    while after is not None:
        try:
            chunk, after = engine.records(*after, MAX_ID, 3, (0, 1, 2), 7, 99_999)
            records += chunk
        except BrokenData as error:
            broken.append(error.position)
            if error.position is None or None in error.position:
                break
            after = error.position
    start = 0
    while start is not None:
        try:
            chunk, start = engine.transactions(start, MAX_ID, 3, (0, 1, 2), 7, 99_999)
            transactions += chunk
        except BrokenData as error:
            broken.append(error.position)
            start = error.position and error.position[0] + 1
    return records, transactions, broken


def check_all_but(engine, record=None, metadata=None):
    records, transactions, broken = all_of(engine)
    assert broken == [position for position in (record, metadata and (metadata, None)) if position]
    expected = [(tid, oid) for tid in range(1, COUNT + 1) for oid in range(tid, tid + 3)]
    assert [(r.tid, r.oid) for r in records] == [place for place in expected if place != record]
    assert [t.tid for t in transactions] == [tid for tid in range(1, COUNT + 1) if tid != metadata]
    for tid, oid in expected:
        if (tid, oid) != record:
            assert engine.load(oid, tid + 1)[4] == data_of(oid, tid)
        assert engine.tid_of(tid) == tid or metadata
    assert engine.history(35, 100, 9)[0].tid == 35


# -- one page ---------------------------------------------------------------------------------
def zeros(rnd, page):
    return bytes(len(page))


def noise(rnd, page):
    return rnd.randbytes(len(page))


def flipped(rnd, page):
    page = bytearray(page)
    for _ in range(3):
        page[rnd.randrange(len(page))] ^= 1 << rnd.randrange(8)
    return bytes(page)


@pytest.mark.parametrize('damage', [zeros, noise, flipped])
def test_a_broken_page(path, damage):
    """Whichever it is: what is read is right or BrokenData, or the storage does not start."""
    rnd, copy = random.Random(5), path + '.copy'
    whole = started = committed = 0
    pages = os.path.getsize(path) // PAGE_SIZE
    for number in range(pages):
        for left in (copy + '-wal', copy + '-reserve'):
            if os.path.exists(left):
                os.unlink(left)
        shutil.copy(path, copy)
        with open(copy, 'r+b') as file:
            file.seek(number * PAGE_SIZE)
            page = file.read(PAGE_SIZE)
            file.seek(number * PAGE_SIZE)
            file.write(damage(rnd, page))
        try:
            engine = SqliteEngine(copy)
        except EngineError as error:
            assert copy in str(error) and '\n' not in str(error)
            continue
        started += 1
        if number % 2:
            engine.put('y', 1)          # reads are inside a transaction, or not
            engine.commit() if number % 4 == 1 else None
        found, broken = read_all(engine)
        whole += found
        # One page does not take all others with it.
        assert found > COUNT or broken
        committed += with_a_commit(engine)
        engine.close()
    assert started > pages / 2 and whole > started * COUNT * 2 and committed > started * .8


def test_a_broken_page_met_among_changes(path):
    """SQLite would give up all that was changed since the last commit."""
    break_page(path, 'obj', 5)
    engine = SqliteEngine(path)
    engine.put('y', 1)
    engine.pend(80, [record(oid, LARGE) for oid in range(80, 90)])
    engine.prepare_lock(80, 80, 80, 4)
    assert read_all(engine)[1]
    lock(engine, 80, 80, [metadata(80)], [record(90, b'late')], (3,))
    lock(engine, 81, 81, [metadata(1)], [record(1, LARGE)])
    assert read_all(engine)[1]
    engine.unlock(80)
    engine.drop(81)
    assert read_all(engine)[1]
    engine.commit()
    engine.close()
    engine = SqliteEngine(path)
    assert engine.get('y') == 1
    assert [r[:2] for r in all_records(engine, 80)[0]] == [(oid, 80) for oid in range(80, 91)]
    assert engine.load(85, 81)[4] == LARGE and engine.load(90, 81)[4] == b'late'
    assert engine.told()[3] == (3, 80) and engine.needs_cleaning
    clean(engine)
    engine.close()


def test_what_can_not_be_cleaned_stays(path):
    """It is in nobody's way, and no reason to stop, at each start again."""
    engine = SqliteEngine(path)
    lock(engine, 70, 70, [metadata(5)], [record(oid, bytes(5000)) for oid in range(100, 140)])
    engine.drop(70)
    engine.commit()
    engine.close()
    break_page(path, 'large', 36)       # not met at once, but when some are gone
    for _ in range(2):
        engine = SqliteEngine(path)
        assert engine.needs_cleaning
        with pytest.raises(BrokenData, match='is broken'):
            while engine.clean(6):
                engine.commit()
        assert not engine.needs_cleaning and not engine.clean(5)
        lock(engine, 90, 90, [metadata(1)], [record(5, b'new')])
        engine.commit()
        assert engine.load(5, 91)[4] == b'new' and engine.load(100, 91) is None
        assert engine.measure()[0] > COUNT + 2
        engine.drop(90)
        engine.commit()
        check_all_but(engine)
        engine.close()


@pytest.mark.parametrize('table, page', [('large', 2), ('obj', 5)])
def test_what_can_not_be_removed_or_replaced_stays(path, table, page):
    break_page(path, table, page)
    engine = SqliteEngine(path)
    with pytest.raises(BrokenData, match='is broken'):
        engine.replace_records((0, -1), (COUNT - 1, MAX_ID), 1, (0,), [])
    after = 0, -1
    with pytest.raises(BrokenData, match='is broken'):
        while after is not None:
            after = engine.remove_records(after, 1, (0,), 6)
    lock(engine, 90, 90, [metadata(1)], [record(5, b'new')])
    engine.commit()
    assert after[0] < COUNT and engine.load(5, 91)[4] == b'new'
    assert engine.load(COUNT, COUNT + 1)[0] == COUNT
    engine.close()


def read_all(engine):
    """How many loads gave what was stored, and whether any was broken."""
    found = broken = 0
    for tid in range(1, COUNT + 1):
        for oid in range(tid, tid + 3):
            try:
                loaded = engine.load(oid, tid + 1)
                engine.current(oid)
                engine.history(oid, tid + 1, 5)
            except BrokenData as error:
                assert engine.path in str(error)
                broken += 1
            else:
                if loaded is not None:
                    assert checksum(loaded[4]) == loaded[3]
                    found += loaded[4] == data_of(oid, tid)
    records, _, places = all_of(engine)
    assert all(checksum(r.data) == r.checksum for r in records)
    for call in (engine.last_tid, engine.last_oid, engine.measure, engine.locked, engine.told,
                 lambda: engine.find(10, 20), lambda: engine.tid_of(10)):
        try:
            call()
        except BrokenData:
            broken += 1
    return found, broken + len(places)


def with_a_commit(engine):
    """It can be written as well, or says why not, and then it is not used further."""
    try:
        add(engine, 100, 100, [metadata(5)], [record(500, b'new')])
        engine.commit()
    except EngineError:
        with pytest.raises(EngineError):
            engine.commit()
        return False
    assert engine.load(500, 101)[4] == b'new'
    return True
