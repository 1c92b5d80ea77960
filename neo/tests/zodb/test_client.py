"""What applications meet, with real daemons: threads, forks, lost daemons, conflicts."""
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import transaction
import ZODB
from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import (ConflictError, POSError, POSKeyError, ReadConflictError,
                               StorageTransactionError)
from ZODB.utils import load_current, p64, u64, z64

from ...client.exception import NEOStorageError
from ...local.ports import Port
from ..daemons import Cluster, wait_for
from ..forkserver import ROOT

SOON = 5.0              # seconds: what returns at once, on a loaded machine


@pytest.fixture
def cluster(request):
    with Cluster(**getattr(request, 'param', {})) as cluster:
        # Each sync() hears of all that others have committed.
        cluster.options['server_sync'] = True
        yield cluster


TWO_EQUAL = dict(storages=2, replicas=1)
TWO = dict(storages=2)


@contextmanager
def soon(limit=SOON):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < limit


@contextmanager
def switching_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def begin(storage, *stores, tid=None):
    """A transaction with these `(oid, serial, data)`."""
    txn = TransactionMetaData()
    storage.tpc_begin(txn, tid) if tid else storage.tpc_begin(txn)
    for oid, serial, data in stores:
        storage.store(oid, serial, data, '', txn)
    return txn


def commit(storage, *stores, tid=None):
    txn = begin(storage, *stores, tid=tid)
    try:
        storage.tpc_vote(txn)
        return storage.tpc_finish(txn)
    except BaseException:
        storage.tpc_abort(txn)
        raise


def retried(function, *args):
    """Its result once the cluster is back."""
    end = time.monotonic() + 60
    while True:
        try:
            return function(*args)
        except TransientError:
            if time.monotonic() > end:
                raise


# -- threads and processes ----------------------------------------------------------------------
@pytest.mark.parametrize('cluster', [{}, TWO], ids=['1', '2'], indirect=True)
def test_many_threads_count_together(cluster):
    """One object, changed by all at once: conflicts are resolved, and nothing is lost."""
    THREADS, COUNT = 8, 15
    dbs = [ZODB.DB(cluster.client()) for _ in range(2)]
    with dbs[0].transaction() as connection:
        connection.root()['length'] = Length()

    def count(db):
        tm = transaction.TransactionManager(explicit=True)
        connection = db.open(tm)
        for _ in range(COUNT):
            for attempt in tm.attempts(1000):
                with attempt:
                    connection.root()['length'].change(1)
        connection.close()

    with switching_often(), ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(count, dbs * (THREADS // 2)):
            pass
    for db in dbs:
        db.storage.sync()
        with db.transaction() as connection:
            assert connection.root()['length']() == THREADS * COUNT
        db.close()


def test_two_storages_in_one_process(cluster):
    with Cluster(name='other') as other:
        mine, same, different = cluster.client(), cluster.client(), other.client()
        tid = commit(mine, (z64, z64, b'mine'))
        same.sync()
        assert load_current(same, z64) == (b'mine', tid)
        with pytest.raises(POSKeyError):
            load_current(different, z64)
        mine.close()
        commit(same, (z64, tid, b'still'))
        commit(different, (z64, z64, b'different'))
        assert mine.sortKey() == same.sortKey() != different.sortKey()


def test_names_are_the_same_in_each_process(cluster):
    storage = cluster.client()
    script = ('import sys; from neo.client.Storage import Storage;'
              's = Storage(master_nodes=sys.argv[1], name=sys.argv[2]);'
              'print([s.sortKey(), s.getName()]); s.close()')
    said = subprocess.run([sys.executable, '-c', script, cluster.masters, cluster.name],
                          capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert said.stdout.strip() == str([storage.sortKey(), storage.getName()])


def test_fork_after_open(cluster):
    """The child gets one clear error, or opens it anew; the parent notices nothing."""
    storage = cluster.client()
    tid = commit(storage, (z64, z64, b'data'))
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(20)
            try:
                commit(storage, (storage.new_oid(), z64, b'of the child'))
            except NEOStorageError:
                pass
            storage.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert load_current(storage, z64) == (b'data', tid)
    tid = commit(storage, (z64, tid, b'more'))
    assert storage.lastTransaction() == tid


# -- while the cluster is away --------------------------------------------------------------------
@pytest.mark.parametrize('how', ['frozen', 'killed'])
def test_close_while_threads_wait(cluster, how):
    storage = cluster.client()
    commit(storage, (z64, z64, b'data'))
    reader = cluster.client()
    load_current(reader, z64)
    for daemon in cluster.daemons:
        daemon.signal(signal.SIGSTOP if how == 'frozen' else signal.SIGKILL)
    begun = threading.Barrier(5)

    def load(i):
        begun.wait()
        reader.loadBefore(p64(1 + i), p64(1 << 62))

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(load, i) for i in range(4)]
        begun.wait()
        wait_for(lambda: all(future.running() for future in waiting), 'they wait')
        with soon():
            reader.close()
        with soon():
            for future in waiting:
                with pytest.raises((NEOStorageError, TransientError)):
                    future.result(SOON)


def test_calls_without_a_cluster_end(cluster):
    storage = cluster.client(wait_timeout=1)
    tid = commit(storage, (z64, z64, b'data'))
    cluster.kill()
    with soon(15):
        with pytest.raises(TransientError) as caught:
            storage.loadBefore(p64(1), p64(1 << 62))
    assert isinstance(caught.value, NEOStorageError)
    with soon(15):
        with pytest.raises(TransientError):
            commit(storage, (z64, tid, b'more'))
    cluster.start()
    retried(commit, storage, (z64, tid, b'more'))


EVENTS = {
    'nothing happens': lambda cluster: [],
    'storage killed': lambda cluster: cluster.storages[:1],
    'master killed': lambda cluster: [cluster.master],
    'all killed': lambda cluster: cluster.daemons,
}


@pytest.mark.parametrize('event', EVENTS)
@pytest.mark.parametrize('moment', ['begun', 'stored', 'voted'])
@pytest.mark.parametrize('cluster', [TWO_EQUAL], ids=[''], indirect=True)
def test_abort(cluster, moment, event):
    """At any moment, whatever is lost: it returns soon, without an error, and frees all."""
    storage, other = cluster.client(), cluster.client()
    tid = commit(storage, (z64, z64, b'0'))
    txn = begin(storage, *([(z64, tid, b'1')] if moment != 'begun' else ()))
    if moment == 'voted':
        storage.tpc_vote(txn)
    killed = EVENTS[event](cluster)
    for daemon in killed:
        daemon.kill()
    with soon():
        storage.tpc_abort(txn)
    cluster.start()
    retried(other.sync)
    assert retried(load_current, other, z64) == (b'0', tid)
    tid = retried(commit, other, (z64, tid, b'2'))
    retried(commit, storage, (z64, tid, b'3'))


@pytest.mark.parametrize('event', EVENTS)
@pytest.mark.parametrize('cluster', [TWO_EQUAL], ids=[''], indirect=True)
def test_the_outcome_of_finish(cluster, event):
    """One storage has locked, the other one never hears of it: what tpc_finish says is what is
    there."""
    storage, other = cluster.client(), cluster.client()
    tid = commit(storage, (z64, z64, b'0'))
    txn = begin(storage, (z64, tid, b'1'))
    storage.tpc_vote(txn)
    wal = cluster.directory / 'storage1.sqlite-wal'
    frozen = cluster.storages[1]
    frozen.signal(signal.SIGSTOP)
    told = []
    with ThreadPoolExecutor(1) as pool:
        written = wal.stat().st_mtime_ns
        finishing = pool.submit(storage.tpc_finish, txn, told.append)
        wait_for(lambda: wal.stat().st_mtime_ns != written, 'storage1 has locked')
        for daemon in EVENTS[event](cluster):
            daemon.kill()
        frozen.signal(signal.SIGCONT)
        cluster.start()
        try:
            result = finishing.result(60)
        except TransientError:
            result = None
    if event == 'nothing happens':
        assert result is not None
    retried(other.sync)
    found = retried(load_current, other, z64)
    if result is None:
        storage.tpc_abort(txn)
        assert not told
        assert found == (b'0', tid)
    else:
        assert told == [result]
        assert found == (b'1', result)
    retried(commit, other, (z64, result or tid, b'2'))


# -- what ZODB is told ----------------------------------------------------------------------------
def test_a_tid_of_the_past_is_refused(cluster):
    storage = cluster.client()
    last = u64(commit(storage, (z64, z64, b'0')))
    for tid in last - 1, last:
        txn = TransactionMetaData()
        with pytest.raises(POSError):
            storage.tpc_begin(txn, p64(tid))
            storage.store(z64, p64(last), b'1', '', txn)
            storage.tpc_vote(txn)
            storage.tpc_finish(txn)
        storage.tpc_abort(txn)
    assert commit(storage, (z64, p64(last), b'1'), tid=p64(last + 1)) == p64(last + 1)
    assert commit(storage, (z64, p64(last + 1), b'2')) > p64(last + 1)


@pytest.mark.parametrize('cluster', [TWO], indirect=True)
def test_records_are_iterated_in_the_order_of_their_stores(cluster):
    storage = cluster.client()
    oids = [storage.new_oid() for _ in range(20)]
    random.Random(1).shuffle(oids)
    txn = begin(storage, *[(oid, z64, b'data') for oid in oids])
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert [record.oid for record in next(storage.iterator())] == oids
    other = cluster.client()
    # … as those of another storage, with a tid that is imposed.
    batch = [(u64(storage.lastTransaction()) + 1, ' ', b'', b'', b'',
              [(u64(oid), b'more', None) for oid in oids])]
    assert list(other.import_transactions([batch]))
    *_, last = other.iterator()
    assert [record.oid for record in last] == oids


class Listener:
    """In the place of a DB."""

    def __init__(self, storage):
        self.storage = storage
        self.heard = []
        self.early = []
        storage.registerDB(self)

    def invalidate(self, tid, oids, version=''):
        if self.storage.lastTransaction() >= tid:
            self.early.append(tid)
        self.heard.append(tid)

    def invalidateCache(self):
        raise AssertionError('nothing was lost')

    references = transform_record_data = untransform_record_data = None


@pytest.mark.parametrize('cluster', [TWO], ids=[''], indirect=True)
def test_invalidations_come_in_order(cluster):
    """Those of others, in between own ones; lastTransaction moves after ZODB was told."""
    storages = [cluster.client() for _ in range(3)]
    listeners = [Listener(storage) for storage in storages]

    def work(storage):
        tid = z64
        oid = storage.new_oid()
        tids = []
        for _ in range(30):
            tid = commit(storage, (oid, tid, b'x'))
            assert storage.lastTransaction() >= tid
            tids.append(tid)
        return tids

    with switching_often(), ThreadPoolExecutor(6) as pool:
        tids = list(pool.map(work, storages * 2))
    done = sorted(tid for mine in tids for tid in mine)
    for i, (storage, listener) in enumerate(zip(storages, listeners)):
        storage.sync()
        assert storage.lastTransaction() == done[-1]
        others = sorted(tid for j, mine in enumerate(tids) if j % 3 != i for tid in mine)
        assert listener.heard == others
        assert not listener.early


# -- conflicts ------------------------------------------------------------------------------------
def test_what_a_conflict_says(cluster):
    storage, other = cluster.client(), cluster.client()
    first = commit(storage, (z64, z64, b'cpersistent\nPersistent\n.N.'))
    second = commit(other, (z64, first, b'cpersistent\nPersistent\n.N.'))
    with pytest.raises(ConflictError) as caught:
        commit(storage, (z64, first, b'cpersistent\nPersistent\n.N.'))
    assert caught.value.oid == z64
    assert caught.value.serials == (second, first)
    txn = begin(storage, (p64(1), z64, b'x'))
    with pytest.raises(ReadConflictError) as caught:
        storage.checkCurrentSerialInTransaction(z64, first, txn)
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)
    assert caught.value.oid == z64
    assert caught.value.serials == (second, first)


def test_two_serials_of_one_object_are_not_both_current(cluster):
    storage = cluster.client()
    first = commit(storage, (z64, z64, b'cpersistent\nPersistent\n.N.'))
    second = commit(storage, (z64, first, b'cpersistent\nPersistent\n.N.'))
    txn = begin(storage, (p64(1), z64, b'x'))
    storage.checkCurrentSerialInTransaction(z64, first, txn)
    with pytest.raises(ReadConflictError) as caught:
        storage.checkCurrentSerialInTransaction(z64, second, txn)
    storage.tpc_abort(txn)
    assert caught.value.oid == z64 and caught.value.serials == (second, first)


def test_resolved_oids_are_told(cluster):
    """tpc_vote returns what was merged, so that ZODB reads it again."""
    storage, other = cluster.client(), cluster.client()
    db, other_db = ZODB.DB(storage), ZODB.DB(other)
    tm = transaction.TransactionManager()
    with db.transaction() as connection:
        connection.root()['length'] = Length()
    mine = db.open(tm).root()['length']
    mine.change(1)
    other.sync()
    with other_db.transaction() as connection:
        connection.root()['length'].change(10)
    tm.commit()
    assert mine() == 11
    db.close()
    other_db.close()


@pytest.mark.parametrize('cluster', [{}, TWO, TWO_EQUAL], ids=['1', '2', '2 equal'],
                         indirect=True)
def test_a_deadlock_does_not_last(cluster):
    """Two clients that take locks of two storages in opposite order: both end soon."""
    storages = [cluster.client() for _ in range(2)]
    oids = p64(2), p64(3)
    tid = commit(storages[0], *((oid, z64, b'0') for oid in oids))
    rnd = random.Random(1)
    committed = []

    def work(storage, order, begun):
        txn = begin(storage)
        try:
            for oid in order:
                storage.store(oid, tid, b'1', '', txn)
                begun.wait(10)
            storage.tpc_vote(txn)
            committed.append(storage.tpc_finish(txn))
        except ConflictError:
            storage.tpc_abort(txn)

    for _ in range(5):
        del committed[:]
        begun = threading.Barrier(2)
        orders = [oids, oids[::-1]]
        rnd.shuffle(orders)
        with soon(10), ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(work, storage, order, begun)
                           for storage, order in zip(storages, orders)]:
                future.result(20)
        tid, = committed
        for storage in storages:
            storage.sync()


@pytest.mark.parametrize('cluster', [dict(storages=3, replicas=1)], ids=[''], indirect=True)
def test_many_clients_that_lock_at_random(cluster):
    """Everybody changes several counters of few at once, in any order; nobody starves, and all
    that was acknowledged has been counted."""
    CLIENTS, COUNT, COUNTERS = 4, 15, 6
    storages = [cluster.client() for _ in range(CLIENTS)]
    with ZODB.DB(cluster.client()).transaction() as connection:
        for i in range(COUNTERS):
            connection.root()[i] = PersistentMapping(count=0)
            connection.root()['length%d' % i] = Length()

    def work(number):
        rnd = random.Random(number)
        db = ZODB.DB(storages[number])
        tm = transaction.TransactionManager(explicit=True)
        connection = db.open(tm)
        for _ in range(COUNT):
            chosen = rnd.sample(range(COUNTERS), 3)
            for attempt in tm.attempts(1000):
                with attempt:
                    root = connection.root()
                    root[chosen[0]]['count'] += 1
                    for i in chosen[1:]:
                        root['length%d' % i].change(1)
        connection.close()
        return db

    with ThreadPoolExecutor(CLIENTS) as pool:
        dbs = list(pool.map(work, range(CLIENTS)))
    dbs[0].storage.sync()
    with dbs[0].transaction() as connection:
        root = connection.root()
        assert sum(root[i]['count'] for i in range(COUNTERS)) == CLIENTS * COUNT
        assert sum(root['length%d' % i]() for i in range(COUNTERS)) == 2 * CLIENTS * COUNT
    for db in dbs:
        db.close()


# -- the wrong way --------------------------------------------------------------------------------
def test_the_wrong_cluster_name(cluster):
    with soon(20), pytest.raises((NEOStorageError, TransientError)) as caught:
        storage = cluster.client(name='another', wait_timeout=2)
        storage.new_oid()
    assert 'cluster' in str(caught.value)
    commit(cluster.client(), (z64, z64, b'data'))


def test_the_wrong_port(cluster):
    """The one of a storage, and one where nobody is."""
    cluster.client().sync()
    free = Port()
    for address in str(free), cluster.storages[0].address:
        with soon(20), pytest.raises((NEOStorageError, TransientError)) as caught:
            storage = cluster.client(master_nodes=address, wait_timeout=1)
            storage.new_oid()
        assert '\n' not in str(caught.value)
    free.close()
    commit(cluster.client(), (z64, z64, b'data'))


def test_use_after_close(cluster):
    storage = cluster.client()
    storage.close()
    storage.close()
    for call in storage.new_oid, lambda: storage.loadBefore(z64, p64(1)), storage.sync:
        with soon(), pytest.raises(NEOStorageError):
            call()


def test_transactions_of_the_wrong_thread_or_state(cluster):
    storage = cluster.client()
    txn = TransactionMetaData()
    with pytest.raises(StorageTransactionError):
        storage.store(z64, z64, b'', '', txn)
    with pytest.raises(StorageTransactionError):
        storage.tpc_vote(txn)
    with pytest.raises(StorageTransactionError):
        storage.tpc_finish(txn)
    storage.tpc_abort(txn)
    # Two at once, in one thread.
    one, two = begin(storage, (p64(1), z64, b'1')), begin(storage, (p64(2), z64, b'2'))
    for txn in two, one:
        storage.tpc_vote(txn)
        storage.tpc_finish(txn)
    assert load_current(storage, p64(1))[0] == b'1'


# -- all at once ----------------------------------------------------------------------------------
@pytest.mark.parametrize('cluster', [TWO_EQUAL, TWO], ids=['2 equal', '2'], indirect=True)
def test_threads_while_daemons_are_killed(cluster):
    """Several threads on each of two storages of this process; all that was acknowledged counts."""
    THREADS, ROUNDS = 3, 3
    storages = [cluster.client() for _ in range(2)]
    dbs = [ZODB.DB(storage) for storage in storages]
    with dbs[0].transaction() as connection:
        for i in range(THREADS * 2):
            connection.root()[i] = PersistentMapping(count=0)
        connection.root()['all'] = Length()
    done = [0] * THREADS * 2
    stopping = threading.Event()

    def work(number):
        tm = transaction.TransactionManager(explicit=True)
        connection = dbs[number % 2].open(tm)
        while not stopping.is_set():
            try:
                tm.begin()
                root = connection.root()
                root[number]['count'] += 1
                count = root[number]['count']
                root['all'].change(1)
                tm.commit()
                done[number] = count
            except TransientError:
                tm.abort()
        connection.close()

    def wait_all(goal, working):
        wait_for(lambda: all(map(int.__ge__, done, goal)) or any(
            future.done() for future in working), 'all threads get on')

    rnd = random.Random(1)
    with switching_often(), ThreadPoolExecutor(THREADS * 2) as pool:
        working = [pool.submit(work, number) for number in range(THREADS * 2)]
        try:
            for _ in range(ROUNDS):
                wait_all([count + rnd.randrange(1, 5) for count in done], working)
                killed = rnd.sample(cluster.daemons, rnd.randrange(1, 4))
                for daemon in killed:
                    daemon.kill()
                cluster.start(killed)
        finally:
            stopping.set()
        for future in working:
            future.result(60)
    retried(storages[0].sync)
    with dbs[0].transaction() as connection:
        root = connection.root()
        counts = [root[number]['count'] for number in range(THREADS * 2)]
        assert all(map(int.__ge__, counts, done))
        assert root['all']() == sum(counts)
    for db in dbs:
        db.close()
