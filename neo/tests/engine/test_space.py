"""A disk that somebody else fills, at any moment."""
import os
import random
from functools import partial

import pytest

from neo.protocol.limits import FREE_SPACE_RESERVE, MiB
from neo.storage.engine.interface import EngineError
from neo.storage.engine.space import SHRINK_ABOVE, STEP
from neo.storage.engine.sqlite import SqliteEngine

from ..full_disk import SmallDisk
from .samples import add, all_records, clean, everything, lock, metadata, record

DATA = random.Random(1).randbytes(MiB)


@pytest.fixture
def disk(tmp_path):
    disk = SmallDisk(tmp_path / 'disk', FREE_SPACE_RESERVE + 100 * MiB)
    yield disk
    disk.close()


@pytest.fixture
def path(disk):
    return disk.folder + '/data.sqlite'


@pytest.fixture
def engine(path):
    engine = SqliteEngine(path)
    yield engine
    engine.close()


def size_of_reserve(engine):
    return os.path.getsize(engine.path + '-reserve')


# -- the reserve ------------------------------------------------------------------------------
def test_the_reserve_is_there_while_the_database_is_open(path, disk):
    free = disk.free()
    engine = SqliteEngine(path)
    assert size_of_reserve(engine) == FREE_SPACE_RESERVE + STEP
    assert free - disk.free() >= FREE_SPACE_RESERVE + STEP
    space = engine.space()
    assert space.path == path and space.reserved == FREE_SPACE_RESERVE and space.promised == 0
    assert free - FREE_SPACE_RESERVE - MiB < space.free == engine.free_space() < free
    engine.close()
    assert os.listdir(disk.folder) == ['data.sqlite']


def test_what_a_killed_process_has_left_is_used_again(path, disk):
    SqliteEngine(path).close()
    with open(path + '-reserve', 'wb') as file:
        os.posix_fallocate(file.fileno(), 0, disk.free())
    engine = SqliteEngine(path)
    assert size_of_reserve(engine) == FREE_SPACE_RESERVE + STEP
    engine.close()


def test_promises_grow_it_and_ends_shrink_it(tmp_path):
    engine = SqliteEngine(str(tmp_path / 'data.sqlite'))        # on a large disk
    for ttid in range(1, 5):
        assert engine.promise(ttid, 30 * MiB, 10)
    assert size_of_reserve(engine) >= FREE_SPACE_RESERVE + 8 * 30 * MiB
    assert engine.space().promised >= 8 * 30 * MiB
    for ttid in range(1, 5):
        engine.forget(ttid)
    engine.put('x', 1)
    engine.commit()
    assert size_of_reserve(engine) <= FREE_SPACE_RESERVE + SHRINK_ABOVE
    assert engine.space().promised == 0
    engine.close()


def test_a_promise_too_much(engine, disk):
    assert engine.promise(1, 20 * MiB, 20)
    assert not engine.promise(2, 40 * MiB, 40)
    assert engine.promise(2, 10 * MiB, 10)
    disk.fill()
    assert not engine.promise(3, 20 * MiB, 10)
    engine.forget(1)                # what was kept for it is enough
    assert engine.promise(3, 10 * MiB, 10)


# -- what was promised fits -------------------------------------------------------------------
def store(engine, ttid, count, size, pended):
    """Promised, and stored; returns what is left for the lock."""
    records = [record(oid, DATA[oid:oid + size]) for oid in range(count)]
    for i in range(0, count, 4):
        assert engine.promise(ttid, 4 * size, 4)
        if pended:
            engine.pend(ttid, records[i:i + 4])
            engine.commit()
    assert engine.promise(ttid, 100, 1)
    return [] if pended else records


@pytest.mark.parametrize('pended', [True, False])
@pytest.mark.parametrize('count, size', [(20, MiB - 100), (400, 4000), (2000, 50)])
def test_a_lock_does_not_meet_a_full_disk(engine, disk, pended, count, size):
    add(engine, 1, 1, [], [record(oid, b'old') for oid in range(0, 50_000, 25)])
    engine.commit()
    records = store(engine, 2, count, size, pended)
    disk.fill()
    while not engine.prepare_lock(2, 20, 20, 100):
        engine.commit()
    lock(engine, 2, 20, [metadata(1)], records)
    engine.commit()
    engine.unlock(2)
    engine.put('x', 1)
    engine.commit()
    assert [r.data for r in all_records(engine, 20)[0]] == [
        DATA[oid:oid + size] for oid in range(count)]


def test_a_lock_that_was_not_prepared(engine, disk):
    store(engine, 2, 2000, 3000, True)
    disk.fill()
    lock(engine, 2, 20, [metadata(1)])
    engine.commit()
    assert len(all_records(engine)[0]) == 2000


def test_dropping_makes_room_on_a_full_disk(engine, disk):
    store(engine, 2, 20, MiB - 100, True)
    lock(engine, 2, 20)
    engine.commit()
    disk.fill()
    before = engine.space().free
    engine.drop(2)
    engine.commit()
    while engine.needs_cleaning:
        engine.clean(5)
        engine.commit()
    # Pages inside the file are space: as much as before can be stored.
    assert engine.space().free - before > 19 * MiB
    store(engine, 3, 19, MiB - 100, True)
    lock(engine, 3, 30)
    engine.commit()
    assert len(all_records(engine)[0]) == 19


class Work:
    """Commits of all kinds; `before` is called before each call of the engine."""

    def __init__(self, engine, before):
        self.engine, self.before = engine, before
        self.ttid = 0
        self.expected = {}

    def call(self, name, *args):
        self.before()
        return getattr(self.engine, name)(*args)

    def transaction(self, count, size, pended, end):
        self.ttid += 1
        ttid = self.ttid
        rest = records = [record(oid, DATA[ttid:ttid + size]) for oid in range(count)]
        if not (self.call('promise', ttid, count * size, count)
                and self.call('promise', ttid, 100, 1)):
            self.call('forget', ttid)
            return
        if pended:
            self.call('pend', ttid, records)
            self.call('commit')
            self.call('prepare_lock', ttid, ttid, ttid, 3)
            rest = []
        if end == 'forget':
            self.call('forget', ttid)
            return
        self.call('lock', ttid, ttid, ttid, (1,), [metadata(1)], rest)
        self.call('commit')
        self.call('drop' if end == 'drop' else 'unlock', ttid)
        if end == 'unlock':
            self.expected.update({(r.oid, ttid): r.data for r in records})

    def run(self, rnd, count):
        for _ in range(count):
            self.transaction(rnd.randrange(1, 12), rnd.choice((100, 5000, 300_000)),
                             rnd.random() < .5, rnd.choice(('unlock', 'drop', 'forget')))
            self.call('put', 'x', self.ttid)
            self.call('clean', 5)
            self.call('commit')

    def check(self):
        assert {(r.oid, r.tid): r.data for r in all_records(self.engine)[0]} == self.expected


def fill_at(countdown, number, disk):
    """At the last of so many calls."""
    if next(countdown, None) == number - 1:
        disk.fill()


def test_the_disk_is_full_from_any_call_on(path, disk):
    number, done = 1, False
    while not done:
        engine = SqliteEngine(path)
        countdown = iter(range(number))
        work = Work(engine, partial(fill_at, countdown, number, disk))
        work.run(random.Random(7), 12)
        work.check()
        engine.close()
        done = next(countdown, None) is not None        # it never came
        number += 7
        for name in os.listdir(disk.folder):
            os.unlink(os.path.join(disk.folder, name))
    assert number > 50


@pytest.mark.parametrize('seed', range(3))
def test_the_disk_is_full_now_and_then(path, disk, seed):
    rnd = random.Random(seed)
    filled = []

    def before():
        if rnd.random() < .05:
            (disk.relieve if filled else disk.fill)()
            filled[:] = [] if filled else [1]

    engine = SqliteEngine(path)
    work = Work(engine, before)
    for _ in range(3):
        work.run(rnd, 12)
        clean(engine)
        work.check()
        engine.commit()
        expected = everything(engine)
        engine.close()
        engine = work.engine = SqliteEngine(path)
        clean(engine)
        assert everything(engine) == expected
    engine.close()
    assert len(work.expected) > 10


def test_a_disk_smaller_than_the_reserve_is_not_said_to_be_empty(tmp_path):
    disk = SmallDisk(tmp_path / 'small', 12 * MiB)
    try:
        engine = SqliteEngine(disk.folder + '/data.sqlite')
        space = engine.space()
        assert space.free == 0 and 10 * MiB < space.reserved <= 12 * MiB
        engine.close()
    finally:
        disk.close()


# -- when it is full all the same -------------------------------------------------------------
def test_the_message_names_path_free_and_reserve(path, disk):
    engine = SqliteEngine(path)
    add(engine, 1, 10, [], [record(1)])
    engine.commit()
    before = everything(engine)
    disk.fill()
    with pytest.raises(EngineError) as caught:          # nothing of this was promised
        for tid in range(20, 200):
            add(engine, tid, tid, [], [record(tid, DATA)])
    message = str(caught.value)
    assert path in message and 'the disk is full' in message and '\n' not in message
    assert 'free' in message and 'reserve' in message
    with pytest.raises(EngineError):
        engine.commit()
    engine.close()
    disk.fill()
    engine = SqliteEngine(path)         # it starts and is read, full as the disk is
    assert everything(engine) == before
    assert not engine.promise(1, MiB, 1) and engine.space().reserved == 0
    disk.relieve()
    assert engine.promise(1, MiB, 1)
    engine.close()


def test_a_new_database_on_a_full_disk(path, disk):
    disk.fill()
    with pytest.raises(EngineError, match='the disk is full') as caught:
        SqliteEngine(path)
    assert path in str(caught.value)
    assert os.listdir(disk.folder) == ['filler']
    disk.relieve()
    SqliteEngine(path).close()
