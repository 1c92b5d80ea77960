"""Random histories: SQLite and the engine in plain Python answer alike."""
import random

import pytest

from .conftest import memory_database, sqlite_database
from .samples import all_records, all_transactions, everything, metadata, record


class Player:
    """Does the same at random to several databases, keeping to the rules of the interface."""

    def __init__(self, seed, databases):
        self.rnd = random.Random(seed)
        self.databases = databases
        self.state = {}, 0      # {ttid: 'pended', 'voted' or 'locked'}, last id
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
            data = None if kind < 2 else rnd.randbytes(rnd.choice((0, 1, 30, 3000)))
            data_tid = rnd.randrange(1, self.state[1] + 3) if kind in (1, 2) else None
            yield record(rnd.randrange(12), data, imposed, None, data_tid, rnd.randrange(3))

    def some(self, *stages):
        found = sorted(ttid for ttid, stage in self.state[0].items() if stage in stages)
        return self.rnd.choice(found) if found else None

    def put(self):
        self.call('put', 'v%d' % self.rnd.randrange(3), self.rnd.choice((1, True, 'a', b'a', ())))

    def pend(self):
        ttid = self.some('pended', 'voted')
        if ttid is None or self.rnd.random() < .5:
            ttid = self.next_id()
        records = list(self.records(self.next_id() if self.rnd.random() < .2 else None))
        if records:
            self.call('pend', ttid, records)
            self.state[0].setdefault(ttid, 'pended')

    def vote(self):
        ttid = self.some('pended', 'voted') or self.next_id()
        transactions = [metadata(*range(self.rnd.randrange(4)))] * self.rnd.randrange(2)
        if self.rnd.random() < .3:
            transactions.append(metadata(tid=self.next_id()))
        self.call('vote', ttid, transactions)
        self.state[0][ttid] = 'voted'

    def lock(self):
        ttid = self.some('voted')
        if ttid:
            self.call('lock_voted', ttid, self.next_id())
            self.state[0][ttid] = 'locked'

    def unlock(self):
        ttid = self.some('locked')
        if ttid:
            self.call('unlock', ttid)
            del self.state[0][ttid]

    def add(self):
        self.call('add', self.next_id(), self.next_id(),
                  [metadata(*range(self.rnd.randrange(4)))] * self.rnd.randrange(2),
                  list(self.records()))

    def forget(self):
        ttid = self.some('pended', 'voted', 'locked') or 1
        self.call('forget', ttid)
        if self.state[0].get(ttid) != 'locked':
            self.state[0].pop(ttid, None)

    def drop_unvoted(self):
        self.call('drop_unvoted')
        self.state = ({ttid: stage for ttid, stage in self.state[0].items()
                       if stage != 'pended'}, self.state[1])

    def commit(self):
        self.call('commit')
        self.committed = dict(self.state[0]), self.state[1]

    def reopen(self):
        for database in self.databases:
            database.reopen()
        self.state = dict(self.committed[0]), self.committed[1]

    def step(self):
        getattr(self, self.rnd.choices(
            ['put', 'pend', 'vote', 'lock', 'unlock', 'add', 'forget', 'drop_unvoted', 'commit',
             'reopen'], [2, 6, 5, 4, 3, 4, 1, .5, 3, 1])[0])()

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
    finally:
        for database in databases:
            database.engine.close()
