"""A part of the history is made what it is in another database."""
import random

import pytest

from neo.protocol.types import MAX_ID

from .samples import add, all_records, all_transactions, lock, metadata, record

PARTITIONS = 3
SIZES = 0, 1, 100, 5000             # the last one does not stand with its row


def copy(source, target, rows, start=0, stop=MAX_ID, max_rows=4):
    """As storages do it: chunk by chunk."""
    after = start, None
    while after is not None:
        records, next = source.records(*after, stop, PARTITIONS, rows, max_rows, 1 << 20)
        before = after[0], -1 if after[1] is None else after[1]
        target.replace_records(before, next or (stop - 1, MAX_ID), PARTITIONS, rows, records)
        after = next
    while start is not None:
        found, next = source.transactions(start, stop, PARTITIONS, rows, max_rows, 1 << 20)
        target.replace_transactions(start, next or stop, PARTITIONS, rows, found)
        start = next


def content(engine, rows=range(PARTITIONS)):
    return (all_records(engine, partitions=PARTITIONS, rows=rows)[0],
            all_transactions(engine, partitions=PARTITIONS, rows=rows)[0])


def fill(engine, seed, tids, pointers=.3):
    rnd = random.Random(seed)
    for tid in tids:
        oids = rnd.sample(range(12), rnd.randrange(1, 5))
        records = []
        for oid in oids:
            tids_of = [it.tid for it in engine.history(oid, MAX_ID, 9)]
            if tids_of and rnd.random() < pointers:
                records.append(record(oid, None, data_tid=rnd.choice(tids_of)))
            elif rnd.random() < .2:
                records.append(record(oid, None))
            else:
                records.append(record(oid, rnd.randbytes(rnd.choice(SIZES))))
        add(engine, 1000 + tid, tid, [metadata(*oids)], records)
    engine.commit()


@pytest.mark.parametrize('seed', range(8))
def test_whatever_is_there_becomes_what_is_elsewhere(databases, seed):
    source, target = databases(), databases()
    fill(source, seed, range(10, 40))
    fill(target, seed if seed % 2 else -seed, range(10, 30 + seed))
    copy(source, target, range(PARTITIONS))
    target.commit()
    assert content(target) == content(source)
    assert target.measure()[0] == source.measure()[0]
    assert [target.load(oid, MAX_ID) for oid in range(12)] == [
        source.load(oid, MAX_ID) for oid in range(12)]
    assert target.tid_of(1010) == source.tid_of(1010) == 10


def test_other_rows_and_other_tids_stay(databases):
    source, target = databases(), databases()
    fill(source, 1, range(10, 40), 0)
    fill(target, 2, range(10, 40), 0)
    before = content(target)
    copy(source, target, [1], 20, 30)
    for here, there, former in zip(content(target), content(source), before):
        for it in former:
            inside = 20 <= it.tid < 30 and getattr(it, 'oid', it.tid) % PARTITIONS == 1
            assert (it in here) == (not inside or it in there)
        assert all(it in here for it in there
                   if 20 <= it.tid < 30 and getattr(it, 'oid', it.tid) % PARTITIONS == 1)


def test_what_is_locked_later_is_not_touched(databases):
    source, target = databases(), databases()
    fill(source, 1, range(10, 20))
    lock(target, 77, 25, [metadata(1)], [record(1, b'later')], (1,))
    copy(source, target, range(PARTITIONS), 0, 20)
    target.unlock(77)
    assert target.load(1, MAX_ID)[4] == b'later'


def test_what_was_dropped_comes_back(databases):
    """It had been locked here, and was told by others."""
    source, target = databases(), databases()
    for engine in source, target:
        lock(engine, 1010, 10, [metadata(1)], [record(1, b'data')], (1,))
    source.unlock(1010)
    target.drop(1010)
    target.commit()
    assert target.load(1, MAX_ID) is None
    copy(source, target, range(PARTITIONS))
    assert content(target) == content(source) and not target.needs_cleaning


def test_nothing_is_written_where_all_is_equal(databases):
    source, target = databases(), databases()
    for engine in source, target:
        fill(engine, 1, range(10, 40))
    used = target.measure()
    copy(source, target, range(PARTITIONS))
    target.commit()
    assert target.measure() == used


def test_what_others_know_to_be_told(database):
    engine = database.engine
    lock(engine, 77, 25, [metadata(1)], [record(1, b'data')], (1, 2))
    engine.unlock(77)
    engine.raise_told([(0, 7), (1, 30), (2, 20)])
    assert engine.told() == [(0, 7), (1, 30), (2, 25)]
    engine.commit()
    assert database.reopen().told() == [(0, 7), (1, 30), (2, 25)]


# -- removing -------------------------------------------------------------------------------
def removed(engine, rows, amount):
    """How many calls that took."""
    calls, after, start = 0, (0, -1), 0
    while after is not None:
        after = engine.remove_records(after, PARTITIONS, rows, amount)
        calls += 1
    while start is not None:
        start = engine.remove_transactions(start, PARTITIONS, rows, amount)
        calls += 1
    return calls


@pytest.mark.parametrize('amount', [1, 2, 7, 1000])
@pytest.mark.parametrize('rows', [(1,), (0, 2), (0, 1, 2)])
def test_rows_are_removed(databases, rows, amount):
    engine, others = databases(), [row for row in range(PARTITIONS) if row not in rows]
    fill(engine, 1, range(10, 40))
    before = content(engine, others)
    oids = {record.oid for record in before[0]}
    assert (removed(engine, rows, amount) <= 3) == (amount == 1000)
    engine.commit()
    assert content(engine, rows) == ([], [])
    assert content(engine, others) == before
    assert engine.measure()[0] == len(oids)
    assert [engine.load(oid, MAX_ID) is not None for oid in range(12)] == [
        oid in oids for oid in range(12)]


def test_what_was_removed_can_be_copied_again(databases):
    source, target = databases(), databases()
    for engine in source, target:
        fill(engine, 3, range(10, 40))
    removed(target, (0, 1), 5)
    copy(source, target, (0, 1))
    assert content(target) == content(source)
    assert target.measure()[0] == source.measure()[0]


def test_data_that_are_where_it_is_pointed_to_are_there_once(databases):
    source, target = databases(), databases()
    data = bytes(1 << 20)
    add(source, 1010, 10, [metadata(1)], [record(1, data)])
    for tid in range(11, 19):
        add(source, 1000 + tid, tid, [metadata(1)], [record(1, None, data_tid=tid - 1)])
    copy(source, target, range(PARTITIONS))
    assert content(target) == content(source)
    assert target.load(1, MAX_ID)[2:] == source.load(1, MAX_ID)[2:]
    assert len(target.load(1, MAX_ID)[4]) <= target.measure()[1] < 2 * len(data)


def test_data_that_are_nowhere_else_stay(databases):
    source, target = databases(), databases()
    add(source, 1010, 10, [metadata(1)], [record(1, b'data', data_tid=5), record(2, None,
                                                                                data_tid=5)])
    copy(source, target, range(PARTITIONS))
    assert content(target) == content(source)
    assert target.load(1, MAX_ID)[4] == b'data'
    copy(source, target, range(PARTITIONS))
    assert content(target) == content(source)


def test_a_transaction_with_tids_of_its_own_is_found_by_what_is_left_of_it(databases):
    source, target = databases(), databases()
    for engine, tids in (source, (10, 12)), (target, (10, 12, 13)):
        lock(engine, 1000, 15, [metadata(tid=tid) for tid in tids])
        engine.unlock(1000)
    assert target.tid_of(1000) == 13
    copy(source, target, range(PARTITIONS))
    assert target.tid_of(1000) == 12
