"""Copies of rows that differ on the disks are found and repaired, while the cluster serves."""
import random

import pytest

from neo.ctl.node import Ctl
from neo.protocol.checksum import checksum
from neo.protocol.limits import AMOUNTS
from neo.protocol.packets import Check, DescribeCluster
from neo.protocol.types import MAX_ID, MAX_TID, CheckedRow, StoredRecord
from neo.simulation.application import load
from neo.simulation.simulation import Simulation
from neo.storage.engine.interface import COPIED

ALL = CheckedRow(None, None)
FEW = AMOUNTS._replace(fill_rows=3)
PARTITIONS = 4


class Neoctl:
    """One at a time."""

    def __init__(self, sim):
        self.sim, self.request, self.ended = sim, None, None
        sim.add_operator('O1', lambda machine, rnd: Ctl(rnd, sim.admin, self.request), self._left)

    def _left(self, process):
        self.ended = process.node

    def ask(self, request):
        self.request, self.ended = request, None
        self.sim.world.start('O1')
        assert self.sim.run_for(10, lambda: self.ended)
        assert self.ended.failure is None, self.ended.failure
        return self.ended.result

    def check(self, *rows, first=0, last=MAX_TID):
        """To its end, and that of all repairs."""
        self.ask(Check(rows or (ALL,), first, last))
        assert self.sim.run_for(60, lambda: not self.sim.primary().checking.progress)
        self.repaired()

    def repaired(self):
        tables = self.sim.primary().tables
        assert self.sim.run_for(60, lambda: letters(self.sim) == {'U'} and not tables.pending)

    def conditions(self):
        return {info.id: info.condition for info in self.ask(DescribeCluster()).nodes
                if info.condition}


def letters(sim):
    table = sim.primary().tables.in_force
    return {letter for id in table.storages() for letter in table.letters(id)}


@pytest.fixture
def sim():
    """Three copies of all, and a little history."""
    sim = Simulation(storages=3, replicas=2, partitions=PARTITIONS, clients=2, amounts=FEW).start()
    sim.neoctl = Neoctl(sim)
    for value in range(6):
        sim.wait(sim.commit('C1', **{'o%d' % oid: value for oid in range(8)}))
    sim.tids = sorted(sim.past().transactions)
    sim.expected = content(sim, 'S1')
    return sim


def disk(sim, name):
    return sim.world.machines[name].disk


def content(sim, name):
    with disk(sim, name).unobserved() as engine:
        return engine.records(0, None, MAX_ID, 1, (0,), 1000, 1 << 30)[0]


def plant(sim, name, oid, tid, *records):
    """Something else at this place of a disk."""
    with disk(sim, name).unobserved() as engine:
        assert engine.promise(COPIED, 1000, len(records))
        engine.replace_records((tid, oid - 1), (tid, oid), PARTITIONS, (oid % PARTITIONS,), records)
        engine.commit()


def another(oid, tid, data=b'something else', sum=None):
    return StoredRecord(oid, tid, 0, sum or checksum(data), data, None)


@pytest.mark.parametrize('kind', ['lost', 'other', 'broken', 'unreadable'])
def test_a_difference_is_found_and_repaired(sim, kind):
    oid, tid = 5, sim.tids[2]
    if kind == 'unreadable':
        disk(sim, 'S2').engine.broken.add((tid, oid))
    else:
        plant(sim, 'S2', oid, tid, *{'lost': [], 'other': [another(oid, tid)],
                                     'broken': [another(oid, tid, sum=b'?' * 16)]}[kind])
    before = sim.primary().tables.in_force
    sim.neoctl.check()
    after = sim.primary().tables.in_force
    assert after.key.ptid == before.key.ptid + 3        # corrupted, out of date, up to date
    assert content(sim, 'S2') == sim.expected
    assert not sim.neoctl.conditions() and not sim.judge()


def test_where_all_is_equal_nothing_changes(sim):
    before = sim.primary().tables.in_force.key
    digests = sim.world.counts['Digest']
    sim.neoctl.check()
    assert sim.world.counts['Digest'] - digests > 3 * 2 * PARTITIONS
    assert sim.primary().tables.in_force.key == before and not sim.judge()


def test_the_reference_is_right_whatever_the_others_say(sim):
    oid, tid = 2, sim.tids[-1]
    for name in ('S1', 'S3'):
        plant(sim, name, oid, tid, another(oid, tid))
    sim.neoctl.check(CheckedRow(2, 'S2'))
    assert content(sim, 'S1') == content(sim, 'S3') == sim.expected
    assert not sim.judge()


def test_outside_of_the_tids_nothing_is_found(sim):
    oid, tid = 2, sim.tids[3]
    plant(sim, 'S1', oid, tid, another(oid, tid))
    sim.neoctl.check(first=tid + 1)
    sim.neoctl.check(last=tid - 1)
    assert content(sim, 'S1') != sim.expected
    sim.neoctl.check(first=tid, last=tid)
    assert content(sim, 'S1') == sim.expected


def test_one_of_two_that_differ_is_not_chosen():
    sim = Simulation(storages=2, replicas=1, partitions=PARTITIONS).start()
    sim.neoctl = Neoctl(sim)
    commit = sim.commit('C1', o1=1)
    sim.wait(commit)
    plant(sim, 'S1', 1, commit.tid)
    sim.neoctl.check()
    found = sim.neoctl.conditions()
    assert found.keys() == {'S1', 'S2'} and all('row 1: copies differ' in it
                                                for it in found.values())
    sim.neoctl.check(CheckedRow(1, 'S2'))
    assert content(sim, 'S1') == content(sim, 'S2')
    sim.neoctl.check()
    assert not sim.neoctl.conditions() and not sim.judge()


@pytest.mark.parametrize('seed', range(6))
def test_while_commits_go_on(seed):
    """Nothing is found that is not there, all is found that is, and no commit fails."""
    rnd = random.Random(seed)
    sim = Simulation(seed=seed, storages=3, replicas=2, partitions=PARTITIONS, clients=2,
                     amounts=FEW).start()
    sim.neoctl = Neoctl(sim)
    sim.wait(sim.commit('C1', **{'o%d' % oid: 0 for oid in range(8)}))
    sim.run_for(.1)                                     # all have heard of it
    tid = max(sim.past().transactions)
    done = []

    def work(client, oids):
        for value in range(60):
            outcome = sim.commit(client, **{'o%d' % rnd.choice(oids): value for _ in range(2)})
            done.append(outcome)
            while not outcome.done:
                yield sim.applications[client].client.sync()

    threads = [sim.do('C1', work('C1', range(4))), sim.do('C2', work('C2', range(4, 8)))]
    before = sim.primary().tables.in_force.key
    sim.neoctl.check()
    assert sim.primary().tables.in_force.key == before
    plant(sim, 'S3', 6, tid)
    sim.neoctl.check()
    assert sim.primary().tables.in_force.key.ptid == before.ptid + 3
    sim.wait(*threads)
    assert not [outcome for outcome in done if outcome.error]
    sim.run_for(5)
    assert content(sim, 'S1') == content(sim, 'S3') and not sim.judge()


@pytest.mark.parametrize('kind', ['broken', 'unreadable'])
def test_what_a_read_finds_is_repaired(sim, kind):
    oid, tid = 5, sim.tids[-1]
    for name in ('S1', 'S2'):
        if kind == 'broken':
            plant(sim, name, oid, tid, another(oid, tid, sum=b'?' * 16))
        else:
            disk(sim, name).engine.broken.add((tid, oid))
    for _ in range(30):
        sim.kill('C2')                                  # so that nothing is in its cache
        sim.restart('C2')
        reading = sim.do('C2', read(sim.applications['C2'], oid))
        sim.wait(reading)
        assert reading.result == data_of(sim, oid, tid)
        sim.run_for(1)
        sim.neoctl.repaired()
    assert content(sim, 'S1') == content(sim, 'S2') == sim.expected
    assert not sim.neoctl.conditions() and not sim.judge()


def read(application, oid):
    yield application.client.when_ready()
    return (yield from load(application, oid, application.client.last_tid + 1))[4]


def data_of(sim, oid, tid):
    return next(it.data for it in sim.expected if (it.oid, it.tid) == (oid, tid))
