"""ZODB on two copies, while one of them dies or is stopped."""
import signal
import time

import pytest
import ZODB
from transaction.interfaces import TransientError
from ZODB.utils import maxtid, p64

from ..daemons import Cluster


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
