"""A disk that is full: what does not fit is refused, and nothing is lost."""
from concurrent.futures import ThreadPoolExecutor

import pytest
from transaction.interfaces import TransientError
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSError
from ZODB.utils import load_current, p64, z64

from ...client.exception import NEOStorageError
from ...protocol.limits import FREE_SPACE_RESERVE, MiB
from ..daemons import Cluster, wait_for
from ..full_disk import SmallDisk

DATA = bytes(range(256)) * (MiB // 256)


def commit(storage, oid, serial, data):
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    try:
        storage.store(oid, serial, data, '', txn)
        storage.tpc_vote(txn)
        return storage.tpc_finish(txn)
    except BaseException:
        storage.tpc_abort(txn)
        raise


@pytest.fixture
def disk(tmp_path):
    disk = SmallDisk(tmp_path / 'disk', FREE_SPACE_RESERVE + 28 * MiB)
    yield disk
    disk.close()


@pytest.fixture
def cluster(disk, tmp_path):
    """The second storage is on the small disk."""
    databases = [str(tmp_path / 'large.sqlite'), disk.folder + '/small.sqlite']
    with Cluster(storages=2, replicas=1, databases=databases) as cluster:
        yield cluster


def fill(client):
    """Commit until something is refused; `([(oid, tid)], the error)`."""
    done = []
    for number in range(30):
        oid = p64(1000 + number)
        try:
            done.append((oid, commit(client, oid, z64, DATA)))
        except (POSError, TransientError) as error:
            return done, error
    return done, None


def check(client, done):
    for oid, tid in done:
        assert load_current(client, oid) == (DATA, tid)


def test_stores_are_refused_above_the_reserve(cluster, disk):
    client = cluster.client()
    last = commit(client, z64, z64, b'0')
    done, error = fill(client)
    assert isinstance(error, NEOStorageError) and 'space' in str(error)
    assert done
    check(client, done)
    # It was refused, and that is all: everybody serves, nothing is locked.
    assert all(daemon.runs for daemon in cluster.daemons)
    with pytest.raises(NEOStorageError):
        commit(client, z64, last, DATA)
    disk.resize(FREE_SPACE_RESERVE + 150 * MiB)
    commit(client, z64, last, DATA)
    check(cluster.client(), done)


def test_somebody_else_fills_the_disk(cluster, disk):
    """What has been stored is committed, what comes later is refused, and no daemon stops."""
    client = cluster.client()
    commit(client, z64, z64, b'0')
    large = [p64(oid) for oid in range(10, 18)]
    txn = TransactionMetaData()
    client.tpc_begin(txn)
    for oid in large:
        client.store(oid, z64, DATA, '', txn)
    client.tpc_vote(txn)
    disk.fill()
    tid = client.tpc_finish(txn)
    done, error = fill(client)
    assert isinstance(error, NEOStorageError) and 'space' in str(error)
    check(client, [(oid, tid) for oid in large] + done)
    assert all(daemon.runs for daemon in cluster.daemons)
    cluster.storages[1].stop()
    cluster.storages[1].start()         # it starts on a full disk
    wait_for(lambda: loads(client, large[0]), 'it serves')
    check(client, [(oid, tid) for oid in large] + done)
    disk.relieve()
    wait_for(lambda: commit_soon(client, p64(99), z64), 'it goes on')


def loads(client, oid):
    try:
        return load_current(client, oid)
    except TransientError:
        pass


def commit_soon(client, oid, serial):
    try:
        return commit(client, oid, serial, b'1')
    except TransientError:
        pass


def small(storage, pages):
    """Start this storage again, on a disk that ends after so many pages."""
    storage.stop()
    usual = storage.module, storage.arguments
    storage.module = 'neo.tests.process.small_disk'
    storage.arguments = [pages, *storage.arguments]
    storage.start()
    storage.module, storage.arguments = usual


def test_a_disk_that_is_full_without_a_warning(cluster, disk):
    """The storage stops with one line; started again with more space, it has all that was
    acknowledged, and says what became of the rest."""
    client = cluster.client()
    first = commit(client, z64, z64, b'0')
    storage = cluster.storages[1]
    disk.resize(FREE_SPACE_RESERVE + 250 * MiB)
    small(storage, 600)
    wait_for(lambda: commit_soon(client, z64, first), 'it goes on')
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill, client)
        assert storage.wait() == 1
        said = storage.log().splitlines()
        storage.start()
        # Either it is refused soon, or it is committed now; the next ones fit.
        done, error = filling.result()
    assert 'disk is full' in said[-1], said
    assert error is None or isinstance(error, TransientError)
    assert done
    last = load_current(client, z64)[1]
    wait_for(lambda: commit_soon(client, z64, last), 'it goes on')
    check(cluster.client(), done)
