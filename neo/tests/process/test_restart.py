"""Stop, kill and start again, with clients that go on meanwhile (docs/architecture.md)."""
import itertools
import os
import random

import pytest
import ZODB

from ..daemons import Cluster, wait_for
from .clients import Bank
from .copies import check_copies, stop, wait_complete

# More of them, for hours: see TESTS.txt.
SEEDS = range(int(os.environ.get('NEO_SEEDS', 3)))


@pytest.fixture
def cluster(request):
    options = dict(storages=2, replicas=1, admin=True)
    options.update(getattr(request, 'param', {}))
    with Cluster(**options) as cluster:
        yield cluster


def check_end(cluster, clients):
    clients.finish()
    wait_complete(cluster)
    stop(cluster)
    check_copies(cluster)


# -- kill -9, under load ------------------------------------------------------------------------
KINDS = pytest.mark.parametrize('cluster', [
    dict(storages=2, replicas=1), dict(storages=3, replicas=0), dict(storages=3, replicas=1),
], ids=['2 equal storages', '3 storages', '3 storages, 1 replica'], indirect=True)


@KINDS
def test_everything_is_killed(cluster):
    rnd = random.Random(cluster.replicas)
    clients = Bank(cluster, 1)
    for _ in range(3):
        clients.wait_transfers(rnd.randrange(40))
        cluster.kill()
        cluster.start(rnd.sample(cluster.daemons, len(cluster.daemons)))
        clients.wait_everybody()
    check_end(cluster, clients)


STAGES = 'RECOVERING', 'VERIFYING', 'RUNNING'


@pytest.mark.parametrize('seed', SEEDS)
def test_some_are_killed(seed):
    """Also clients, and also while the cluster is not back yet from the last time."""
    rnd = random.Random(seed)
    storages = rnd.randrange(1, 4)
    with Cluster(storages, rnd.randrange(storages), admin=True) as cluster:
        clients = Bank(cluster, seed)
        for _ in range(3):
            clients.wait_transfers(rnd.randrange(40))
            for _ in range(rnd.randrange(1, 4)):
                kill_some(cluster, rnd)
            if rnd.random() < .3:
                client = rnd.choice(clients.clients)
                client.kill()
                client.start()
            clients.wait_everybody()
        check_end(cluster, clients)


def kill_some(cluster, rnd):
    """Return when the cluster has got to some stage, if it begins anew."""
    victims = rnd.sample(cluster.daemons, rnd.randrange(1, len(cluster.daemons) + 1))
    for victim in victims:
        victim.kill()
    before = len(cluster.master.log())
    cluster.start(rnd.sample(victims, len(victims)))
    if cluster.master in victims:
        stages = STAGES[rnd.randrange(3):]
        wait_for(lambda: any(stage in cluster.master.log()[before:] for stage in stages),
                 'the cluster is %s' % stages[0])


@pytest.mark.parametrize('victim', ['master', 'storage1', 'admin'])
def test_one_is_killed(cluster, victim):
    clients = Bank(cluster, 5)
    daemon, = [daemon for daemon in cluster.daemons if daemon.name == victim]
    for _ in range(3):
        clients.wait_transfers(20)
        daemon.kill()
        if victim != 'master':
            clients.wait_everybody()
        daemon.start()
        clients.wait_everybody()
    cluster.wait_state('RUNNING')
    check_end(cluster, clients)


def test_clients_are_killed(cluster):
    """What they held is free, and what they were in the middle of is whole or not there."""
    clients = Bank(cluster, 6)
    for _ in range(4):
        for client in clients.clients:
            clients.wait_transfers(10)
            client.kill()
            client.start()
    clients.wait_everybody()
    check_end(cluster, clients)


# -- clean stops ----------------------------------------------------------------------------------
@pytest.mark.parametrize('order', list(itertools.permutations(['master', 'storage', 'admin'])),
                         ids='-'.join)
def test_a_clean_stop_in_any_order(order):
    with Cluster(storages=2, replicas=1, admin=True) as cluster:
        db = ZODB.DB(cluster.client())
        with db.transaction() as connection:
            connection.root()['before'] = 1
        for kind in order:
            for daemon in cluster.daemons:
                if daemon.name.startswith(kind):
                    assert daemon.stop() == 0, daemon.log()
        cluster.start()
        with db.transaction() as connection:
            assert connection.root()['before'] == 1
        db.close()
        wait_complete(cluster)
        stop(cluster)
        check_copies(cluster)


def test_neoctl_stop_under_load(cluster):
    clients = Bank(cluster, 7)
    for _ in range(2):
        clients.wait_transfers(20)
        wait_complete(cluster)
        stop(cluster)
        check_copies(cluster)
        cluster.start()
        clients.wait_everybody()
    check_end(cluster, clients)


def test_a_stop_under_load(cluster):
    clients = Bank(cluster, 8)
    clients.wait_transfers(20)
    assert set(cluster.terminate().values()) == {0}
    cluster.start()
    clients.wait_everybody()
    check_end(cluster, clients)
