"""neoctl truncate, with real processes and ZODB."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transaction
import ZODB
from ZODB.utils import u64

from neo.client.Storage import Storage
from neo.local.cluster import LocalCluster
from neo.local.process import poll

ROOT = Path(__file__).parents[3]


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path / 'cluster', storages=2, replicas=1, partitions=4) as cluster:
        yield cluster


@pytest.fixture
def db(cluster):
    db = ZODB.DB(Storage(master_nodes=cluster.masters, name=cluster.name))
    yield db
    transaction.abort()
    db.close()


def neoctl(cluster, *arguments):
    """`(exit status, what it says)`"""
    done = subprocess.run(
        [sys.executable, '-m', 'neo.scripts.neoctl', '-a', str(cluster.admin_port), *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    return done.returncode, done.stdout + done.stderr


def committed(db, root, **values):
    """The tid."""
    root.update(values)
    transaction.commit()
    return u64(db.storage.lastTransaction())


def reads(db, **expected):
    """Does a new connection see that?"""
    with db.transaction() as connection:
        root = connection.root()
        return {name: root.get(name) for name in expected} == expected


def test_a_cluster_is_brought_back(cluster, db):
    root = db.open().root()
    kept = committed(db, root, a=1)
    last = [committed(db, root, a=number, b=number) for number in range(2, 5)][-1]
    transaction.abort()
    for tid, reason in (last + 1, 'above the last'), (1 << 63, 'not a TID'), (-1, 'not a TID'):
        status, said = neoctl(cluster, 'truncate', 'tid:%d' % tid)
        assert status and reason in said and said.count('\n') == 1
    status, said = neoctl(cluster, 'truncate', 'tid:%#x' % kept)
    assert status == 0 and 'is removed' in said and '%#018x' % kept in said
    assert poll(lambda: reads(db, a=1, b=None), 30, .05)
    assert ' = %#018x' % kept in neoctl(cluster, 'print', 'ids')[1]
    transaction.begin()
    assert committed(db, root, b=5) > last      # tids are not given again
    cluster.restart()
    cluster.wait_running()
    assert poll(lambda: reads(db, a=1, b=5), 30, .05)


def test_a_storage_that_was_away_removes_it_too(cluster, db):
    root = db.open().root()
    kept = committed(db, root, a=1)
    committed(db, root, a=2, b=2)
    first, second = cluster.storages
    cluster.kill(second)
    assert poll(lambda: 'DOWN' in neoctl(cluster, 'print', 'node')[1], 30, .05)
    status, said = neoctl(cluster, 'truncate', 'tid:%d' % kept)
    assert status == 0, said
    cluster.start([second])
    assert poll(lambda: 'O' not in ''.join(
        neoctl(cluster, 'print', 'pt')[1].splitlines()[1:]), 60, .1)
    cluster.kill(first)                         # only who was away can be read
    assert poll(lambda: reads(db, a=1, b=None), 60, .1)


def test_it_is_done_though_all_are_killed_meanwhile(cluster, db):
    root = db.open().root()
    kept = committed(db, root, a=1)
    committed(db, root, a=2, b=2)
    transaction.abort()
    process = subprocess.Popen(
        [sys.executable, '-m', 'neo.scripts.neoctl', '-a', str(cluster.admin_port), 'truncate',
         'tid:%d' % kept], env={**os.environ, 'PYTHONPATH': str(ROOT)}, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True)
    assert poll(lambda: process.poll() is not None or 'RECOVERING' in (
        neoctl(cluster, 'print', 'cluster')[1]), 30, .01)
    cluster.kill()
    process.communicate(timeout=60)
    cluster.start()
    cluster.wait_running()
    assert poll(lambda: reads(db, a=1, b=None), 60, .1)
