"""A storage that was away copies what it has missed, whatever dies meanwhile."""
import pytest

from neo.protocol.limits import AMOUNTS
from neo.simulation.simulation import Simulation

CHUNKS = AMOUNTS._replace(fill_rows=2)          # so that there are several


def absence(seed, **options):
    """S2 comes back after it has missed something."""
    sim = Simulation(seed, storages=2, partitions=2, replicas=1, clients=2, amounts=CHUNKS,
                     **options).start()
    sim.wait(sim.commit('C1', o0=1, o1=1))
    sim.kill('S2')
    for number in range(1, 6):
        sim.wait(sim.commit('C1', o0=number, o1=number, o2=number))
    sim.restart('S2')
    return sim


def is_filled(sim):
    primary = sim.primary()
    return primary is not None and primary.tables.in_force is not None and (
        len(primary.tables.in_force.cells_of(['S1', 'S2'])) == 4)


def ends_well(sim, *commits):
    for process in sim.world.processes():
        process.doom = None
    sim.restart()
    assert sim.run_for(60, lambda: is_filled(sim))
    sim.wait(*commits)
    sim.run_for(2)                              # until what clients write knows of the last table
    after = sim.commit('C2', o1=7, o2=7)
    sim.wait(after)
    sim.run_for(2)
    assert after.error is None
    assert not sim.judge()


@pytest.mark.parametrize('kind, number', [
    *[('effect', number) for number in range(1, 30)],
    *[(kind, number) for kind in ('commit', 'committed') for number in range(1, 6)]])
@pytest.mark.parametrize('died', ['S1', 'S2'])
def test_who_copies_or_is_copied_from_dies(died, kind, number):
    sim = absence(number)
    assert sim.run_for(10, lambda: sim.world.counts['Fill'])
    sim.world.machines[died].process.doom = kind, number
    commits = [sim.commit('C1', o0=8, o1=8), sim.commit('C2', o2=9, o3=9)]
    sim.run_for(3)
    ends_well(sim, *commits)


def keep_copy(sim, name):
    """Of the disk as it is after the next commit of that storage."""
    sim.world.machines[name].disk.wants_copy = True


def test_a_disk_that_is_put_back_to_while_it_was_filled_is_not_taken_for_complete():
    """S2 took part in the last transaction of each row, but had copied nothing of what it had
    missed before.  All are stopped, its disk of then is put back, and all are started."""
    sim = absence(1)
    network = sim.world.network
    network.cut('S1', 'S2')
    network.cut('S2', 'S1')
    sim.run_for(3)
    sim.wait(sim.commit('C1', o2=9, o3=9))
    sim.run_for(3)
    keep_copy(sim, 'S2')
    sim.wait(sim.commit('C1', o4=1, o5=1))
    sim.run_for(3)
    sim.world.heal()
    assert sim.run_for(60, lambda: is_filled(sim))
    sim.run_for(3)
    sim.kill()
    sim.world.machines['S2'].disk.put_back()
    sim.world.promises.clear()
    ends_well(sim)
