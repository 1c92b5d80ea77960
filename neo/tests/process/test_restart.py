"""Stop, kill and start again, with clients that go on meanwhile (docs/architecture.md)."""
import itertools
import os
import random
import signal
import sqlite3
from contextlib import closing

import pytest
import ZODB
from ZODB.utils import p64, u64

from ...storage.engine import open_engine
from ..daemons import Cluster, wait_for
from . import bank

# More of them, for hours: see TESTS.txt.
SEEDS = range(int(os.environ.get('NEO_SEEDS', 3)))


# -- what is looked at ------------------------------------------------------------------------
def rows(database):
    """The history that a storage keeps, and what is locked."""
    with closing(sqlite3.connect('file:%s?mode=ro' % database, uri=True)) as connection:
        found = [sorted(connection.execute('SELECT * FROM ' + table), key=repr)
                 for table in ('trans', 'obj')]
    with closing(open_engine('SQLite', str(database))) as engine:
        return [*found, engine.locked()]


def check_databases(cluster):
    """After `neoctl stop`: replicas are equal, and nothing is left that was locked."""
    found = [rows(database) for database in cluster.databases]
    for _, _, locked in found:
        assert not locked
    if cluster.replicated:
        assert all(each[:2] == found[0][:2] for each in found)


def stop(cluster):
    said, status = cluster.ctl('stop')
    assert status == 0, said
    for daemon in cluster.daemons:
        assert daemon.wait() == 0, daemon.log()


class Bank:
    """A cluster, with clients that move money."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        bank.create(cluster.client())
        self.logs = [cluster.directory / ('transfers%d' % i) for i in range(bank.CLIENTS)]
        for log in self.logs:
            log.touch()
        self.clients = [
            cluster.process('client%d' % i, 'neo.tests.process.bank', cluster.masters, cluster.name,
                            i, seed, log) for i, log in enumerate(self.logs)]

    def counts(self):
        return [log.read_bytes().count(b'\n') for log in self.logs]

    def wait_transfers(self, count):
        """Until so many more have been acknowledged, to whomever."""
        goal = sum(self.counts()) + count
        self._wait(lambda: sum(self.counts()) >= goal, '%d transfers' % goal)

    def wait_everybody(self):
        """Until each client has got on."""
        before = self.counts()
        self._wait(lambda: all(now > then for now, then in zip(self.counts(), before)),
                   'each client goes on')

    def _wait(self, condition, what):
        def check():
            for client in self.clients:
                assert client.runs, client.log()
            return condition()
        try:
            wait_for(check, what)
        except AssertionError as e:
            raise AssertionError('%s\n%s' % (e, '\n'.join(
                '--- %s\n%s' % (process, process.log()[-3000:])
                for process in (*self.cluster.daemons, *self.clients))))

    def finish(self):
        """End the clients, and compare what they were told with what is there."""
        for client in self.clients:
            client.signal(signal.SIGTERM)
        for client in self.clients:
            assert client.wait() == 0, client.log()
        storage = self.cluster.client()
        db = ZODB.DB(storage)
        with db.transaction() as connection:
            root = connection.root()
            assert bank.total(root) == bank.ACCOUNTS * bank.MONEY
            # No lock is left: everything can be written, at once.
            for i in range(bank.ACCOUNTS):
                root['account%d' % i]['end'] = True
        tids = {u64(found.tid) for found in storage.iterator()}
        for i, log in enumerate(self.logs):
            transfers = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
            lost = [transfer for transfer in transfers if transfer[1] not in tids]
            assert not lost, 'of client %d: %s' % (i, lost)
            for number, tid in transfers[-20:]:
                with closing(db.open(at=p64(tid))) as past:
                    assert past.root()['client%d' % i]['transfers'] == number
        db.close()


@pytest.fixture
def cluster(request):
    options = dict(storages=2, replicas=1, admin=True)
    options.update(getattr(request, 'param', {}))
    with Cluster(**options) as cluster:
        yield cluster


def check_end(cluster, clients):
    clients.finish()
    cluster.wait_state('RUNNING')
    stop(cluster)
    check_databases(cluster)


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
    """Return when those that are started again have got to some stage."""
    victims = rnd.sample(cluster.daemons, rnd.randrange(1, len(cluster.daemons) + 1))
    for victim in victims:
        victim.kill()
    before = len(cluster.master.log())
    cluster.start(rnd.sample(victims, len(victims)))
    if victims != [cluster.admin]:
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
        if victim == 'admin':
            clients.wait_everybody()
        elif victim == 'storage1':
            cluster.wait_state('RECOVERING')
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
        cluster.wait_state('RUNNING')
        stop(cluster)
        check_databases(cluster)


def test_neoctl_stop_under_load(cluster):
    clients = Bank(cluster, 7)
    for _ in range(2):
        clients.wait_transfers(20)
        stop(cluster)
        check_databases(cluster)
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
