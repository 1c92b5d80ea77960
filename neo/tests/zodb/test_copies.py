"""ZODB on two copies, while one of them dies or is stopped."""
import signal
import time

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError
from ZODB.utils import maxtid, p64

from ..daemons import Cluster, wait_for


@pytest.fixture
def cluster():
    with Cluster(storages=2, replicas=1) as cluster:
        yield cluster


@pytest.mark.parametrize('died', [0, 1])
def test_commits_go_on_without_an_error_when_a_copy_dies(cluster, died):
    db = ZODB.DB(cluster.client())
    for i in range(50):
        if i == 20:
            cluster.storages[died].signal(signal.SIGKILL)
        with db.transaction() as connection:
            connection.root()['count'] = i
    db.close()
    assert len(list(cluster.client().iterator())) >= 50


@pytest.mark.parametrize('stopped', [0, 1])
def test_what_waits_for_a_storage_that_is_stopped_goes_on_within_seconds(cluster, stopped):
    db = ZODB.DB(cluster.client(cache_size=0))
    storage, process = db.storage, cluster.storages[stopped]
    process.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for _ in range(2):
            assert storage.loadBefore(p64(0), maxtid)
        assert time.monotonic() - began < 10
        commit(db)
        assert time.monotonic() - began < 30
    finally:
        process.signal(signal.SIGCONT)
        db.close()


def commit(db):
    """As long as it may be tried again."""
    while True:
        try:
            with db.transaction() as connection:
                connection.root()['x'] = 1
            return
        except TransientError:
            pass


def test_the_cache_is_read_without_a_primary_and_outlives_it():
    """What another client commits before this one is connected again is seen, and nothing else is
    loaded anew."""
    with Cluster(storages=2, replicas=1) as cluster:
        db = ZODB.DB(cluster.client())
        with db.transaction() as connection:
            for name in 'kept', 'changed':
                connection.root()[name] = PersistentMapping(value=0)
        storage = db.storage
        kept, changed = [storage_oid(db, name) for name in ('kept', 'changed')]
        for oid in kept, changed:
            storage.loadBefore(oid, maxtid)
        cluster.master.kill()
        misses = storage.cache_statistics()['misses']
        with db.transaction() as connection:
            assert connection.get(kept)['value'] == connection.get(changed)['value'] == 0
        assert storage.cache_statistics()['misses'] == misses
        cluster.start([cluster.master])
        with ZODB.DB(cluster.client()).transaction() as connection:
            connection.root()['changed']['value'] = 1
        tid = storage_tid(cluster, changed)
        wait_for(lambda: storage.lastTransaction() >= tid, 'the client hears of it')
        with db.transaction() as connection:
            connection.cacheMinimize()
            assert connection.get(kept)['value'] == 0
            assert storage.cache_statistics()['misses'] == misses
            assert connection.get(changed)['value'] == 1
        db.close()


def storage_oid(db, name):
    with db.transaction() as connection:
        return connection.root()[name]._p_oid


def storage_tid(cluster, oid):
    return cluster.client().load(oid)[1]
