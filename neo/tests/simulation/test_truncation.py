"""The operator brings the cluster back to a tid, whatever dies meanwhile."""
import pytest

from neo.client.exception import NoObject
from neo.ctl.node import Ctl
from neo.protocol.packets import Truncate
from neo.simulation.simulation import Simulation


class Order:
    """By neoctl; `ctl` is what became of it."""

    def __init__(self, sim, tid):
        self.ctl = None
        sim.add_operator('O1', lambda machine, rnd: Ctl(rnd, sim.admin, Truncate(tid)), self._ended)
        sim.world.start('O1')

    def _ended(self, process):
        self.ctl = process.node


def committed(seed, storages=2, replicas=1, **options):
    """A cluster, and the tids of three transactions; what is above the first one is to go."""
    sim = Simulation(seed, storages=storages, partitions=2, replicas=replicas, clients=2,
                     **options).start()
    tids = []
    for values in dict(o0=1, o1=1), dict(o0=2, o2=2), dict(o1=3, o0=3):
        commit = sim.commit('C1', **values)
        sim.wait(commit)
        tids.append(commit.tid)
    return sim, tids


def is_whole(sim):
    primary = sim.primary()
    return primary is not None and primary.tables.in_force is not None and (
        len(primary.tables.in_force.cells_of(sim.storage_names)) == 4)


def read(sim, client, oid):
    """The value of an object, None if it is not there."""
    application = sim.applications[client]

    def reading():
        yield application.client.when_ready()
        try:
            work = sim.work(client)
            return (yield from work.read(oid))
        except NoObject:
            return None
    outcome = sim.do(client, reading())
    sim.wait(outcome)
    return outcome.result


def ends_well(sim, tid, order):
    """All is as it was before the order, or as it should be after it; which of both?"""
    for process in sim.world.processes():
        process.doom = None
    sim.restart()
    assert sim.run_for(60, lambda: is_whole(sim) and order.ctl is not None)
    done = any(cut.tid == tid for cut in sim.primary().tables.in_force.cuts)
    assert done or order.ctl.result is None
    assert read(sim, 'C2', 0) == (1 if done else 3)
    assert read(sim, 'C2', 2) == (None if done else 2)
    sim.run_for(2)                              # until what clients write knows of the last table
    after = sim.commit('C1', o0=9, o2=9)
    sim.wait(after)
    sim.run_for(3)
    assert after.error is None
    assert read(sim, 'C2', 0) == 9
    assert not sim.judge()
    return done


def test_all_above_is_removed_everywhere():
    sim, tids = committed(1)
    order = Order(sim, tids[0])
    assert sim.run_for(10, lambda: order.ctl is not None and sim.running())
    assert 'is removed' in order.ctl.result.message
    assert ends_well(sim, tids[0], order)
    for engine in sim.engines().values():
        assert not engine.needs_cleaning and not engine.find(tids[0] + 1, tids[-1])


@pytest.mark.parametrize('kind, number', [
    *[('effect', number) for number in range(1, 25)],
    *[(kind, number) for kind in ('commit', 'committed') for number in range(1, 6)]])
@pytest.mark.parametrize('died', ['S1', 'S2', 'M1'])
def test_somebody_dies(died, kind, number):
    sim, tids = committed(number)
    sim.world.machines[died].process.doom = kind, number
    order = Order(sim, tids[0])
    sim.run_for(3)
    ends_well(sim, tids[0], order)


@pytest.mark.parametrize('number', range(1, 30))
def test_one_of_several_primaries_dies(number):
    sim, tids = committed(number, masters=3, stateful=['M1', 'M2', 'M3'])
    primary = sim.primary().name
    sim.world.machines[primary].process.doom = 'effect', number
    order = Order(sim, tids[0])
    sim.run_for(5)
    ends_well(sim, tids[0], order)


@pytest.mark.parametrize('number', range(1, 20))
def test_both_copies_die(number):
    """What one has removed, and the other has not, is the same when they are back."""
    sim, tids = committed(number)
    sim.world.machines['S1'].process.doom = 'committed', 1 + number % 5
    sim.world.machines['S2'].process.doom = 'effect', number
    order = Order(sim, tids[0])
    sim.run_for(3)
    ends_well(sim, tids[0], order)


def test_who_was_away_removes_it_when_it_is_back():
    sim, tids = committed(4)
    sim.kill('S2')
    sim.run_for(.5)
    order = Order(sim, tids[0])
    assert sim.run_for(20, lambda: order.ctl is not None and sim.running())
    sim.wait(sim.commit('C1', o4=4))
    again = sim.commit('C1', o4=5)
    sim.wait(again)
    assert ends_well(sim, tids[0], order)
    assert sim.world.counts['RemoveAbove'] == 2


def test_who_was_away_for_two_of_them():
    sim, tids = committed(5)
    sim.kill('S2')
    for tid in tids[1], tids[0]:
        order = Order(sim, tid)
        assert sim.run_for(20, lambda order=order: order.ctl is not None and sim.running())
        assert order.ctl.result is not None, order.ctl.failure
        sim.wait(sim.commit('C1', o6=1))
        del sim.world.machines['O1']
    assert ends_well(sim, tids[0], order)


def test_an_old_disk_from_before_is_noticed():
    """It lacks what was told, and is filled; nothing that was removed comes back with it."""
    sim, tids = committed(6)
    disk = sim.world.machines['S2'].disk
    disk.wants_copy = True
    sim.wait(sim.commit('C1', o7=1))
    kept = sim.commit('C1', o7=2)
    sim.wait(kept)
    sim.wait(sim.commit('C1', o7=3))
    sim.run_for(3)
    order = Order(sim, kept.tid)
    assert sim.run_for(20, lambda: order.ctl is not None and sim.running())
    sim.run_for(3)
    sim.kill('S2')
    disk.put_back()
    sim.world.promises.clear()
    sim.restart('S2')
    assert sim.run_for(60, lambda: is_whole(sim))
    assert read(sim, 'C2', 7) == 2
    sim.kill()
    sim.restart()
    assert sim.run_for(60, lambda: is_whole(sim))
    assert read(sim, 'C2', 7) == 2
    assert not sim.judge()


def test_a_master_that_was_away_goes_on_with_the_history_that_others_have_begun():
    """It asks storages of a history of which it has not heard."""
    sim, tids = committed(7, masters=3, stateful=['M1', 'M2', 'M3'])
    away = next(name for name in sim.master_names if sim.world.node(name) is not sim.primary())
    sim.kill(away)
    sim.run_for(2)
    order = Order(sim, tids[0])
    assert sim.run_for(20, lambda: order.ctl is not None and sim.running())
    sim.run_for(2)
    sim.kill()
    sim.restart(away, 'S1', 'S2', 'C2')
    assert sim.run_for(60, sim.running)
    assert read(sim, 'C2', 0) == 1
