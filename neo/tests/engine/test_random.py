"""Random histories: SQLite and the engine in plain Python answer alike."""
import random

import pytest

from neo.protocol.types import MAX_ID, StoredMetadata, StoredRecord

from .conftest import memory_database, sqlite_database
from .samples import all_records, all_transactions, clean, everything, metadata, record


class Player:
    """Does the same at random to several databases, keeping to the rules of the interface."""

    def __init__(self, seed, databases):
        self.rnd = random.Random(seed)
        self.databases = databases
        self.state = {}, 0      # {ttid: 'pended' or 'locked'}, last id
        self.committed = {}, 0

    def call(self, name, *args):
        for database in self.databases:
            getattr(database.engine, name)(*args)

    def next_id(self):
        stages, last = self.state
        self.state = stages, last + self.rnd.randrange(1, 5)
        return self.state[1]

    def records(self, imposed=None):
        rnd = self.rnd
        for _ in range(rnd.randrange(5)):
            kind = rnd.randrange(6)
            data = None if kind < 2 else rnd.randbytes(rnd.choice((0, 1, 30, 3000, 9000)))
            data_tid = rnd.randrange(1, self.state[1] + 3) if kind in (1, 2) else None
            yield record(rnd.randrange(12), data, imposed, None, data_tid, rnd.randrange(3))

    def some(self, *stages):
        found = sorted(ttid for ttid, stage in self.state[0].items() if stage in stages)
        return self.rnd.choice(found) if found else None

    def put(self):
        self.call('put', 'v%d' % self.rnd.randrange(3), self.rnd.choice((1, True, 'a', b'a', ())))

    def pend(self):
        ttid = self.some('pended')
        if ttid is None or self.rnd.random() < .5:
            ttid = self.next_id()
        records = list(self.records())
        if records:
            self.call('pend', ttid, records)
            self.state[0].setdefault(ttid, 'pended')

    def prepare(self):
        """Its lock follows, or nothing does."""
        ttid = self.some('pended')
        if ttid:
            first = self.next_id()
            tid = first + self.rnd.randrange(3)
            self.state = self.state[0], tid
            self.call('prepare_lock', ttid, first, tid, self.rnd.randrange(1, 9))
            if self.rnd.random() < .7:
                self.lock_as(ttid, first, tid)
            else:
                self.call('forget', ttid)
                del self.state[0][ttid]

    def lock(self):
        ttid = self.some('pended')
        if ttid is None or self.rnd.random() < .7:
            ttid = self.next_id()
        first = self.next_id()
        self.lock_as(ttid, first, first)

    def lock_as(self, ttid, first, tid):
        rnd = self.rnd
        records = list(self.records(rnd.randrange(first, tid) if first < tid else None))
        transactions = [metadata(*range(rnd.randrange(4)))] * rnd.randrange(2)
        if first < tid and rnd.random() < .5:
            transactions.append(metadata(tid=first))
        self.call('lock', ttid, first, tid, rnd.sample(range(5), rnd.randrange(4)), transactions,
                  records)
        self.state[0][ttid] = 'locked'

    def unlock(self):
        ttid = self.some('locked')
        if ttid:
            self.call(self.rnd.choice(['unlock', 'unlock', 'unlock', 'drop']), ttid)
            del self.state[0][ttid]

    def forget(self):
        ttid = self.some('pended', 'locked') or 1
        self.call('forget', ttid)
        if self.state[0].get(ttid) == 'pended':
            del self.state[0][ttid]

    def clean(self):
        self.call('clean', self.rnd.choice((1, 5, 1000)))

    def replace(self):
        """What is there, below all that is locked, becomes anything."""
        rnd, last = self.rnd, self.state[1]
        stop = min([it.first for it in self.databases[0].engine.locked()], default=last + 1)
        start = rnd.randrange(max(1, stop - 30), stop + 1)
        partitions = rnd.randrange(1, 5)
        rows = tuple(rnd.sample(range(partitions), rnd.randrange(1, partitions + 1)))
        tids = sorted(rnd.sample(range(start, stop), min(stop - start, 4)))
        self.call('replace_transactions', start, stop, partitions, rows, [
            StoredMetadata(tid, rnd.randrange(1, last + 1), *metadata(tid)[1:])
            for tid in tids if tid % partitions in rows])
        found = {(tid, it.oid): StoredRecord(it.oid, tid, *it[3:])
                 for tid in tids for it in self.records() if it.oid % partitions in rows}
        kept, _ = all_records(self.databases[0].engine, start, stop, partitions, rows)
        found.update(((it.tid, it.oid), it) for it in kept if rnd.random() < .5)
        self.call('replace_records', (start - 1, MAX_ID), (stop - 1, MAX_ID), partitions, rows,
                  [found[key] for key in sorted(found)])

    def raise_told(self):
        self.call('raise_told', [(row, self.rnd.randrange(self.state[1] + 2)) for row in (1, 3)])

    def truncate(self):
        """Where nothing is locked or being prepared."""
        if 'locked' not in self.state[0].values():
            last = self.next_id()
            self.call('truncate', max(1, last - self.rnd.randrange(40)), last)

    def commit(self):
        self.call('commit')
        self.committed = dict(self.state[0]), self.state[1]

    def reopen(self):
        for database in self.databases:
            database.reopen()
        stages = {ttid: 'locked' for ttid, stage in self.committed[0].items() if stage == 'locked'}
        self.state = stages, self.committed[1]

    def step(self):
        getattr(self, self.rnd.choices(
            ['put', 'pend', 'prepare', 'lock', 'unlock', 'forget', 'clean', 'replace', 'raise_told',
             'commit', 'reopen', 'truncate'],
            [2, 6, 2, 8, 6, 1, 2, 2, 1, 3, 1, .5])[0])()

    def answers(self, database):
        rnd = random.Random(self.state[1])
        partitions = rnd.randrange(1, 6)
        chunks = dict(partitions=partitions, max_rows=rnd.randrange(1, 9),
                      rows=tuple(rnd.sample(range(partitions), rnd.randrange(partitions + 1))))
        engine = database.engine
        return dict(everything(engine), some_records=all_records(engine, **chunks)[0],
                    some_transactions=all_transactions(engine, **chunks)[0],
                    values=[repr(engine.get('v%d' % i)) for i in range(3)])


@pytest.mark.parametrize('seed', range(12))
def test_engines_answer_alike(tmp_path, seed):
    databases = [memory_database(tmp_path), sqlite_database(tmp_path)]
    player = Player(seed, databases)
    try:
        for _ in range(30):
            for _ in range(8):
                player.step()
            expected, found = map(player.answers, databases)
            assert found == expected
            if player.rnd.random() < .3:
                assert len({(clean(database.engine) or 1) and database.engine.measure()[0]
                            for database in databases}) == 1
    finally:
        for database in databases:
            database.engine.close()
