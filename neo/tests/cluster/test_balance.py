"""Tables for the operator: even, spread over machines, with few cells moved."""
from collections import Counter
from random import Random
from time import process_time

import pytest

from neo.cluster import balance
from neo.cluster.partition_table import PartitionTable
from neo.protocol.types import CellState

U, O, F = CellState.UP_TO_DATE, CellState.OUT_OF_DATE, CellState.FEEDING      # noqa: E741
STATES = {'U': U, 'O': O, 'F': F, 'C': CellState.CORRUPTED}


def table(*lines, replicas=0):
    """Of lines as `neoctl print pt` has them: S1 UU.O"""
    lines = [line.split() for line in lines]
    return PartitionTable(1, 1, replicas, [
        {id: STATES[letters[row]] for id, letters in lines if letters[row] != '.'}
        for row in range(len(lines[0][1]))])


def letters(table):
    return ['%s %s' % (id, table.letters(id)) for id in table.storages()]


def apart(*ids):
    """Each on a machine of its own."""
    return {id: 'host ' + id for id in ids}


def all_filled(table):
    """What comes of it once everything is copied."""
    while table.out_of_date:
        table = balance.settled(table.filled(
            [(row, id) for id, rows in table.out_of_date.items() for row in rows]))
    return table


# -- a new cluster ------------------------------------------------------------------------------
def test_rows_are_dealt_out():
    assert letters(balance.first(7, 6, 0, apart('S1', 'S2'))) == ['S1 U.U.U.', 'S2 .U.U.U']
    assert letters(balance.first(7, 3, 1, apart('S1', 'S2', 'S3'))) == [
        'S1 UU.', 'S2 U.U', 'S3 .UU']


def test_copies_of_a_new_cluster_are_on_different_machines():
    after = balance.first(7, 4, 1, {'S1': 'a', 'S2': 'a', 'S3': 'b', 'S4': 'b'}, ['M1'])
    assert after.key == (7, 1) and after.masters == ('M1',)
    assert all(len(set(row) & {'S1', 'S2'}) == 1 for row in after.rows)


def test_a_new_cluster_of_too_few():
    with pytest.raises(balance.Impossible):
        balance.first(7, 1, 1, apart('S1'))


# -- tweak --------------------------------------------------------------------------------------
def test_new_storage_gets_its_share():
    after = balance.tweak(table('S1 UUUU'), apart('S1', 'S2'))
    assert letters(after) == ['S1 FFUU', 'S2 OO..']
    assert after.key == (1, 2)
    assert letters(all_filled(after)) == ['S1 ..UU', 'S2 UU..']


def test_more_copies():
    after = balance.tweak(table('S1 UU..', 'S2 ..UU', replicas=1), apart('S1', 'S2'))
    assert letters(after) == ['S1 UUOO', 'S2 OOUU']


def test_fewer_copies():
    after = balance.tweak(table('S1 UUUU', 'S2 UUUU'), apart('S1', 'S2'))
    assert sorted(after.letters('S1') + after.letters('S2')) == sorted('UUUU....')
    assert Counter(after.letters('S1'))['U'] == 2


def test_storage_that_is_to_leave_feeds():
    after = balance.tweak(table('S1 UU', 'S2 UU', replicas=1), apart('S1', 'S3'), ['S2'])
    assert letters(after) == ['S1 UU', 'S2 FF', 'S3 OO']
    assert letters(all_filled(after)) == ['S1 UU', 'S3 UU']


def test_storage_that_stays_after_all_feeds_no_more():
    after = balance.tweak(table('S1 UU', 'S2 FF', 'S3 OO', replicas=1), apart('S1', 'S2'), ['S3'])
    assert letters(after) == ['S1 UU', 'S2 UU']


def test_storage_that_is_away_keeps_what_it_has_and_counts_for_nothing():
    after = balance.tweak(table('S1 UU', 'S2 OO', replicas=1), apart('S1', 'S3'))
    assert letters(after) == ['S1 UU', 'S2 OO', 'S3 OO']


def test_corrupted_cell_stays_so_until_its_storage_knows_that():
    after = balance.tweak(table('S1 UU', 'S2 CU', replicas=1), apart('S1', 'S2'))
    assert letters(after) == ['S1 UU', 'S2 CU']
    assert letters(balance.tweak(after, apart('S1', 'S3'), ['S2'])) == ['S1 UU', 'S2 .F', 'S3 OO']


def test_copies_go_to_different_machines():
    homes = {'S1': 'a', 'S2': 'a', 'S3': 'b'}
    after = all_filled(balance.tweak(table('S1 UUUU', 'S2 UUUU', replicas=1), homes))
    assert after.letters('S3') == 'UUUU'
    assert Counter(after.letters('S1')) == Counter(after.letters('S2')) == {'U': 2, '.': 2}


def test_too_few_storages():
    with pytest.raises(balance.Impossible, match='2 copies of each row need 2 storages that run and'
                                                 ' do not leave, and there is 1'):
        balance.tweak(table('S1 UU', 'S2 UU', replicas=1), apart('S1'), ['S2'])


def test_none_is_left():
    with pytest.raises(balance.Impossible, match='1 copy of each row needs 1 storage that runs and'
                                                 ' do not leave, and there are 0'):
        balance.tweak(table('S1 UU'), {}, ['S1'])


# -- the others ---------------------------------------------------------------------------------
def test_settled_keeps_as_many_as_are_wanted():
    before = table('S1 UUU', 'S2 FFF', 'S3 OUF', replicas=1)
    assert letters(balance.settled(before)) == ['S1 UUU', 'S2 F.F', 'S3 OU.']


def test_nothing_to_settle():
    before = table('S1 UU', 'S2 FF', 'S3 OO', replicas=1)
    assert balance.settled(before) is before


def test_dropped():
    after = balance.dropped(table('S1 UU', 'S2 UO', replicas=1), ['S2'])
    assert letters(after) == ['S1 UU'] and balance.lacking(after) == [0, 1]


def test_last_copy_is_not_dropped():
    with pytest.raises(balance.Impossible, match='of rows 0-1, 3 there is no other copy'):
        balance.dropped(table('S1 UUUU', 'S2 OOUO'), ['S1'])


def test_what_may_be_lost():
    now = table('S1 UUU', 'S2 UFO', 'S3 OUU')
    assert balance.may_lose(now, apart('S1', 'S2', 'S3')) == (1, 1)
    assert balance.may_lose(now, {'S1': 'a', 'S2': 'a', 'S3': 'b'}) == (1, 0)
    assert balance.may_lose(now, apart('S1', 'S2')) == (0, 0)
    assert balance.may_lose(now, apart('S2', 'S3')) == (0, 0)
    assert balance.may_lose(now, apart('S2')) == (-1, -1)


def test_more_copies_are_wanted_and_nothing_changes_yet():
    after = table('S1 UU').next(replicas=2)
    assert (after.replicas, after.key, letters(after)) == (2, (1, 2), ['S1 UU'])


# -- whatever the cluster is like ---------------------------------------------------------------
class Cluster:
    """A random one: what it is, and what the operator wants of it."""

    def __init__(self, seed):
        rnd = Random(seed)
        ids = ['S%d' % n for n in range(1, rnd.randint(2, 9))]
        machines = ['m%d' % n for n in range(rnd.randint(1, len(ids)))]
        homes = {id: rnd.choice(machines) for id in ids}
        present = rnd.sample(ids, rnd.randint(1, len(ids)))
        self.table = balance.first(1, rnd.randint(1, 40), rnd.randint(0, len(present) - 1),
                                   {id: homes[id] for id in present})
        for _ in range(rnd.randint(0, 3)):      # what has happened to it before
            self.change(rnd, homes)
        leaving = rnd.sample(ids, rnd.randint(0, len(ids) - 1))
        away = rnd.sample(ids, rnd.choice([0, 0, 1]))
        if not self.table.operational(set(ids) - set(away)):
            away = []
        self.table = self.table.without(away)
        self.homes = {id: home for id, home in homes.items() if id not in (*leaving, *away)}
        self.leaving = [id for id in leaving if id not in away]
        self.copies = rnd.randint(0, max(0, len(self.homes) - 1)) + 1
        self.table = self.table.next(replicas=self.copies - 1)

    def change(self, rnd, homes):
        chosen = rnd.sample(list(homes), rnd.randint(self.table.replicas + 1, len(homes)))
        self.table = balance.tweak(self.table, {id: homes[id] for id in chosen},
                                   [id for id in homes if id not in chosen])
        filled = [(row, id) for id, rows in self.table.out_of_date.items() for row in rows
                  if rnd.random() < .6]
        self.table = balance.settled(self.table.filled(filled))


CLUSTERS = [cluster for cluster in map(Cluster, range(400)) if cluster.homes]


def of_a_row(table, row, ids, states):
    return [id for id in ids if table.rows[row].get(id) in states]


def test_tweak_loses_no_readable_copy():
    for cluster in CLUSTERS:
        after = balance.tweak(cluster.table, cluster.homes, cluster.leaving)
        for before, readable in zip(cluster.table.readable, after.readable):
            assert len(readable) >= min(len(before), cluster.copies)


def test_once_filled_each_row_has_its_copies():
    for cluster in CLUSTERS:
        after = all_filled(balance.tweak(cluster.table, cluster.homes, cluster.leaving))
        for row in range(after.partitions):
            copies = of_a_row(after, row, cluster.homes, [U])
            assert len(copies) == cluster.copies
            assert not of_a_row(after, row, cluster.leaving, STATES.values())


def test_copies_are_on_as_many_machines_as_they_can_be():
    for cluster in CLUSTERS:
        after = all_filled(balance.tweak(cluster.table, cluster.homes, cluster.leaving))
        sizes = Counter(cluster.homes.values()).values()
        limit = min(n for n in range(1, 10)
                    if sum(min(n, size) for size in sizes) >= cluster.copies)
        for row in range(after.partitions):
            machines = Counter(cluster.homes[id]
                               for id in of_a_row(after, row, cluster.homes, [U]))
            assert max(machines.values()) <= limit


def test_loads_are_even_where_machines_let_them():
    for cluster in CLUSTERS:
        homes = apart(*cluster.homes)
        after = all_filled(balance.tweak(cluster.table, homes, cluster.leaving))
        loads = [after.letters(id).count('U') for id in homes]
        assert max(loads) - min(loads) <= 1, (letters(cluster.table), letters(after))


def test_second_tweak_changes_nothing():
    for cluster in CLUSTERS:
        after = all_filled(balance.tweak(cluster.table, cluster.homes, cluster.leaving))
        assert balance.tweak(after, cluster.homes).rows == after.rows


def test_few_cells_move():
    """No more than what who has too few must get."""
    for seed in range(60):
        rnd = Random(seed)
        ids = ['S%d' % n for n in range(1, rnd.randint(4, 9))]
        replicas = rnd.randint(0, 1)
        before = balance.first(1, rnd.choice([12, 100]), replicas, apart(*ids[:-1]))
        after = balance.tweak(before, apart(*ids))
        new = sum(map(len, after.out_of_date.values()))
        least, left = divmod(before.partitions * (replicas + 1), len(ids))
        have = [before.partitions - before.letters(id).count('.') for id in ids]
        assert new == max(sum(max(0, least - n) for n in have),
                          sum(max(0, n - least - bool(left)) for n in have))


def test_large_cluster_takes_no_time():
    ids = ['S%d' % n for n in range(1, 41)]
    before = balance.first(1, 10_000, 2, apart(*ids[:30]))
    homes = {id: 'm%d' % (int(id[1:]) % 13) for id in ids[3:]}
    began = process_time()
    after = balance.tweak(before, homes, ids[:3])
    assert process_time() - began < 5
    assert len(all_filled(after).storages()) == 37
