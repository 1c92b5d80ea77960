"""Short stories about several masters: who serves, and who must not."""
import pytest

from neo.protocol.types import ClusterState
from neo.simulation.simulation import Simulation

from .plants import MasterThatDoesNotHeed, be_content_with_half, with_tables

ALL = 'M1', 'M2', 'M3'


def cluster(masters=3, stateful=ALL, **options):
    options = dict(storages=2, replicas=1, partitions=2, clients=2) | options
    sim = Simulation(masters=masters, stateful=stateful, **options).start()
    sim.wait(sim.commit('C1', o0=0, o1=0))
    return sim


def primary(sim):
    """The name of its machine."""
    return next(name for name in sim.master_names if sim.world.node(name) is sim.primary())


def spares(sim):
    return [name for name in sim.master_names if name != primary(sim)]


def halves(sim, *one):
    """Cut these machines from all others."""
    for name in one:
        for other in sim.world.machines:
            if other not in one:
                sim.world.network.cut(name, other)
                sim.world.network.cut(other, name)


def serving(sim):
    return [name for name in sim.master_names
            if sim.world.node(name) is not None and sim.world.node(name).serves]


def heal(sim):
    """Everything is mended: one serves, nothing is lost, everybody commits."""
    sim.world.heal()
    sim.run_for(15)
    for client in 'C1', 'C2':
        again = sim.commit(client, o9=9)
        sim.wait(again)
        sim.run_for(1)
    assert len(serving(sim)) == 1
    return sim.judge()


@pytest.mark.parametrize('stateful', [(), ALL])
@pytest.mark.parametrize('seed', range(4))
def test_another_master_serves_within_two_seconds_after_a_kill(seed, stateful):
    sim = cluster(seed=seed, stateful=stateful)
    former = primary(sim)
    sim.kill(former)
    assert sim.run_for(2, sim.running) and primary(sim) != former
    sim.wait(sim.commit('C2', o0=1), seconds=2)
    assert not heal(sim)


@pytest.mark.parametrize('stateful', [(), ALL])
@pytest.mark.parametrize('seed', range(4))
def test_another_master_serves_within_ten_seconds_after_a_freeze(seed, stateful):
    sim = cluster(seed=seed, stateful=stateful)
    former = primary(sim)
    sim.run_for(2)
    sim.freeze(former)
    assert sim.run_for(10, lambda: len(serving(sim)) == 2)      # the frozen one does not know
    sim.wait(sim.commit('C2', o0=1), seconds=10)
    sim.thaw(former)
    assert sim.run_for(5, lambda: len(serving(sim)) == 1)
    assert not heal(sim)


@pytest.mark.parametrize('seed', range(4))
def test_a_pause_of_a_second_changes_nothing(seed):
    sim = cluster(seed=seed)
    term = sim.primary().term
    sim.freeze(primary(sim))
    sim.run_for(2)
    sim.thaw(primary(sim))
    sim.wait(sim.commit('C2', o0=1), seconds=2)
    assert sim.primary().term == term and not heal(sim)


@pytest.mark.parametrize('seed', range(4))
def test_who_is_cut_off_stops_and_the_others_go_on(seed):
    sim = cluster(seed=seed)
    alone = primary(sim)
    halves(sim, alone, 'S1', 'C1')
    sim.run_for(10)
    assert serving(sim) and alone not in serving(sim)
    committed = sim.commit('C2', o0=2)
    sim.wait(committed, seconds=5)
    assert committed.error is None
    assert not heal(sim)


@pytest.mark.parametrize('seed', range(4))
def test_a_spare_that_was_cut_off_does_not_depose_a_healthy_primary(seed):
    sim = cluster(seed=seed)
    term, reigning = sim.primary().term, primary(sim)
    halves(sim, spares(sim)[0])
    sim.run_for(20)
    sim.world.heal()
    sim.run_for(5)
    assert (sim.primary().term, primary(sim)) == (term, reigning)


@pytest.mark.parametrize('seed', range(4))
def test_a_primary_that_one_spare_does_not_hear_is_left_alone(seed):
    sim = cluster(seed=seed)
    term, reigning = sim.primary().term, primary(sim)
    for ways in [(reigning, spares(sim)[0]), (spares(sim)[0], reigning)]:
        sim.world.network.cut(*ways)
    sim.run_for(30)
    assert (sim.primary().term, primary(sim)) == (term, reigning)


@pytest.mark.parametrize('alone', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_nobody_waits_at_a_spare_that_is_cut_off(seed, alone):
    """From the primary, or from all but clients: who comes finds the primary."""
    sim = cluster(seed=seed)
    reigning = primary(sim)
    for spare in spares(sim):
        for other in ALL + ('S1', 'S2') * alone:
            if other != spare:
                sim.world.network.cut(other, spare)
                sim.world.network.cut(spare, other)
    sim.run_for(10)
    assert serving(sim) == [reigning]
    sim.kill('C1', 'C2', 'A1')
    sim.restart()
    assert sim.run_for(20, lambda: all(sim.world.node(name).phase == ClusterState.RUNNING
                                       for name in ('C1', 'C2', *['A1'] * (not alone))))
    assert not heal(sim)


def test_of_two_halves_without_a_majority_the_reigning_one_goes_on():
    sim = cluster(masters=2, stateful=())
    alone = spares(sim)[0]
    halves(sim, alone, 'S2', 'C2')
    sim.run_for(15)
    assert serving(sim) == [primary(sim)] != [alone]
    sim.wait(sim.commit('C1', o0=5), seconds=5)
    assert not heal(sim)


def test_the_death_of_any_machine_is_survived():
    for number in (1, 2, 3):
        sim = cluster(storages=3, seed=number, replicas=1, partitions=3)
        sim.kill('M%d' % number, 'S%d' % number)
        after = sim.commit('C2', o0=1, o1=1, o2=1)
        sim.wait(after, seconds=8)
        sim.wait(sim.commit('C2', o0=2, o1=2, o2=2), seconds=8)
        assert not heal(sim)


def test_a_lost_state_is_one_of_a_newcomer_that_gets_a_vote():
    sim = cluster()
    name = spares(sim)[0]
    sim.kill(name)
    sim.world.machines[name].store.lose()
    sim.restart()
    assert sim.run_for(5, lambda: 'M4' in sim.primary().tables.in_force.masters or any(
        int(id[1:]) > 3 for id in sim.primary().tables.in_force.masters))
    assert len(sim.primary().tables.in_force.masters) == 3
    assert not heal(sim)


@pytest.mark.parametrize('seed', range(6))
def test_a_stop_leaves_nothing_out_of_date(seed):
    """Storages leave one after the other, and masters have votes enough to go on without them."""
    sim = cluster(seed=seed)
    sim.run_for(1)
    node = sim.primary()

    def stop():
        node.stopping.order(node, None, None)
        node.stopping.requests.clear()          # nobody has asked
    sim.world.machines[primary(sim)].process.call(stop)
    assert sim.run_for(12, lambda: not any(
        sim.world.node(name) for name in (*ALL, 'S1', 'S2')))
    assert {status for _, status, _ in sim.world.exits} == {0}
    sim.restart()
    assert sim.run_for(10, sim.running)
    assert not sim.primary().tables.in_force.out_of_date and not sim.world.violations


@pytest.mark.parametrize('seed', range(4))
def test_a_spare_that_is_stopped_while_it_is_cut_off_stops_no_primary(seed):
    sim = cluster(seed=seed)
    reigning, spare = primary(sim), spares(sim)[0]
    sim.world.network.cut(reigning, spare)
    sim.world.network.cut(spare, reigning)
    sim.run_for(8)
    node = sim.world.node(spare)

    def stop():
        node.stopping.order(node, None, None)
        node.stopping.requests.clear()          # nobody has asked
    sim.world.machines[spare].process.call(stop)
    sim.world.heal()
    assert sim.run_for(10, lambda: sim.world.node(spare) is None)
    assert serving(sim) == [reigning]
    sim.restart()
    assert not heal(sim) and serving(sim) == [reigning]


def test_a_new_cluster_is_not_created_beside_a_master_that_is_away():
    sim = Simulation(masters=3, storages=2, partitions=2)
    for name in ('M1', 'M2', 'S1', 'S2', 'A1'):
        sim.world.start(name)
    sim.run_for(20)
    assert not sim.running()
    assert 'the master at m3:10000' in sim.world.node('M1').reason
    sim.world.start('M3')
    assert sim.run_for(10, sim.running)


def test_a_primary_that_was_deposed_does_not_say_what_was_last():
    """It stood still while another one was elected, and goes on with what has come meanwhile."""
    sim = cluster(seed=3)
    former = primary(sim)
    halves(sim, former)
    sim.freeze(former)
    assert sim.run_for(10, lambda: len(serving(sim)) == 2)
    later = sim.commit('C2', o0=1)
    sim.wait(later, seconds=10)
    sim.thaw(former)
    sim.run_for(1)                      # what it did not hear meanwhile tells it nothing yet
    assert former in serving(sim)
    node, confirmed = sim.world.node(former), []
    sim.world.machines[former].process.call(
        lambda: node.confirmation.ask(node, confirmed.append))
    sim.run_for(10)
    assert not confirmed and former not in serving(sim) and not heal(sim)


@pytest.mark.parametrize('masters, stateful', [(1, ()), (3, ()), (3, ALL)])
def test_a_sync_is_answered(masters, stateful):
    sim = cluster(masters=masters, stateful=stateful)
    syncs = [sim.do(client, sync(sim, client)) for client in ('C1', 'C1', 'C2')]
    sim.wait(*syncs, seconds=1)
    assert {outcome.error for outcome in syncs} == {None}


def test_a_sync_is_answered_when_who_was_asked_has_gone_and_come_back():
    """More than half of the voters, before they have confirmed anything."""
    sim = cluster()
    asked, term = ['S1', *spares(sim)], sim.primary().term
    for name in asked:
        sim.freeze(name)
    synced = sim.do('C1', sync(sim, 'C1'))
    sim.run_for(1)
    sim.kill(*asked)
    sim.restart()
    sim.wait(synced, seconds=10)
    assert synced.error is None and sim.primary().term == term and not heal(sim)


def sync(sim, client):
    return (yield sim.applications[client].client.sync())


# -- what would go wrong --------------------------------------------------------------------------
def test_half_of_the_voters_would_elect_two():
    """The plant shows that the story above can fail."""
    sim = cluster(masters=2, stateful=(),
                  nodes={'master': with_tables(is_elected_by=be_content_with_half)})
    alone = spares(sim)[0]
    halves(sim, alone, 'S2', 'C2')
    sim.run_for(15)
    commits = [sim.commit(client, o0=5) for client in ('C1', 'C2')]
    sim.run_for(15)
    assert len(serving(sim)) == 2 and all(commit.error is None for commit in commits)


def deposed(nodes=()):
    """A primary is cut off while a transaction is in finish, and the others go on."""
    sim = cluster(nodes=nodes)
    alone = primary(sim)
    locks = sim.world.counts['Lock']
    commit = sim.commit('C1', o0=7, o1=7)
    assert sim.run_for(5, lambda: sim.world.counts['Lock'] > locks)
    sim.freeze('S2')                        # its answer has not been sent
    halves(sim, alone, 'S1', 'C1')
    sim.thaw('S2')
    sim.run_for(30)
    return sim, commit


def test_a_deposed_primary_does_not_commit():
    sim, commit = deposed()
    assert not commit.done or commit.error is not None
    assert not heal(sim)


def test_a_deposed_primary_that_does_would_be_found():
    sim, commit = deposed({'master': MasterThatDoesNotHeed})
    assert commit.done and commit.error is None
    assert sim.world.violations or heal(sim)
