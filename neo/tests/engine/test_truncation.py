"""All above a tid is removed: for who reads in one step, and from the database in slices."""
import pytest

from neo.protocol.types import MAX_ID, RowTid

from .samples import add, all_records, clean, everything, lock, metadata, record


def fill(engine, tids=range(10, 60, 10)):
    for tid in tids:
        add(engine, 1000 + tid, tid, [metadata(1, tid)], [record(1, b'%d' % tid), record(tid)])
    engine.commit()


def without(engine):
    """What is there, but for what is left to be cleaned."""
    return {name: value for name, value in everything(engine).items() if name != 'told'}


@pytest.mark.parametrize('cleaned', [False, True])
def test_what_is_removed_is_as_if_it_had_not_been(databases, cleaned):
    engine, other = databases(), databases()
    fill(engine)
    fill(other, (10, 20, 30))
    engine.truncate(31, 50)
    assert engine.needs_cleaning and without(engine) == without(other)
    if cleaned:
        assert clean(engine, 1) > 2
        assert engine.measure()[0] == other.measure()[0]
    assert without(engine) == without(other)
    assert engine.current(1) == 30 and engine.load(1, MAX_ID)[:2] == (30, None)
    assert engine.load(40, MAX_ID) is None and engine.tid_of(1040) is None
    assert not engine.find(31, MAX_ID) and engine.last_tid() == 30
    for database in engine, other:
        add(database, 2000, 70, [metadata(1)], [record(1, b'new')])
    assert without(engine) == without(other)
    assert engine.load(1, 60)[:2] == (30, 70)


def test_it_is_durable_with_the_commit_and_not_before(database):
    engine = database.engine
    fill(engine)
    before = everything(engine)
    engine.truncate(31, 50)
    removed = everything(engine)
    engine = database.reopen()
    assert everything(engine) == before and not engine.needs_cleaning
    engine.truncate(31, 50)
    engine.commit()
    engine.clean(1)
    engine = database.reopen()
    assert everything(engine) == removed
    clean(engine)
    engine.commit()
    assert everything(database.reopen()) == removed


def test_what_was_told_stays_told(engine):
    add(engine, 1, 10, [metadata(1)], [record(1)])
    lock(engine, 2, 20, [metadata(1)], [record(1)], (3,))
    engine.unlock(2)
    engine.truncate(11, 20)
    clean(engine)
    assert engine.told() == [RowTid(3, 20)]


def test_once_more_and_further(engine):
    fill(engine)
    lock(engine, 1, 70, [metadata(1)], [record(1, b'dropped')])
    engine.drop(1)
    engine.truncate(41, 50)
    engine.truncate(21, 70)
    assert engine.current(1) == 20
    clean(engine)
    assert not engine.needs_cleaning
    assert [tid for _, tid, *_ in all_records(engine)[0]] == [10, 10, 20, 20]


def test_an_import_is_cut_in_the_middle(engine):
    lock(engine, 1, 30, [metadata(1, tid=tid) for tid in (10, 20, 30)],
         [record(1, b'%d' % tid, tid) for tid in (10, 20, 30)])
    engine.unlock(1)
    engine.truncate(21, 30)
    assert engine.load(1, MAX_ID)[0] == engine.last_tid() == 20
    clean(engine)
    assert engine.tid_of(1) == 20
    assert engine.load(1, MAX_ID)[0] == 20
