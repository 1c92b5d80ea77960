"""The operator forces a start without who does not come back."""
import pytest

from neo.ctl.node import Ctl
from neo.protocol.packets import ForceStart
from neo.simulation.simulation import Simulation

from .test_truncation import read


class Order:
    """By neoctl; `ctl` is what became of it."""

    def __init__(self, sim):
        self.ctl = None
        sim.add_operator('O1', lambda machine, rnd: Ctl(rnd, sim.admin, ForceStart()), self._ended)
        sim.world.start('O1')
        assert sim.run_for(30, lambda: self.ctl is not None)

    def _ended(self, process):
        self.ctl = process.node


def committed(seed, show=None, **options):
    options = dict(storages=2, partitions=2, replicas=1, clients=2) | options
    sim = Simulation(seed, show=show, **options).start()
    sim.wait(sim.commit('C1', o0=1, o1=1))
    sim.run_for(1)
    return sim


def goes_on(sim, expected):
    """Everybody reads that and can commit, also after a restart of who is there."""
    assert sim.run_for(30, sim.running)
    assert read(sim, 'C2', 0) == expected
    sim.wait(sim.commit('C1', o0=expected + 10))
    sim.run_for(1)
    assert read(sim, 'C2', 0) == expected + 10


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('stateful', [(), ('M1',)])
def test_without_a_copy_that_is_lost(seed, stateful):
    sim = committed(seed, stateful=stateful, storages=3, replicas=2)
    sim.kill('S1', 'S2', 'S3', 'M1')
    sim.restart('S1', 'M1')
    sim.run_for(10)
    assert not sim.running()
    order = Order(sim)
    assert 'S2' in order.ctl.result.message and 'left out' in order.ctl.result.message
    goes_on(sim, 1)
    # With its database it has no part in the cluster any more, whoever comes first.
    sim.world.restart_after_exit = 1.0
    sim.restart('S2')
    sim.run_for(10)
    sim.wait(sim.commit('C1', o1=5))
    sim.kill('S1', 'S2', 'M1')
    sim.restart('S2', 'M1')
    sim.run_for(5)
    assert not sim.running()
    sim.restart('S1')
    assert sim.run_for(30, sim.running)
    sim.run_for(1)
    assert read(sim, 'C1', 1) == 5 and read(sim, 'C2', 0) == 11


@pytest.mark.parametrize('seed', range(4))
def test_with_an_older_copy_only(seed):
    """S1 was left behind, and the disk of S2 is lost: back to what S1 has, in all rows."""
    sim = committed(seed)
    sim.kill('S1')
    sim.wait(sim.commit('C1', o0=2, o1=2))
    sim.kill('S2')
    sim.restart('S1')
    sim.run_for(10)
    assert not sim.running()
    order = Order(sim)
    assert 'is removed' in order.ctl.result.message, order.ctl.result
    assert sim.run_for(30, sim.running)
    goes_on(sim, 1)
    sim.kill('M1', 'S1')
    sim.restart('M1', 'S1')
    assert sim.run_for(30, sim.running)
    assert read(sim, 'C1', 0) == 11 and read(sim, 'C1', 1) == 1


@pytest.mark.parametrize('seed', range(6))
def test_half_of_a_cluster_of_two_machines(seed):
    """The other half goes on without knowing; both never become one."""
    names = ['M1', 'M2']
    sim = committed(seed, masters=2, stateful=names, clients=1)
    primary = next(name for name in names if sim.world.node(name) is sim.primary())
    other = names[1 - names.index(primary)]
    ours, theirs = (primary, 'S1', 'C1'), (other, 'S2', 'A1')
    for one in ours:
        for two in theirs:
            sim.world.network.cut(one, two)
            sim.world.network.cut(two, one)
    sim.run_for(15)
    sim.wait(sim.commit('C1', o0=2))
    order = Order(sim)
    assert order.ctl.result is not None, order.ctl.failure
    forced = sim.world.node(other)
    assert sim.run_for(30, lambda: forced.phase.name == 'RUNNING')
    assert forced.tables.in_force.letters('S1') == 'OO'
    history = forced.history
    for one in ours:
        for two in theirs:
            sim.world.network.mend(one, two)
            sim.world.network.mend(two, one)
    sim.run_for(60)
    engines = {name: sim.world.machines[name].disk.engine for name in ('S1', 'S2')}
    assert engines['S2'].get('history') == history != engines['S1'].get('history')


@pytest.mark.parametrize('victim, where, count', [
    (victim, where, count) for victim in ('M1', 'S1', 'S3')
    for where in ('committed', 'send', 'effect') for count in (1, 2, 3)])
def test_a_crash_in_the_middle(victim, where, count):
    """The order is given again where it was not answered."""
    sim = committed(3, storages=3, replicas=2)
    sim.kill('S1', 'S2', 'S3', 'M1')
    sim.restart('S1', 'M1')
    sim.run_for(10)
    sim.kill('S1')
    sim.restart('S1')
    sim.run_for(5)
    process = sim.world.machines[victim].process
    if process is not None:
        process.doom = where, count
    sim.world.restart_after_exit = 1.0
    order = Order(sim)
    if victim in ('M1', 'S1'):
        sim.restart(victim)
    sim.run_for(15)
    if not sim.running():
        del sim.world.machines['O1']
        order = Order(sim)
        assert order.ctl.result is not None, order.ctl.failure
    for name in sim.world.permanent():
        if sim.world.machines[name].process is not None:
            sim.world.machines[name].process.doom = None
    goes_on(sim, 1)
