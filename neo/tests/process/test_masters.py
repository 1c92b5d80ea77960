"""Several masters, as processes: one is killed, or stands still, and another one serves."""
import signal
import time

import pytest
import transaction
import ZODB

from neo.client.Storage import Storage
from neo.local.cluster import LocalCluster
from neo.local.process import poll


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    with LocalCluster(tmp_path_factory.mktemp('masters'), replicas=1, masters=3) as cluster:
        yield cluster


@pytest.fixture
def root(cluster):
    db = ZODB.DB(Storage(master_nodes=cluster.masters, name=cluster.name))
    yield db.open().root()
    transaction.abort()
    db.close()


def primary(cluster):
    """Its daemon."""
    found = cluster.describe()
    name, = [info.name for info in found.nodes if info.id == found.primary]
    return next(daemon for daemon in cluster.master_daemons if daemon.name == name)


def commit(root):
    """Change something, as often as it takes; the seconds that it took."""
    began = time.monotonic()
    while True:
        try:
            root['n'] = root.get('n', 0) + 1
            transaction.commit()
            return time.monotonic() - began
        except Exception as error:
            transaction.abort()
            if time.monotonic() - began > 60:
                raise error


def complete(cluster):
    cluster.start()
    assert poll(lambda: cluster.why_not_running() is None and len(
        [info for info in cluster.describe().nodes if info.id[0] == 'M' and not info.state]) == 3,
        30, .05)


def test_all_have_a_vote(cluster):
    complete(cluster)
    assert cluster.describe().table.masters == ('M1', 'M2', 'M3')


def test_the_primary_is_killed(cluster, root):
    complete(cluster)
    commit(root)
    former = primary(cluster)
    cluster.kill(former)
    assert commit(root) < 10            # most often 0.3 s; the machine may be busy
    complete(cluster)
    assert primary(cluster) is not former


def test_the_primary_stands_still(cluster, root):
    complete(cluster)
    commit(root)
    former = primary(cluster)
    former.signal(signal.SIGSTOP)
    try:
        assert commit(root) < 20        # most often 6 s
    finally:
        former.signal(signal.SIGCONT)
    commit(root)
    complete(cluster)
    assert primary(cluster) is not former


def test_a_master_and_a_storage_are_killed_and_the_state_of_another_is_lost(cluster, root):
    complete(cluster)
    before = root.get('n', 0)
    spare = next(m for m in cluster.master_daemons if m is not primary(cluster))
    cluster.kill(spare)
    (cluster.directory / (spare.name + '.state')).unlink()
    complete(cluster)
    # It is a newcomer, which gets a vote in the place of the one that it was.
    assert poll(lambda: 'M4' in ' '.join(cluster.describe().table.masters) or any(
        int(id[1:]) > 3 for id in cluster.describe().table.masters), 30, .05)
    assert len(cluster.describe().table.masters) == 3
    cluster.kill(primary(cluster), cluster.storages[0])
    commit(root)
    assert root['n'] > before
    complete(cluster)


def test_a_second_master_with_a_state_that_is_used_is_refused(cluster):
    complete(cluster)
    state = cluster.directory / 'master1.state'
    other = cluster.daemon('neomaster', 'other', '--bind', '127.0.0.1:0', '--masters',
                           '127.0.0.1:0', '--state', state)
    other.start()
    assert other.wait() == 1 and 'is used by another process' in other.log()


def test_masters_that_list_others_are_refused(cluster):
    complete(cluster)
    cluster.kill(cluster.master_daemons[2])
    other = cluster.daemon(
        'neomaster', 'stranger', '--bind', str(cluster.ports[2]), '--masters',
        ' '.join(map(str, (cluster.ports[0], cluster.ports[2]))))
    other.start()
    assert other.wait() == 1
    assert 'refuses this one: its masters are' in other.log()
    complete(cluster)


def test_another_cluster_at_the_address_of_one_that_is_down(cluster, root):
    """It refuses storages, admins and clients for good; they belong to the others."""
    complete(cluster)
    commit(root)
    spare = next(daemon for daemon in cluster.master_daemons if daemon is not primary(cluster))
    cluster.kill(spare)
    address = str(cluster.ports[cluster.master_daemons.index(spare)])
    stranger = cluster.daemon('neomaster', 'another', '--bind', address, '--masters', address,
                              '--cluster', 'other')
    stranger.start()
    try:
        for storage in cluster.storages:
            assert poll(lambda storage=storage: 'master of cluster other' in storage.log(), 30)
        commit(root)
        cluster.kill(primary(cluster))
        assert commit(root) < 20
        for daemon in *cluster.storages, cluster.admin:
            assert daemon.runs
    finally:
        stranger.kill()
    complete(cluster)


def test_everything_is_killed_and_started_again(cluster, root):
    complete(cluster)
    commit(root)
    before = root['n']
    cluster.restart()
    complete(cluster)
    commit(root)
    assert root['n'] == before + 1
    assert set(cluster.stop().values()) == {0}
