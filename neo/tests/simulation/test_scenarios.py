"""Short stories about a few nodes: who does what, and what must come of it."""
import pytest

from neo.client.exception import OutcomeUnknown, TransactionFailed
from neo.protocol.types import MAX_ID
from neo.simulation.simulation import Simulation


def add(old, committed, new):
    return committed + new - old


def test_a_commit_is_read_by_others():
    sim = Simulation(storages=2, partitions=2, clients=2).start()
    first = sim.commit('C1', o0=1, o1=1)
    sim.wait(first)
    sim.run_for(.1)
    second = sim.commit('C2', o0=2)
    sim.wait(second)
    sim.run_for(1)
    assert first.tid < second.tid
    assert sim.heard_by('C1')[-2:] == sim.heard_by('C2')[-2:] == [first.tid, second.tid]
    assert not sim.judge()


def test_no_tid_is_told_before_a_lower_one():
    sim = Simulation(seed=7, storages=2, partitions=2, clients=3).start()
    sim.wait(*[sim.commit(client, o2=0, o3=0) for client in ('C1',)])
    # Metadata of a transaction are in the row of its ttid: take one in each row.
    row = {}
    while len(row) < 2:
        for client in ('C1', 'C2'):
            probe = sim.do(client, begin(sim, client))
            sim.wait(probe)
            row[probe.result.ttid % 2] = client, probe.result
    locks = sim.world.counts['Lock']
    first = sim.do(row[0][0], write(sim, *row[0], oid=0))   # row 0 is on S1 only
    assert sim.run_for(1, lambda: sim.world.counts['Lock'] > locks)
    sim.freeze('S1')
    second = sim.do(row[1][0], write(sim, *row[1], oid=1))
    sim.run_for(.5)                                         # S1 is not given up yet
    assert not first.done and not second.done
    sim.thaw('S1')
    sim.wait(first, second)
    sim.run_for(1)
    assert first.tid < second.tid
    assert sim.heard_by('C3')[-2:] == [first.tid, second.tid]


def begin(sim, client):
    return (yield sim.applications[client].client.begin())


def write(sim, client, transaction, oid):
    """Commit a new object in a transaction that has begun."""
    work = sim.work(client)
    work.write(oid, 0)
    work.transaction = transaction
    return (yield from work.commit())


def test_a_deadlock_of_two_transactions_ends():
    sim = Simulation(storages=2, partitions=2, clients=2).start()
    sim.wait(sim.commit('C1', o0=0, o1=0))
    sim.run_for(1)

    def increment(client):
        work = sim.work(client, resolve=add)
        for oid in (0, 1):
            value = yield from work.read(oid)
            work.write(oid, value + 1)
        return (yield from work.commit())
    # Both read now; then each reaches one storage only, and takes the lock there.
    for client in ('C1', 'C2'):
        sim.wait(sim.do(client, warm(sim, client)))
    sim.world.network.cut('C1', 'S2')
    sim.world.network.cut('C2', 'S1')
    commits = [sim.do(client, increment(client)) for client in ('C1', 'C2')]
    sim.run_for(.5)
    assert not any(commit.done for commit in commits)
    sim.world.network.mend('C1', 'S2')
    sim.world.network.mend('C2', 'S1')
    sim.wait(*commits, seconds=5)
    assert sim.world.counts['GaveWay'] == 1
    last = max(commit.tid for commit in commits)
    sim.run_for(2)
    assert [sim.past().data[oid, last] for oid in (0, 1)]
    assert not sim.judge()


def warm(sim, client):
    """Read both objects, so that they are in the cache."""
    work = sim.work(client)
    yield from work.read(0)
    yield from work.read(1)


def test_an_abort_that_is_lost_with_its_connection_is_told_again():
    sim = Simulation(storages=2, partitions=2, clients=2).start()
    client = sim.applications['C1'].client

    def vote_only():
        work = sim.work('C1')
        work.write(0, 1)
        work.write(1, 1)
        transaction = yield client.begin()
        yield from work.vote(transaction)
        return transaction
    voted = sim.do('C1', vote_only())
    sim.wait(voted)
    # The abort is on its way to S1 when the connection breaks, and S1 sees that only.
    sim.world.network.cut('C1', 'S1')
    sim.applications['C1'].process.call(lambda: client.abort(voted.result))
    sim.run_for(.5)
    for end in list(sim.world.network.ends):
        if (end.machine.name, end.peer_machine.name) == ('S1', 'C1'):
            end.flight.clear()
            sim.world.network.reset(end)
    sim.world.network.mend('C1', 'S1')
    after = sim.commit('C2', o0=2)
    sim.wait(after, seconds=10)
    assert after.error is None


def test_a_read_waits_for_a_locked_transaction_and_for_no_other():
    sim = Simulation(storages=2, partitions=2, clients=2).start()
    sim.wait(sim.commit('C1', o0=1, o1=1, o2=1))
    sim.run_for(1)
    locks = sim.world.counts['Lock']
    commit = sim.commit('C1', o0=2, o1=2)
    assert sim.run_for(5, lambda: sim.world.counts['Lock'] > locks)
    sim.freeze('S2')
    sim.run_for(.5)
    client = sim.applications['C2'].client

    def load(oid):
        return (yield client.load_before(oid, MAX_ID))
    locked, other = sim.do('C2', load(0)), sim.do('C2', load(2))
    sim.run_for(1)
    assert other.done and not locked.done and not commit.done
    sim.thaw('S2')
    sim.wait(commit, locked)
    assert locked.result[0] == commit.tid
    assert not sim.judge()


def test_the_outcome_is_learnt_from_the_next_primary():
    sim = Simulation(storages=2, partitions=2, clients=2).start()
    sim.wait(sim.commit('C1', o0=1, o1=1))
    locks = sim.world.counts['Lock.Answer']
    commit = sim.commit('C1', o0=2, o1=2)
    assert sim.run_for(5, lambda: sim.world.counts['Lock.Answer'] > locks)
    sim.kill('M1')
    sim.run_for(3)
    assert not commit.done
    sim.restart()
    sim.wait(commit)
    sim.run_for(2)
    assert sim.past().transactions[commit.tid][1]
    assert not sim.judge()


@pytest.mark.parametrize('sent', range(1, 12))
def test_everything_dies_during_a_finish(sent):
    sim = Simulation(seed=sent, storages=2, partitions=2, clients=2).start()
    sim.wait(sim.commit('C1', o0=1, o1=1))
    count = sum(sim.world.counts.values())
    commit = sim.commit('C1', o0=2, o1=2)
    assert sim.run_for(5, lambda: sum(sim.world.counts.values()) >= count + sent)
    sim.kill()
    sim.run_for(1)
    sim.restart()
    after = sim.commit('C2', o0=3, o1=3)
    sim.wait(after)
    sim.run_for(2)
    assert not commit.done
    assert not sim.judge()


@pytest.mark.parametrize('sent', range(1, 12))
def test_daemons_die_during_a_finish(sent):
    """The client is told what became of it."""
    sim = Simulation(seed=sent, storages=2, partitions=2, clients=2).start()
    sim.wait(sim.commit('C1', o0=1, o1=1))
    count = sum(sim.world.counts.values())
    commit = sim.commit('C1', o0=2, o1=2)
    assert sim.run_for(5, lambda: sum(sim.world.counts.values()) >= count + sent)
    sim.kill('M1', 'S1', 'S2')
    sim.run_for(1)
    sim.restart()
    sim.wait(commit, sim.commit('C2', o2=3, o3=3))
    sim.run_for(2)
    assert commit.error is None or isinstance(commit.error, TransactionFailed)
    assert not isinstance(commit.error, OutcomeUnknown)
    assert not sim.judge()


@pytest.mark.parametrize('sent', ['Finish', 'Lock', 'Lock.Answer', 'Finish.Answer'])
def test_a_client_is_interrupted_during_a_finish(sent):
    sim = Simulation(storages=2, partitions=2, replicas=1, clients=2).start()
    sim.wait(sim.commit('C1', o0=0, o1=0))
    before = sim.world.counts[sent]
    transfer = sim.commit('C1', o0=-1, o1=1)
    assert sim.run_for(10, lambda: sim.world.counts[sent] > before)
    sim.world.machines['C1'].process.on_interrupt()
    sim.wait(transfer)
    after = sim.commit('C1', o0=5)
    sim.wait(after)
    sim.run_for(2)
    assert after.error is None and isinstance(transfer.error, (type(None), TransactionFailed))
    assert not sim.judge()


@pytest.mark.parametrize('sent', range(1, 16))
@pytest.mark.parametrize('died', ['S1', 'S2'])
def test_one_of_two_copies_dies_during_a_commit(died, sent):
    """Nobody sees an error, and it takes no longer than to hear of it."""
    sim = Simulation(seed=sent, storages=2, partitions=2, replicas=1, clients=2).start()
    sim.wait(sim.commit('C1', o0=1, o1=1))
    count = sum(sim.world.counts.values())
    commit = sim.commit('C1', o0=2, o1=2)
    assert sim.run_for(5, lambda: sum(sim.world.counts.values()) >= count + sent)
    sim.kill(died)
    sim.wait(commit, seconds=.5)
    assert commit.error is None
    sim.run_for(.1)
    after = sim.commit('C2', o0=3, o1=3)
    sim.wait(after, seconds=.5)
    assert after.error is None
